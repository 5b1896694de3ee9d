"""Lines that infer reads: of a file, of a terminal, too long ones; test_train.py has whole runs."""

import os

import numpy as np
import pytest

from hyperdecoders_jax import types
from hyperdecoders_jax.commands import infer
from hyperdecoders_jax.data import tokenizer
from hyperdecoders_jax.decoding.decoded import Decoded
from hyperdecoders_jax.trained import text_model
from tests import tiny
from tests.commands import tiny_runs


def test_a_file_is_read_in_groups_and_blank_lines_are_left_out(tmp_path):
    path = tmp_path / "lines.txt"
    path.write_text('a\n\nb\n{"inputs": "c", "id": 3}\nd')
    groups = list(infer.read_groups(str(path), 3))
    assert [[record["inputs"] for record in group] for group in groups] == [["a", "b", "c"], ["d"]]


def test_a_missing_file_is_told_before_a_line_is_asked_for(tmp_path):
    with pytest.raises(ValueError, match=r"--input must be a file .* No such file.* Correct the p"):
        infer.read_groups(str(tmp_path / "none.txt"), 3)


def test_standard_input_of_several_processes_is_refused():
    with pytest.raises(ValueError, match=r"got --input=- in 2 processes. Name a file"):
        infer.read_groups("-", 3, process_count=2)


def test_lines_are_given_as_soon_as_no_more_come():
    read_end, write_end = os.pipe()
    groups = infer.ready_lines(read_end, 3)
    os.write(write_end, b"a\nb\nunfin")
    assert next(groups) == ["a", "b"]  # And the writer has not closed its end.
    os.write(write_end, b"ished\nc\nd\ne")
    assert next(groups) == ["unfinished", "c", "d"]
    os.close(write_end)
    assert list(groups) == [["e"]]
    os.close(read_end)


def test_a_bad_line_is_told_with_its_number():
    with pytest.raises(ValueError, match=r"line 8 of standard input is '{\"input\""):
        list(infer.map_lines(["fine", '{"input": "text"}'], "standard input", 7))


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
