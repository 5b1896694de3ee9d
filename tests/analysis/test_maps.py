"""Maps, neighbours and groups: what is near stays near, and nothing is lost in silence."""

import dataclasses

import numpy as np
import pytest

from hyperdecoders_jax.analysis import groups, maps
from tests.analysis.constructed import make_examples


def test_examples_of_a_task_lie_together_where_their_vectors_do():
    examples = make_examples(num=15)
    for positions in maps.make(examples).values():
        nearest = maps.neighbours(positions - positions.mean(0), k=1)[:, 0]
        same = np.array(examples.tasks) == np.array(examples.tasks)[nearest]
        assert same.all()


def test_maps_are_the_same_whenever_they_are_made():
    first, second = (maps.make(make_examples(), seed=3) for _ in range(2))
    assert list(first) == [("condition", "PCA"), ("condition", "t-SNE")]
    for key in first:
        assert first[key].shape == (12, 2)
        np.testing.assert_array_equal(first[key], second[key])


def test_tsne_shows_as_many_examples_as_it_can_and_leaves_the_others_out():
    made = maps.make(make_examples(), max_tsne_examples=5)
    assert np.isfinite(made["condition", "PCA"]).all()
    assert np.isfinite(made["condition", "t-SNE"]).all(axis=1).sum() == 5


@pytest.mark.parametrize("dim", [1, 7])
def test_vectors_that_are_all_the_same_lie_on_a_map(dim):
    examples = make_examples(num=4)
    same = dataclasses.replace(examples, features={"condition": np.ones((4, dim), np.float32)})
    for positions in maps.make(same).values():
        assert np.isfinite(positions).all()


def test_neighbours_are_the_nearest_by_cosine_and_never_oneself():
    vectors = np.random.default_rng(1).normal(size=(11, 5)).astype(np.float32)
    vectors[3] = vectors[8]
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    cosines = unit @ unit.T
    np.fill_diagonal(cosines, -np.inf)
    found = maps.neighbours(vectors, k=4)
    np.testing.assert_array_equal(found, np.argsort(-cosines, axis=1)[:, :4])
    assert found[3, 0] == 8
    assert found[8, 0] == 3


def test_few_examples_have_all_others_for_neighbours():
    assert maps.neighbours(np.eye(3), k=10).shape == (3, 2)
    assert maps.neighbours(np.eye(1), k=10).shape == (1, 0)


def test_a_map_needs_three_examples():
    with pytest.raises(ValueError, match="at least 3 examples; got 2"):
        maps.make(make_examples(num=2))


def test_a_map_needs_finite_vectors():
    examples = make_examples()
    examples.features["condition"][5, 2] = np.nan
    with pytest.raises(ValueError, match="1 of 'condition' are not, first that of example 5"):
        maps.make(examples)


def test_labels_are_targets_of_classes_and_types_of_the_rest():
    found = groups.of(make_examples(num=3))
    assert found["label"] == ["no", "yes", "(span)"]
    assert found["correctness"] == ["correct", "wrong", "correct"]


def test_rare_groups_share_a_look():
    names = [f"label {i}" for i in range(groups.MAX_GROUPS + 2)]
    shown = groups.frequent([*names, "label 36"])
    assert len(shown) == groups.MAX_GROUPS + 1
    assert "label 36" in shown
    assert shown[-1] == "other"
