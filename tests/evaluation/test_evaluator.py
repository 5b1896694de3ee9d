import dataclasses
import json

import jax.numpy as jnp
import numpy as np
import pytest
import seqio

from hyperdecoders_jax.data import eval_batches
from hyperdecoders_jax.data.pipeline import PipelineConfig
from hyperdecoders_jax.evaluation import evaluator, predictions
from hyperdecoders_jax.evaluation.config import EvaluationConfig
from tests.data.conftest import _make_task

LENGTHS = {"inputs": 8, "targets": 4}
VOCABULARY = seqio.ByteVocabulary()


@dataclasses.dataclass
class Predicted:
    tokens: object
    log_likelihoods: object


def accuracy(targets, predictions):
    hits = [target == prediction for target, prediction in zip(targets, predictions, strict=True)]
    return {"accuracy": 100 * np.mean(hits)}


def answer_yes(batch, task_name):
    """Two results per example, the better first: yes, then no."""
    size = len(batch.task_ids)
    rows = [[*VOCABULARY.encode(text), 1, 0, 0][:4] for text in ("yes", "no")]
    log_likelihoods = -np.arange(1, size + 1)[:, None] - np.array([[0.0, 9.0]])
    return Predicted(jnp.asarray([rows] * size), jnp.asarray(log_likelihoods))


def task_of(name, targets, metric_fns=(accuracy,), **kwargs):
    return _make_task(
        name, targets=targets, splits=("validation",), metric_fns=list(metric_fns), **kwargs
    )


def evaluator_of(provider, task_names=None, output_dir=None, batch_size=4, **config):
    data = PipelineConfig(provider, LENGTHS, batch_size=batch_size)
    return evaluator.Evaluator(data, EvaluationConfig(**config), task_names, output_dir=output_dir)


def rows_of(evaluator, predict_fn):
    return {task: list(rows) for task, rows in evaluator.predict(predict_fn)}


def test_metrics_are_those_computed_by_hand():
    tasks = [task_of("b", ["yes", "no", "yes", "yes", "no"]), task_of("a", ["no", "no", "yes"])]
    mixture = seqio.Mixture("m", tasks, default_rate=1)
    metrics = evaluator_of(mixture)(answer_yes, 1)
    assert metrics == {"a": {"accuracy": pytest.approx(100 / 3)}, "b": {"accuracy": 60.0}}


def test_metrics_may_know_how_many_tokens_were_generated():
    lengths = iter([3, 1, 2, 2, 1])

    def predict(batch, task_name):
        tokens = np.zeros((2, 1, 3), int)
        for row in tokens[:, 0]:
            row[: next(lengths, 3)] = 5  # rows that fill a batch up have the most, and do not count
        return Predicted(tokens, np.zeros((2, 1)))

    seen = {}

    def note(targets, predictions, aux_values):
        seen.update(aux_values)
        return {"seen": 1.0}

    task = task_of("a", ["yes"] * 5, metric_fns=[note])
    evaluator_of(task, batch_size=2).evaluate(predict, 0)
    assert list(seen["num_tokens"]) == [3, 1, 2, 2, 1]
    assert list(seen["batch_num_tokens"]) == [3, 3, 2, 2, 1]


def test_a_rehearsal_computes_the_metrics_of_targets_without_a_model():
    reads = []

    def count(ds):
        reads.append(1)
        return ds

    task = task_of("a", ["yes", "no", "yes"], preprocessors=[count])
    one = evaluator_of(task, batch_size=2)
    assert one.rehearse() == {"a": {"accuracy": 100.0}}
    one.evaluate(answer_yes, 0)
    assert len(reads) == 1


def test_a_rehearsal_asks_the_whole_split_of_a_metric_that_needs_it(monkeypatch):
    def both_classes(targets, predictions):
        if len(set(targets)) < 2:
            raise ValueError("only one class")
        return {"auc": 50.0}

    monkeypatch.setattr(evaluator, "_NUM_REHEARSED", 2)
    enough = task_of("a", ["yes", "yes", "no"], metric_fns=[both_classes])
    assert evaluator_of(enough).rehearse() == {"a": {"auc": 50.0}}
    too_few = task_of("b", ["yes", "yes", "yes"], metric_fns=[both_classes])
    with pytest.raises(ValueError, match="only one class"):
        evaluator_of(too_few).rehearse()


def test_a_predict_function_is_told_the_task():
    seen = set()

    def predict(batch, task_name):
        seen.add((task_name, VOCABULARY.decode(batch.encoder_input_tokens[0].tolist())))
        return answer_yes(batch, task_name)

    tasks = [task_of("a", ["yes"]), task_of("b", ["no"])]
    rows_of(evaluator_of(seqio.Mixture("m", tasks, default_rate=1)), predict)
    assert seen == {("a", "a 0"), ("b", "b 0")}


def test_every_example_is_predicted_once_in_batches_of_one_size():
    seen = []

    def predict(batch, task_name):
        assert batch.encoder_input_tokens.shape == (4, 8)
        seen.extend(batch.encoder_input_tokens[batch.decoder_loss_weights.any(axis=1)].tolist())
        return answer_yes(batch, task_name)

    evaluator_of(task_of("a", ["yes"] * 10)).evaluate(predict, 0)
    assert [VOCABULARY.decode(ids) for ids in seen] == [f"a {i}" for i in range(10)]


def test_task_ids_follow_the_given_list():
    tasks = [task_of("a", ["yes"]), task_of("b", ["no"])]
    seen = {}

    def predict(batch, task_name):
        seen[VOCABULARY.decode(batch.encoder_input_tokens[0].tolist())] = set(batch.task_ids)
        return answer_yes(batch, task_name)

    mixture = seqio.Mixture("m", tasks, default_rate=1)
    evaluator_of(mixture, ["b", "x", "a"], batch_size=3).evaluate(predict, 0)
    assert seen == {"a 0": {2}, "b 0": {0}}


def test_predictions_are_written_with_their_texts(tmp_path):
    task = task_of("a", ["yes", "a long answer"], inputs=["first", "a question longer than that"])
    evaluator_of(task, output_dir=tmp_path / "eval").evaluate(answer_yes, 70)
    assert predictions.read(tmp_path / "eval" / "a" / "70.jsonl") == [
        predictions.Prediction("first", "yes", "yes", -1.0, "a"),
        predictions.Prediction("a question longer than that", "a long answer", "yes", -2.0, "a"),
    ]


def test_predictions_outlive_a_metric_that_fails(tmp_path):
    def fail(targets, predictions):
        raise ValueError("No score for these.")

    with pytest.raises(ValueError, match="No score for these"):
        evaluator_of(task_of("a", ["no"], metric_fns=[fail]), output_dir=tmp_path)(answer_yes, 3)
    (row,) = predictions.read(tmp_path / "a" / "3.jsonl")
    assert (row.target, row.prediction) == ("no", "yes")


def test_windows_of_questions_leave_their_answers(tmp_path):
    def name_question(ds):
        return ds.map(lambda example: {**example, "qid": "one"})

    task = task_of("a", ["yes", "no"])
    task = task.replace(preprocessors=[*task.preprocessors, name_question])
    evaluator_of(task, output_dir=tmp_path).evaluate(answer_yes, 7)
    assert json.loads((tmp_path / "a" / "7-answers.json").read_text()) == {"one": "yes"}
    scored = json.loads((tmp_path / "a" / "7-predicted_answers.json").read_text())
    assert scored == {"one": [["yes", 0.25], ["yes", 0.5]]}


def test_texts_are_decoded_where_tasks_keep_none():
    def drop_texts(ds):
        return ds.map(lambda ex: {name: ex[name] for name in ("inputs", "targets")})

    task = task_of("a", ["no"])
    task = task.replace(preprocessors=[*task.preprocessors, drop_texts])
    (row,) = rows_of(evaluator_of(task), answer_yes)["a"]
    assert (row.input, row.target) == ("a 0", "no")


def test_postprocessors_see_the_whole_example_and_targets_are_processed_once():
    calls = []

    def number(text, example, is_target):
        calls.append((text, int(example["number"]), is_target))
        return text if is_target else "yes" * int(example["number"] == 1)

    task = task_of("a", ["yes", "yes"], postprocess_fn=number)
    evaluate = evaluator_of(task).evaluate
    assert evaluate(answer_yes, 1) == evaluate(answer_yes, 2) == {"a": {"accuracy": 50.0}}
    assert [call for call in calls if call[2]] == [("yes", 0, True), ("yes", 1, True)]
    assert len(calls) == 6


def test_examples_are_read_once():
    reads = []

    def count(ds):
        reads.append(1)
        return ds

    one = evaluator_of(task_of("a", ["yes"], preprocessors=[count]))
    assert not reads
    one.evaluate(answer_yes, 1)
    one.evaluate(answer_yes, 2)
    assert len(reads) == 1


def test_only_the_first_examples_are_evaluated_when_asked():
    task = task_of("a", ["yes", "yes", "no", "no"])
    assert evaluator_of(task, num_examples=3)(answer_yes, 0) == {
        "a": {"accuracy": pytest.approx(200 / 3)}
    }


def mean_score(targets, scores):
    assert len(targets) == len(scores)
    return {"mean_score": seqio.metrics.Scalar(np.mean(scores))}


def no_predictions(batch, task_name):
    raise AssertionError("A task with score metrics only needs no predictions.")


def test_score_metrics_get_the_sum_over_a_target():
    def score(batch):
        return -2.0 * batch.decoder_loss_weights

    task = task_of("a", ["1", "22", "333"], metric_fns=[mean_score])
    metrics = evaluator_of(task, batch_size=2).evaluate(no_predictions, 0, score)
    assert metrics == {"a": {"mean_score": -6.0}}


def test_score_metrics_without_a_score_function_are_an_error():
    task = task_of("guess", ["1"], metric_fns=[mean_score])
    with pytest.raises(ValueError, match=r"needs a score function; task 'guess'.*Pass score_fn"):
        evaluator_of(task).evaluate(no_predictions, 0)


def test_metrics_may_take_log_likelihoods_and_give_what_is_no_number():
    def best(targets, predictions, aux_values):
        return {"best": max(aux_values["scores"]), "shown": seqio.metrics.Text("x")}

    metrics = evaluator_of(task_of("a", ["yes"] * 3, metric_fns=[best]))(answer_yes, 0)
    assert metrics == {"a": {"best": -1.0}}


def test_metrics_of_one_name_are_an_error():
    task = task_of("a", ["yes"], metric_fns=[accuracy, accuracy])
    with pytest.raises(ValueError, match=r"different names; 'a' has two called 'accuracy'. Rename"):
        evaluator_of(task)(answer_yes, 0)


def test_a_task_without_metrics_is_predicted_but_not_evaluated():
    one = evaluator_of(task_of("a", ["yes", "no"], metric_fns=()))
    assert one(answer_yes, 0) == {}
    assert [row.prediction for row in rows_of(one, answer_yes)["a"]] == ["yes", "yes"]


def test_predictions_are_made_as_they_are_taken():
    calls = []

    def predict(batch, task_name):
        calls.append(task_name)
        return answer_yes(batch, task_name)

    tasks = [task_of("a", ["yes", "no", "no"]), task_of("b", ["no"])]
    found = evaluator_of(seqio.Mixture("m", tasks, default_rate=1), batch_size=2).predict(predict)
    task, rows = next(found)
    assert (task, next(rows).input, calls) == ("a", "a 0", ["a"])
    assert [row.input for row in rows] == ["a 1", "a 2"]
    assert [row.log_likelihood for row in rows_of(evaluator_of(tasks[0]), answer_yes)["a"]] == [
        -1.0, -2.0, -3.0
    ]  # fmt: skip
    assert calls == ["a", "a"]


def test_a_task_without_examples_is_an_error():
    task = task_of("hollow", ["yes"], preprocessors=[lambda ds: ds.take(0)])
    with pytest.raises(ValueError, match=r"'hollow' has none in its split 'validation'. Check"):
        evaluator_of(task)(answer_yes, 0)


def test_an_evaluation_without_a_split_is_refused():
    with pytest.raises(ValueError, match=r"needs a split; got EvaluationConfig.split = None. Name"):
        evaluator_of(task_of("a", ["yes"]), split=None)


def test_batches_are_those_of_training_unless_a_size_is_given():
    sizes = []

    def predict(batch, task_name):
        sizes.append(len(batch.task_ids))
        return answer_yes(batch, task_name)

    data = PipelineConfig(task_of("a", ["yes"] * 3), LENGTHS, batch_size=2)
    for config in (EvaluationConfig(), EvaluationConfig(batch_size=3)):
        rows_of(evaluator.Evaluator(data, config, None), predict)
    assert sizes == [2, 2, 3]


def test_a_missing_split_is_an_error_when_the_evaluator_is_made():
    with pytest.raises(ValueError, match=r"got 'test', and they have \['validation'\]"):
        evaluator_of(task_of("a", ["yes"]), split="test")


@pytest.mark.parametrize("size", [1, 6, 7])
def test_shares_of_processes_come_back_in_order(size):
    examples = eval_batches.read_examples(_make_task("a", size), 0, LENGTHS, "train")
    shares = [
        np.concatenate([item.batch.encoder_input_tokens for item in examples.batches(6, index, 3)])
        for index in range(3)
    ]
    rows = evaluator.interleave(np.stack(shares), np.arange(3))[:size]
    assert [VOCABULARY.decode(row.tolist()) for row in rows] == [f"a {i}" for i in range(size)]


def test_results_are_what_an_evaluation_is_made_of():
    def upper(text, example, is_target):
        return text.upper()

    metric_fns = [accuracy, mean_score]
    task = task_of("a", ["yes", "no", "yes"], metric_fns, postprocess_fn=upper)
    (result,) = evaluator_of(task).results(answer_yes)
    assert result.metrics == {"accuracy": pytest.approx(200 / 3)}
    assert [p.prediction for p in result.predictions] == ["yes"] * 3
    assert result.postprocessed == (["YES", "NO", "YES"], ["YES"] * 3)
    assert accuracy(*result.postprocessed) == result.metrics
    (scored,) = evaluator_of(task).results(answer_yes, lambda batch: -batch.decoder_loss_weights)
    assert scored.metrics == {**result.metrics, "mean_score": pytest.approx(-11 / 3)}
