import functools

import jax
import numpy as np
import pytest
import seqio

from hyperdecoders_jax import model as model_lib
from hyperdecoders_jax.analysis import ablations, results, study, table
from hyperdecoders_jax.analysis.predictor import Predictor
from hyperdecoders_jax.data.pipeline import PipelineConfig
from hyperdecoders_jax.evaluation import evaluator
from hyperdecoders_jax.evaluation.config import EvaluationConfig
from hyperdecoders_jax.trained.placed import Placed, Verbs
from hyperdecoders_jax.training import partitioning
from tests import tiny
from tests.data.conftest import _make_task

NUM_IDS = seqio.ByteVocabulary().vocab_size
LETTERS = "abcdefghijkl"
NUM_LAYERS = {"num_encoder_layers": 1, "num_decoder_layers": 2}


def letters(targets, predictions):
    """How many letters of a target its prediction has."""
    pairs = zip(targets, predictions, strict=True)
    return {"letters": 100 * np.mean([len(set(a) & set(b)) for a, b in pairs])}


def length(targets, predictions, aux_values):
    return {"length": float(aux_values["num_tokens"].mean())}


def make_tasks():
    tasks = [
        _make_task(name, targets=targets, splits=("validation",), metric_fns=[letters, length])
        for name, targets in (("first", list(LETTERS)), ("second", ["yes", "no", "yes"]))
    ]
    mixture = seqio.Mixture("both", tasks, default_rate=1)
    lengths = {"inputs": 8, "targets": 4}
    data = PipelineConfig(mixture, lengths, batch_size=4)
    return evaluator.Evaluator(data, EvaluationConfig(), ["first", "second"])


def texts_of(tasks, predict_fn):
    found = tasks.predict(predict_fn)
    return {name: [row.prediction for row in rows] for name, rows in found}


def place(model, params):
    return Placed(Verbs(model, partitioning.make_partitioner(), max_len=4), params, step=7)


@functools.cache
def run(source, tmp_path):
    config = tiny.make_config("none", source, vocab_size=NUM_IDS, **NUM_LAYERS)
    model = model_lib.Model(config)
    params = tiny.make_params(model, scale=1.0)
    placed = place(model, params)
    return placed, study.run(placed, make_tasks(), tmp_path / source, batch_size=4)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("studies")


def test_own_conditions_are_a_plain_evaluation(folder):
    placed, found = run("generated", folder)
    predict = jax.jit(functools.partial(placed.model.predict, max_len=4))
    plain = make_tasks().evaluate(lambda batch, task: predict(placed.params, batch), 7)
    own = {(row.task, row.metric): row.value for row in found.ablations if row.condition == "own"}
    assert own == {
        (task, metric): value
        for task, of_task in plain.items()
        for metric, value in of_task.items()
    }
    assert all(row.difference == 0 for row in found.ablations if row.condition == "own")


def test_what_examples_are_given_counts(folder):
    placed, _ = run("generated", folder)
    predictor, tasks = Predictor(placed, 4), make_tasks()
    names = ["first"] * 12 + ["second"] * 3
    rng = np.random.default_rng(0)
    values = {"decoder_adapters": rng.normal(scale=9, size=(15, 8)).astype(np.float32)}
    given = ablations.Given(values, np.arange(15))
    found = texts_of(tasks, predictor.bind(given, names))
    # Batches of other sizes hold other examples beside each; what fills them up does not matter.
    tasks = make_tasks()
    tasks._batch_size = 5
    assert texts_of(tasks, Predictor(placed, 5).bind(given, names)) == found
    assert texts_of(make_tasks(), predictor.bind())["first"] != found["first"]


def test_every_metric_has_an_interval_where_examples_are_not_too_few(folder):
    _, found = run("generated", folder)
    assert {(row.task, row.metric) for row in found.ablations} == {
        (task, metric) for task in ("first", "second") for metric in ("letters", "length")
    }
    for row in found.ablations:
        assert row.num_examples == {"first": 12, "second": 3}[row.task]
        if row.task == "first" or row.num_changed == 0:
            assert row.low <= row.difference <= row.high
        else:
            assert np.isnan([row.low, row.high]).all()
    assert any(row.num_changed for row in found.ablations if row.task == "second")
    assert found.tasks[1] == results.Task("second", 3, "free text", 0, found.tasks[1].correct)


def test_probes_and_pictures_are_of_some_and_all_else_of_all_examples(folder, monkeypatch):
    placed, whole = run("generated", folder)
    monkeypatch.setattr(study, "MAX_EXAMPLES", 5)
    found = study.run(placed, make_tasks(), folder / "some", batch_size=4)
    assert (found.num_examples, len(found.examples)) == (15, 4)
    assert sorted(found.examples.tasks) == ["first"] * 2 + ["second"] * 2
    rows = table.read(folder / "some" / study.TABLE_FILE)
    assert len(rows["id"]) == 15
    places = [list(rows["id"]).index(name) for name in found.examples.ids]
    np.testing.assert_array_equal(rows["pooled"][places], found.examples.features["pooled"])
    assert list(rows["input"][places]) == found.examples.inputs
    # As text: bounds may be NaN, which from Python 3.13 on makes a dataclass differ from itself.
    assert repr(found.ablations) == repr(whole.ablations)
    assert repr(found.variances) == repr(whole.variances)


def test_a_model_that_adapts_all_alike_loses_nothing(folder):
    _, found = run("manual", folder)
    assert not found.readers
    assert not found.variances
    kinds = {row.condition for row in found.ablations}
    assert len(kinds) == 6
    assert all(row.difference == row.low == row.high == 0 for row in found.ablations)
    assert set(found.examples.features) == {"pooled", "backbone"}


def test_the_table_has_a_row_for_each_example(folder):
    _, found = run("generated", folder)
    rows = table.read(folder / "generated" / study.TABLE_FILE)
    assert list(rows["id"]) == list(found.examples.ids)
    assert rows["id"][-1] == "second-2"
    assert list(rows["target"]) == [*LETTERS, "yes", "no", "yes"]
    assert set(rows["label"]) == {""}  # There are too few targets to call them labels.
    assert rows["pooled"].shape == (15, 8)
    assert rows["hidden/decoder_adapters"].shape == (15, 2, 11)
    assert rows["delta_norm/decoder"].shape == (15, 2)
    np.testing.assert_array_equal(rows["condition/decoder_adapters"], rows["pooled"])
    np.testing.assert_array_equal(rows["pooled"], found.examples.features["pooled"])


def test_too_few_examples_are_refused_before_they_are_studied(folder):
    task = _make_task("few", targets=["a", "b"], splits=("validation",))
    data = PipelineConfig(task, {"inputs": 8, "targets": 4}, batch_size=4)
    tasks = evaluator.Evaluator(data, EvaluationConfig(), ["few"])
    with pytest.raises(ValueError, match=r"at least 3 examples, .*; got 2. Raise --num_examples"):
        study.run(run("manual", folder)[0], tasks, folder / "few", batch_size=4)
    assert not (folder / "few").exists()


def test_numbers_that_are_not_finite_are_told_before_ablations(folder):
    scored = []

    def count(targets, predictions):
        scored.append(len(targets))
        return {"count": len(targets)}

    task = _make_task("nan", targets=list(LETTERS), splits=("validation",), metric_fns=[count])
    data = PipelineConfig(task, {"inputs": 8, "targets": 4}, batch_size=4)
    tasks = evaluator.Evaluator(data, EvaluationConfig(), ["nan"])
    model = run("manual", folder)[0].model
    params = tiny.make_params(model)
    params["encoder"] = jax.tree.map(lambda x: x * np.nan, params["encoder"])
    placed = place(model, params)
    with pytest.raises(ValueError, match=r"must be finite; 12 of 12 vectors"):
        study.run(placed, tasks, folder / "nan", batch_size=4)
    assert scored == [12]
    # Nor is the table of an earlier analysis replaced.
    assert not list((folder / "nan").iterdir())
