"""Lines that infer reads: of a file, of a terminal, too long ones; test_train.py has whole runs."""

import os

import numpy as np
import pytest

from hyperdecoders_jax import types
from hyperdecoders_jax.commands import infer
from hyperdecoders_jax.data import tokenizer
from hyperdecoders_jax.decoding.decoded import Decoded
from hyperdecoders_jax.model import Model
from hyperdecoders_jax.trained import preparation, text_model
from tests import tiny


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
    batches = []

    def predict(batch):
        batches.append(batch)
        return Decoded(np.zeros((4, 1, 2), int), np.zeros((4, 1)), np.zeros((4, 1)))

    model = preparation.Trained(0, ("a", "b"), tiny.make_config(), predict, None)
    reader = text_model.TextReader(model.config, tokenizer.ByteTokenizer(), model.task_names, 6)
    texts = [("1234", None), ("12345", "b"), ("123456", None)]
    predicted = infer.predict_group(texts, model, reader, batch_size=4)
    assert [scored.is_cut for scored in predicted] == [False, False, True]
    inputs = batches[0].encoder_input_tokens
    assert inputs.shape == (4, 6)
    assert list(inputs[:, -1]) == [0, 1, 1, 0]
    assert list(batches[0].task_ids) == [types.UNSEEN_TASK_ID, 1, types.UNSEEN_TASK_ID, 0]


def test_predictions_of_a_split_need_a_place():
    config = preparation.TrainedConfig(
        Model(tiny.make_config()), None, None, "bytes", None, None, "float32", None, 0
    )
    lengths = {"inputs": 5, "targets": 3}
    with pytest.raises(ValueError, match=r"must be written somewhere; .* --model_dir=…, or lines"):
        infer.infer(
            trained=config, mixture_or_task_name="demo", task_feature_lengths=lengths,
            split="test", batch_size=4, eval_batch_size=None, num_examples=None, generation=None,
            output_dir=None,
        )  # fmt: skip
