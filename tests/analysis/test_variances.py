import pickle

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from hyperdecoders_jax.analysis import variances


def construct(scales, num_tasks=30, labels=5, size=8, dim=101, seed=0):
    """Two layers whose tasks, labels and examples have deviations of `scales` each."""
    rng = np.random.default_rng(seed)
    shape = (2, num_tasks, labels, size, dim)
    x = np.zeros(shape)
    for axis, scale in enumerate(scales, start=2):
        x += scale * rng.normal(size=shape[:axis] + (1,) * (4 - axis) + (dim,))
    groups = [(f"task {t}", f"{n}") for t in range(num_tasks) for n in range(labels)]
    names = [group for group in groups for _ in range(size)]
    return x.reshape(2, -1, dim), [task for task, _ in names], [label for _, label in names]


def shares_of(parameters, tasks, labels):
    found = variances.Variances()
    found.update("decoder", parameters, tasks, labels)
    rows = found.shares()
    assert [(row.side, row.layer) for row in rows] == [
        ("decoder", layer) for layer in range(len(parameters))
    ]
    return np.array([[row.between_tasks, row.between_labels, row.within_labels] for row in rows])


@pytest.mark.parametrize(
    "scales", [(2.0, 1.0, 0.5), (0.0, 1.0, 1.0), (1.0, 0.0, 0.0), (0.0, 0.0, 1.0), (0.1, 0.2, 2.0)]
)
def test_shares_are_those_that_were_constructed(scales):
    expected = np.square(scales) / np.sum(np.square(scales))
    shares = shares_of(*construct(scales))
    # The means of 30 tasks and of 5 labels have somewhat less variance than what they were drawn
    # from: a fifth of the labels' is between tasks.
    of_means = expected @ [[29 / 30, 0, 0], [1 / 5, 4 / 5, 0], [0, 0, 1]]
    np.testing.assert_allclose(shares, [of_means / of_means.sum()] * 2, atol=0.02)
    np.testing.assert_allclose(shares.sum(axis=1), 1)


def test_few_examples_of_each_label_are_no_difference_of_labels():
    shares = shares_of(*construct((0.0, 0.0, 1.0), num_tasks=9, labels=40, size=2))
    # Without the correction half of the variance would be that of the labels' means.
    np.testing.assert_allclose(shares, [[0, 0, 1]] * 2, atol=0.02)


def test_shares_are_omega_squared():
    parameters, tasks, labels = construct((2.0, 0.0, 1.0), num_tasks=4, labels=1, size=7, dim=1)
    for layer, shares in zip(parameters, shares_of(parameters, tasks, labels), strict=True):
        f = scipy.stats.f_oneway(*layer.reshape(4, 7)).statistic
        omega_squared = 3 * (f - 1) / (3 * (f - 1) + 28)
        np.testing.assert_allclose(shares, [omega_squared, 0, 1 - omega_squared])


def test_a_task_that_varies_much_hides_no_labels_of_another():
    parameters, tasks, labels = construct((0.0, 1.0, 0.1), num_tasks=1, labels=20, size=3)
    wild = 5 * np.random.default_rng(0).normal(size=(2, 300, 101))
    alone = shares_of(parameters, tasks, labels)[:, 1]
    both = shares_of(
        np.concatenate([parameters, wild], axis=1), tasks + ["wild"] * 300, labels + ["x"] * 300
    )
    of_labels = 60 * 1.0 / (60 * 1.01 + 300 * 25)
    np.testing.assert_allclose(alone, 0.99, atol=0.01)
    np.testing.assert_allclose(both[:, 1], of_labels, rtol=0.1)


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 99), st.lists(st.integers(1, 59), max_size=4))
def test_batches_and_their_order_do_not_matter(seed, ends):
    parameters, tasks, labels = construct((1.0, 1.0, 1.0), 3, 4, 5, dim=6, seed=seed)
    expected = shares_of(parameters, tasks, labels)
    found = variances.Variances()
    for rows in np.split(np.random.default_rng(seed).permutation(60), sorted(ends)):
        found.update(
            "decoder", parameters[:, rows], [tasks[i] for i in rows], [labels[i] for i in rows]
        )
    shares = [(row.between_tasks, row.between_labels, row.within_labels) for row in found.shares()]
    np.testing.assert_allclose(shares, expected, atol=1e-9)


def test_what_all_examples_share_changes_nothing():
    parameters, tasks, labels = construct((1.0, 1.0, 1.0), 3, 4, 5, dim=6)
    np.testing.assert_allclose(
        shares_of(parameters + 1e4, tasks, labels), shares_of(parameters, tasks, labels), atol=1e-6
    )


@pytest.mark.parametrize("value", [0.0, 0.3])
def test_where_all_get_the_same_there_are_no_shares(value):
    parameters, tasks, labels = construct((0.0, 0.0, 0.0), 3, 2, 5, dim=6)
    same = (parameters + value).astype(np.float32)
    np.testing.assert_array_equal(shares_of(same, tasks, labels), 0)
    same[:, ::2] *= 1 + 1e-7
    np.testing.assert_array_equal(shares_of(same, tasks, labels), 0)


def test_memory_does_not_grow_with_the_examples():
    parameters, tasks, labels = construct((1.0, 1.0, 1.0), 2, 3, 4, dim=9)
    found, sizes = variances.Variances(), []
    for _ in range(20):
        found.update("decoder", parameters, tasks, labels)
        sizes.append(len(pickle.dumps(found)))
    assert sizes[-1] - sizes[0] < 100


def test_sides_are_apart():
    found = variances.Variances()
    found.update("encoder", *construct((1.0, 0.0, 0.0), 2, 1, 3, dim=4))
    found.update("decoder", *construct((0.0, 0.0, 1.0), 2, 1, 3, dim=5))
    encoder, _, decoder, _ = found.shares()
    assert (encoder.side, decoder.side) == ("encoder", "decoder")
    assert encoder.between_tasks > 0.9 > 0.7 > decoder.between_tasks


def test_single_examples_tell_nothing():
    assert variances.Variances().shares() == []
    found = variances.Variances()
    found.update("decoder", *construct((1.0, 1.0, 1.0), 3, 2, 1, dim=4))
    assert found.shares() == []


def test_a_label_with_one_example_takes_the_common_noise():
    parameters, tasks, labels = construct((0.0, 0.0, 1.0), 20, 10, 3)
    keep = [i for i in range(600) if i % 30 not in (0, 1)]
    shares = shares_of(parameters[:, keep], [tasks[i] for i in keep], [labels[i] for i in keep])
    np.testing.assert_allclose(shares, [[0, 0, 1]] * 2, atol=0.02)


@pytest.mark.parametrize(
    ("shape", "num_tasks", "num_labels"), [((2, 3), 3, 3), ((2, 3, 4), 2, 3), ((2, 3, 4), 3, 4)]
)
def test_every_example_has_a_task_and_a_label(shape, num_tasks, num_labels):
    with pytest.raises(ValueError, match=rf"\[layers, batch, dim\].*{num_tasks} tasks and"):
        variances.Variances().update(
            "decoder", np.zeros(shape), ["a"] * num_tasks, ["x"] * num_labels
        )


def test_a_side_keeps_its_shape():
    found = variances.Variances()
    found.update("decoder", np.zeros((2, 1, 4)), ["a"], ["x"])
    with pytest.raises(ValueError, match=r"'decoder' began with \(2, 4\) and got \(2, 5\)"):
        found.update("decoder", np.zeros((2, 1, 5)), ["a"], ["x"])


def test_nan_is_refused():
    with pytest.raises(ValueError, match=r"finite; a batch of 'decoder' with tasks \['a'\]"):
        variances.Variances().update("decoder", np.full((1, 1, 1), np.nan), ["a"], ["x"])


def test_labels_without_end_are_refused(monkeypatch):
    monkeypatch.setattr(variances, "MAX_BYTES", 2 * 3 * 8 * 50)
    found = variances.Variances()
    found.update("decoder", np.zeros((2, 50, 3)), ["a"] * 50, [str(i) for i in range(50)])
    with pytest.raises(ValueError, match=r"'decoder' take 2,448: 51 labels with.*\(2, 3\)"):
        found.update("decoder", np.zeros((2, 1, 3)), ["a"], ["one more"])
