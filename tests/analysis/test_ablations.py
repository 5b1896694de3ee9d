import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hyperdecoders_jax.analysis import ablations

TASKS = np.array(["a", "b", "a", "b", "b", "a", "c"])
CONDITIONS = {
    "decoder_adapters": np.random.default_rng(0).normal(size=(7, 3)),
    "encoder_hypergrid": np.random.default_rng(1).normal(size=(7, 2, 4)),
}


def replace(kind, seed=0):
    return ablations.replace(kind, CONDITIONS, TASKS, seed).take(np.arange(7))


def rows_of(conditions):
    """Whose condition each example has."""
    found = []
    for key, own in CONDITIONS.items():
        places = [np.flatnonzero((own == x).reshape(7, -1).all(axis=1)) for x in conditions[key]]
        found.append([int(place[0]) for place in places])
    assert found[0] == found[1]
    return found[0]


def test_own_conditions_are_left_alone():
    assert rows_of(replace("own")) == list(range(7))


@settings(deadline=None, max_examples=20)
@given(seed=st.integers(0, 999))
def test_a_task_is_shuffled_so_that_none_keeps_its_own(seed):
    rows = rows_of(replace("shuffled within the task", seed))
    assert sorted(rows) == list(range(7))
    assert list(TASKS[rows]) == list(TASKS)
    # The only example of its task cannot have another's.
    assert [row for i, row in enumerate(rows) if row == i] == [6]


@settings(deadline=None, max_examples=20)
@given(seed=st.integers(0, 999))
def test_across_tasks_conditions_come_from_other_tasks(seed):
    rows = rows_of(replace("shuffled across tasks", seed))
    assert not np.any(TASKS[rows] == TASKS)


def test_means_are_of_the_task_or_of_all():
    own = CONDITIONS["decoder_adapters"]
    of_task = replace("mean of the task")["decoder_adapters"]
    np.testing.assert_allclose(of_task[0], own[TASKS == "a"].mean(axis=0), rtol=1e-6)
    np.testing.assert_allclose(of_task[6], own[6], rtol=1e-6)
    of_all = replace("mean of all")["decoder_adapters"]
    np.testing.assert_allclose(of_all, np.tile(own.mean(axis=0), (7, 1)), rtol=1e-6)


def test_zero_is_zero():
    assert not replace("zero")["encoder_hypergrid"].any()


def test_an_unknown_ablation_is_refused():
    with pytest.raises(ValueError, match=r"must be one of .*'mean of all'.*; got 'none'"):
        ablations.replace("none", CONDITIONS, TASKS)
