"""Lines that infer reads: of a file, of a terminal, too long ones; test_train.py has whole runs."""

import contextlib
import gzip
import json
import os
import sys

import numpy as np
import pytest

from hyperdecoders_jax import types
from hyperdecoders_jax.commands import infer, input_lines
from hyperdecoders_jax.data import text_files, tokenizer
from hyperdecoders_jax.decoding.decoded import Decoded
from hyperdecoders_jax.modeling.config import AdapterConfig
from hyperdecoders_jax.trained import text_model
from tests import tiny
from tests.commands import tiny_runs


def groups_of(path, size=3, **options):
    return [*input_lines.open_input(str(path), **options).groups(size)]


def write(path, content):
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_a_file_is_read_in_groups_and_blank_lines_are_left_out(tmp_path, packed, mark, end):
    content = (mark + 'a\n\nb\n{"inputs": "c", "id": 3}\nd').replace("\n", end).encode()
    path = write(tmp_path / "lines.txt", gzip.compress(content) if packed else content)
    groups = groups_of(path)
    assert [[record["inputs"] for record in group] for group in groups] == [["a", "b", "c"], ["d"]]
    assert groups[0][2] == {"inputs": "c", "id": "3"}
    # JSON stays JSON behind a mark.
    path = write(tmp_path / "x.jsonl", mark + '{"inputs": "a"}' + end)
    assert groups_of(path) == [[{"inputs": "a"}]]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (
            'id\tinputs\n1\t"a" b\n2\tc',
            [{"id": "1", "inputs": '"a" b'}, {"id": "2", "inputs": "c"}],
        ),
        ('inputs\n"a ""b"""\n', [{"inputs": '"a ""b"""'}]),
    ],
)
def test_a_table_is_read_by_its_column_of_inputs(tmp_path, content, expected):
    path = write(tmp_path / "x.tsv", content)
    assert groups_of(path, quoting="none") == [expected]


def bad_files(folder):
    """Files that cannot be predicted for, and what is said."""
    good = '{"inputs": "a"}\n'
    return {
        write(folder / name, content): message
        for name, content, message in (
            ("a.txt", b"a\nna\xefve\n", "must be UTF-8; line 2 of"),
            ("b.txt", "a\n".encode("utf-16"), "looks like UTF-16"),
            ("c.txt.gz", gzip.compress(b"a\nb\n")[:-9], "must be gzip, and complete"),
            ("d.jsonl", good + '{"inputs": "a\\ud800"}', "line 2 of .* is half a character"),
            ("e.jsonl", good + '{"inputs": "a", "x": NaN}', "line 2 of .*NaN is no JSON"),
            ("f.jsonl", good + '{"inputs": "a", "inputs": "b"}', "names 'inputs' twice"),
            ("g.jsonl", good + '{"text": "a"}', r"line 2 of .*\. Write .* by --test_file=FILE"),
            ("h.jsonl", good + '{"inputs": null}', r'must have "inputs", a text; line 2 of'),
            ("i.json", '[{"inputs": "a"}]', r"line 1 of .* \(a JSON list\)"),
            ("j.csv", "text,label\na,1\n", r'"inputs", a text; line 2 of .* by --test_file=FILE'),
            ("k.txt", "\n \n", r"must hold a line; .* holds none\. Write"),
            ("l.txt", good + "{a}", "line 2 of .* must|must be one JSON object; line 2 of"),
        )
    }


def test_every_line_of_a_file_is_checked_before_a_model_is_loaded(tmp_path):
    for path, message in bad_files(tmp_path).items():
        with pytest.raises(ValueError, match=message):
            input_lines.open_input(str(path))
    with pytest.raises(ValueError, match=r"there is no file .*none\.txt\. Correct the path"):
        input_lines.open_input(str(tmp_path / "none.txt"))


def test_columns_to_keep_are_in_every_line(tmp_path):
    path = write(tmp_path / "x.jsonl", '{"inputs": "a", "day": 1}\n{"inputs": "b", "dya": 1}\n')
    with pytest.raises(
        ValueError, match=r"line 2 of .* has no 'day', .* Did you mean 'dya'\? Corr"
    ):
        input_lines.open_input(str(path), keep=["day"])
    assert input_lines.open_input(str(path), keep=["inputs"])


def test_a_record_that_the_model_refuses_is_told_before_others_are_predicted(tmp_path):
    reader = text_model.TextReader(
        tiny.make_config(decoder_adapter=AdapterConfig("task", bottleneck_dim=4), num_tasks=2),
        None,
        ("walk", "topic"),
        6,
    )
    check = infer._task_check(reader)
    path = write(tmp_path / "x.jsonl", '{"inputs": "a", "task": "walk"}\n{"inputs": "b"}\n')
    with pytest.raises(
        ValueError, match=r"line 2 of .* has None\. Add \"task\", one of \('walk', "
    ):
        next(input_lines.open_input(str(path)).groups(1, check))


def test_a_carriage_return_is_a_part_of_a_line_and_told(tmp_path, capsys, standard_input):
    assert groups_of(write(tmp_path / "x.txt", "a\rb\nc")) == [
        [{"inputs": "a\rb"}, {"inputs": "c"}]
    ]
    of_file = capsys.readouterr().err
    standard_input(b"a\rb\nc")
    assert groups_of("-") == [[{"inputs": "a\rb"}, {"inputs": "c"}]]
    of_standard_input = capsys.readouterr().err
    assert of_file.replace(f"{tmp_path}/x.txt", "standard input") == of_standard_input
    assert "has carriage returns inside its lines" in of_file


@pytest.fixture
def standard_input(monkeypatch, tmp_path):
    """A function that sets what standard input holds."""
    with contextlib.ExitStack() as stack:

        def hold(content):
            path = write(tmp_path / "standard_input", content)
            monkeypatch.setattr(sys, "stdin", stack.enter_context(path.open()))

        yield hold


def test_standard_input_is_read_as_a_file_is(standard_input, tmp_path):
    content = '\ufeff{"inputs": "a", "id": 1e400}\r\n\nb\n'.encode()
    standard_input(content)
    assert groups_of("-") == groups_of(write(tmp_path / "x", content))
    for path, message in bad_files(tmp_path).items():
        if path.suffix in (".txt", ".jsonl") and path.name[0] not in "bk":
            standard_input(path.read_bytes())
            given = []
            with pytest.raises(ValueError, match=message + ".* All lines before it are predicted"):
                given += input_lines.open_input("-").groups(3)
    standard_input(b"a\n\xef\n")
    groups = input_lines.open_input("-").groups(3)
    assert next(groups) == [{"inputs": "a"}]
    with pytest.raises(
        ValueError, match=r"line 2 of standard input holds the byte 0xef .*before it"
    ):
        next(groups)


def test_what_is_no_text_on_standard_input_is_told(standard_input, monkeypatch):
    standard_input(gzip.compress(b"a\n"))
    with pytest.raises(ValueError, match=r"line 1 of standard input .* like gzip: unpack it with"):
        groups_of("-")
    monkeypatch.setattr(text_files, "MAX_LINE_BYTES", 9)
    standard_input(b"a" * 30)
    with pytest.raises(ValueError, match=r"at most 9 bytes; line 1 of standard input has more"):
        groups_of("-")
    monkeypatch.setattr(sys, "stdin", None)
    with pytest.raises(ValueError, match=r"must have a standard input; it is closed\. Name a file"):
        groups_of("-")


def test_standard_input_of_several_processes_is_refused():
    with pytest.raises(ValueError, match=r"got --input=- in 2 processes. Name a file"):
        input_lines.open_input("-", process_count=2)


def test_lines_are_given_as_soon_as_no_more_come():
    read_end, write_end = os.pipe()
    groups = input_lines.ready_lines(read_end, 3)
    os.write(write_end, b"a\nb\nunfin")
    assert next(groups) == [b"a", b"b"]  # And the writer has not closed its end.
    os.write(write_end, b"ished\nc\nd\ne")
    assert next(groups) == [b"unfinished", b"c", b"d"]
    os.close(write_end)
    assert list(groups) == [[b"e"]]
    os.close(read_end)


def test_inputs_that_are_cut_are_counted_and_keep_their_eos():
    reader = text_model.TextReader(
        tiny.make_config(), tokenizer.ByteTokenizer(), ("a", "b"), max_len=6
    )
    texts = [("1234", None), ("12345", "b"), ("123456", None)]
    rows = [reader.row(text, task) for text, task in texts]
    batch = reader.batch(rows, 4, reader.max_len)
    nothing = Decoded(np.zeros((4, 1, 2), int), np.zeros((4, 1)), np.zeros((4, 1)))
    assert [scored.is_cut for scored in reader.texts(rows, nothing)] == [False, False, True]
    assert batch.encoder_input_tokens.shape == (4, 6)
    assert list(batch.encoder_input_tokens[:, -1]) == [0, 1, 1, 0]
    assert list(batch.task_ids) == [types.UNSEEN_TASK_ID, 1, types.UNSEEN_TASK_ID, 0]


def test_predictions_of_a_split_need_a_place():
    with pytest.raises(ValueError, match=r"must be written somewhere; .* --model_dir=…, or lines"):
        infer.infer(tiny_runs.make_config(), None, None)


def test_records_come_back_as_they_were_with_predictions_that_are_json(capsys):
    reader = text_model.TextReader(tiny.make_config(), None, (), max_len=6)
    line = '{"inputs": "a", "id": 1e400, "n": 3.80}'
    group = [input_lines.parse(line, ""), input_lines.parse("b", "")]

    def predict(texts):
        assert texts == [("a", None), ("b", None)]
        return [
            text_model.ScoredText("x", float("nan"), True),
            text_model.ScoredText("y", -1.5, False),
        ]

    infer._print_predictions(iter([group]), predict, reader)
    printed = capsys.readouterr()
    first, second = printed.out.splitlines()
    assert first == (
        '{"inputs": "a", "id": 1e400, "n": 3.80, "prediction": "x", "log_likelihood": null}'
    )
    assert json.loads(second) == {"inputs": "b", "prediction": "y", "log_likelihood": -1.5}
    assert "1 of 2 log-likelihoods are no numbers and printed as null" in printed.err


@pytest.mark.parametrize("name", ["prediction", "log_likelihood"])
def test_what_a_prediction_would_replace_is_refused(name):
    with pytest.raises(ValueError, match=f"line 3 of x has '{name}'. Rename that in the file"):
        input_lines.parse(f'{{"inputs": "a", "{name}": "old"}}', "line 3 of x")
