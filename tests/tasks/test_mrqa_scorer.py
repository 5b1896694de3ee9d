import gzip
import json
import math
import re

import pytest

from hyperdecoders_jax.tasks import mrqa_scorer

# What a line of the shared task holds, less what the scorer does not read.
LINES = [
    {"header": {"dataset": "Hand", "split": "dev"}},
    {"context": "…", "qas": [{"qid": "q1", "answers": ["Rome", "the old Rome"]}]},
    {
        "context": "…",
        "qas": [
            {"qid": "q2", "answers": ["Bonn"]},
            {"qid": "qä", "answers": ["Köln\u2028am Rhein"]},
        ],
    },
    {"context": "…", "qas": [{"qid": "q4", "answers": ["nobody asks"]}]},
]
WINDOWS = {
    "q1": [["", 0.01], ["Paris", 0.5], ["old Rome!", 0.25], ["Rome", 0.25]],
    "q2": [["", 0.3]],
    "qä": [["köln", 0.7]],
    "other": [["x", 0.1]],
}
TEXTS = {"q1": "old Rome!", "q2": "", "qä": "köln", "other": "x"}
# q1: the articles do not count; q2: empty; qä: one word of three.
EXACT_MATCH, F1 = 100 / 3, (100 + 0 + 50) / 3


def write(folder, lines=LINES, predictions=WINDOWS, name="Hand.jsonl.gz"):
    content = "\n".join(json.dumps(line, ensure_ascii=False) for line in lines).encode()
    dataset = folder / name
    dataset.write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    (folder / "answers.json").write_text(json.dumps(predictions))
    return [str(dataset), str(folder / "answers.json")]


@pytest.mark.parametrize("name", ["Hand.jsonl.gz", "Hand.jsonl"])
@pytest.mark.parametrize("predictions", [WINDOWS, TEXTS], ids=["windows", "texts"])
def test_the_questions_that_have_an_answer_are_scored(tmp_path, capsys, name, predictions):
    assert mrqa_scorer.main(write(tmp_path, predictions=predictions, name=name)) == 0
    printed = capsys.readouterr()
    in_words, in_json = printed.out.splitlines()
    assert in_words == "33.33 / 50.00"
    assert json.loads(in_json) == pytest.approx({"exact_match": EXACT_MATCH, "f1": F1})
    assert printed.err == "1 of 4 questions have no prediction and do not count.\n"


def refused(capsys, arguments):
    assert mrqa_scorer.main(arguments) == 2
    return capsys.readouterr().err


def test_answers_to_another_data_set_are_refused(tmp_path, capsys):
    message = refused(capsys, write(tmp_path, predictions={"other": "x"}))
    assert re.search(r"error: .*must have a prediction.*4 questions and 1 .*Score the", message)


@pytest.mark.parametrize(
    "line",
    [
        {"qas": [{"qid": "q9"}]}, {"context": "…"}, {"qas": "q9"}, {"qas": [["q9"]]},
        {"qas": [{"qid": "q9", "answers": "Rome"}]}, {"qas": [{"qid": "q9", "answers": []}]},
        {"qas": [{"qid": "q9", "answers": [1, None]}]}, {"qas": [{"qid": [1], "answers": ["a"]}]},
    ],
)  # fmt: skip
def test_a_line_that_is_no_context_is_named(tmp_path, capsys, line):
    message = refused(capsys, write(tmp_path, lines=[*LINES[:2], line]))
    assert re.search(r"with 'qas'.*line 3 of .*Hand.*Take the file", message)


def test_lines_of_no_json_and_ids_that_come_twice_are_named(tmp_path, capsys):
    assert "line 3 of" in refused(capsys, write(tmp_path, lines=[*LINES[:2], [1]]))
    again = {"qas": [{"qid": "q1", "answers": ["Paris"]}]}
    assert mrqa_scorer.main(write(tmp_path, lines=[*LINES, LINES[1], again])) == 0
    assert re.search(r"1 questions of .* have an id of before", capsys.readouterr().err)


def test_a_file_that_cannot_be_read_is_named(tmp_path, capsys):
    dataset, answers = write(tmp_path)
    assert "there is no file /nowhere" in refused(capsys, ["/nowhere", answers])
    assert "there is no file /nowhere" in refused(capsys, [dataset, "/nowhere"])
    (tmp_path / "broken.gz").write_bytes((tmp_path / "Hand.jsonl.gz").read_bytes()[:-9])
    assert "must be gzip, and complete" in refused(capsys, [f"{tmp_path}/broken.gz", answers])
    (tmp_path / "latin.jsonl").write_bytes(b'{"qas": []}\n\xe9')
    assert "line 2 of" in refused(capsys, [f"{tmp_path}/latin.jsonl", answers])


@pytest.mark.parametrize(
    "predictions",
    [
        ["q1"], {"q1": 3}, {"q1": ["Rome"]}, {"q1": [["Rome"]]}, {"q1": [[1, 0.5]]}, {"q1": None},
        {"q1": [["Rome", "0.5"]]}, {"q1": [["Rome", math.nan], ["x", 0.1]]},
    ],
)  # fmt: skip
def test_a_file_that_holds_no_answers_is_named(tmp_path, capsys, predictions):
    message = refused(capsys, write(tmp_path, predictions=predictions))
    assert re.search(r"\{qid: text\} or .*answers.json does not.*Take what", message)


def test_answers_cut_short_are_named(tmp_path, capsys):
    dataset, answers = write(tmp_path)
    (tmp_path / "answers.json").write_text('{"q1": [["Ro')
    assert "answers.json does not (JSONDecodeError(" in refused(capsys, [dataset, answers])
    (tmp_path / "answers.json").write_text('{"q1": "Rome", "q1": "Bonn"}')
    assert "it names 'q1' twice" in refused(capsys, [dataset, answers])
