import numpy as np
import pytest
import seqio
import tensorflow as tf

from hyperdecoders_jax.tasks import squad


def test_a_question_with_its_context_gives_the_first_answer():
    record = {
        "id": ["5a"],
        "title": ["Dogs"],
        "question": ["Who  ran?"],
        "context": ["Ann ran.\nBob sat."],
        "answers": {"text": [["Ann", "Ann ran"]], "answer_start": [[0, 0]]},
    }
    [example] = squad.render_squad(tf.data.Dataset.from_tensor_slices(record)).as_numpy_iterator()
    assert example["inputs"].decode() == "squad question: Who  ran? context: Ann ran.\nBob sat."
    assert example["targets"] == b"Ann"
    assert example["qid"] == b"5a"
    assert example["answers"].tolist() == [b"Ann", b"Ann ran"]


@pytest.mark.parametrize(("prediction", "em"), [("Ann ran.", 100.0), ("the ann", 100.0), ("", 0.0)])
def test_all_gold_answers_count(prediction, em):
    task = seqio.TaskRegistry.get("squad_v300")
    example = {"answers": np.array([b"Ann", b"Ann ran"], object)}
    target = task.postprocess_fn("Ann", example=example, is_target=True)
    text = task.postprocess_fn(prediction, example=example, is_target=False)
    [metric] = task.metric_fns
    assert metric([target], [text])["em"] == em


def test_the_data_are_version_1_1():
    task = seqio.TaskRegistry.get("squad_v300")
    assert task.source.tfds_dataset.name == "squad/v1.1:3.0.0"
    assert set(task.splits) == {"train", "validation", "test"}
