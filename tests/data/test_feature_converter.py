import numpy as np
import pytest
import seqio

from hyperdecoders_jax.data import eval_batches, feature_converter

LENGTHS = {"inputs": 9, "targets": 4}


def test_task_ids_follow_the_list_whatever_the_order_of_registration(make_task, register):
    for name in ("second", "first"):
        register(make_task(name, 5))
    register(seqio.Mixture("both", ["second", "first"], default_rate=1))
    names = ["second", "unused", "first"]
    numbered = feature_converter.with_task_ids("both", names)
    for task in numbered.tasks:
        ds = task.get_dataset(split="train", shuffle=False)
        assert {int(ex["task_ids"][0]) for ex in ds.as_numpy_iterator()} == {names.index(task.name)}
    assert "task_ids" not in seqio.TaskRegistry.get("first").output_features


def test_a_numbered_mixture_keeps_the_rates_of_its_leaves(make_task):
    a, b, c = make_task("a", 2), make_task("b", 6), make_task("c")
    inner = seqio.Mixture("inner", [a, b], default_rate=seqio.mixing_rate_num_examples)
    outer = seqio.Mixture("outer", [(inner, 1), (c, 3)])
    numbered = feature_converter.with_task_ids(outer, ["a", "b", "c"])
    rates = {task.name: numbered.get_rate(task) for task in numbered.tasks}
    assert rates == {"a": 0.25, "b": 0.75, "c": 3.0}


def test_a_task_outside_the_list_is_an_error(make_task):
    with pytest.raises(ValueError, match=r"'colour'.*Did you mean 'colours'"):
        feature_converter.with_task_ids(make_task("colour"), ["colours"])


def test_seqio_converts_a_numbered_mixture_into_batches(make_task):
    tasks = [make_task("a", 6), make_task("b", 6)]
    mixture = seqio.Mixture("m", tasks, default_rate=1)
    ds = seqio.get_dataset(
        feature_converter.with_task_ids(mixture, ["b", "a"]),
        LENGTHS,
        feature_converter.TaskIdFeatureConverter(pack=False),
        seed=0,
    )
    rows = next(ds.batch(5).as_numpy_iterator())
    assert rows["task_ids"].shape == (5,)
    letter = seqio.ByteVocabulary().encode("a")[0]
    np.testing.assert_array_equal(rows["encoder_input_tokens"][:, 0] == letter, rows["task_ids"])
    assert rows["encoder_input_tokens"].shape == (5, 9)


def test_the_two_converters_agree(make_task):
    task = make_task("a", 7, targets=["x", "yy", "zzz", "", "u", "vv", "w"])
    ds = seqio.get_dataset(
        feature_converter.with_task_ids(task, ["b", "a"]),
        {**LENGTHS, "task_ids": 1},
        feature_converter.TaskIdFeatureConverter(),
    )
    converted = next(ds.batch(7).as_numpy_iterator())
    examples = eval_batches.read_examples(task, 1, LENGTHS, "train")
    (batch,) = [item.batch for item in examples.batches(7)]
    for name, expected in converted.items():
        np.testing.assert_array_equal(getattr(batch, name), expected, err_msg=name)
        assert getattr(batch, name).dtype == expected.dtype


def test_seqio_evaluator_reads_a_numbered_task(make_task, register):
    def count(targets, predictions):
        return {"count": len(predictions)}

    task = make_task("evaluated", 5, metric_fns=[count])
    numbered = feature_converter.with_task_ids(task, ["x", "evaluated"])
    register(numbered)
    evaluator = seqio.Evaluator(
        "evaluated",
        feature_converter.TaskIdFeatureConverter(pack=False),
        eval_split="train",
        sequence_length=None,
        async_compute_metrics=False,
    )
    seen = []

    def predict(ds):
        for index, features in ds.as_numpy_iterator():
            seen.append(int(features["task_ids"]))
            yield index, [3, 1]

    metrics, _ = evaluator.evaluate(compute_metrics=True, predict_fn=lambda ds: list(predict(ds)))
    assert metrics.result() == {"evaluated": {"count": 5}}
    assert seen == [1] * 5


def test_examples_without_a_number_are_refused(make_task):
    with pytest.raises(ValueError, match=r"carry 'task_ids'.*with_task_ids"):
        seqio.get_dataset(
            make_task("a"), LENGTHS, feature_converter.TaskIdFeatureConverter(pack=False)
        )


@pytest.mark.parametrize("pack", [False, True])
def test_models_that_ignore_tasks_read_examples_without_a_number(make_task, pack):
    ds = seqio.get_dataset(
        make_task("a"), LENGTHS, feature_converter.AnyTaskFeatureConverter(pack=pack)
    )
    features = next(ds.as_numpy_iterator())
    np.testing.assert_array_equal(features["task_ids"], np.zeros(8 if pack else (), np.int32))
