"""The rules that divide data: the original's permutation and its sizes."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hyperdecoders_jax.tasks import splits

# Official sizes: train, validation, and for MNLI the matched validation split, which is its test.
GLUE = {
    "glue_cola_v200": (8551, 1043, 1043),
    "glue_sst2_v200": (67349, 872, 872),
    "glue_mrpc_v200": (3668, 408, 408),
    "glue_stsb_v200": (5749, 1500, 1500),
    "glue_qqp_v200": (363846, 40430, 40430),
    "glue_mnli_v200": (392702, 9832, 9815),
    "glue_qnli_v200": (104743, 5463, 5463),
    "glue_rte_v200": (2490, 277, 277),
}
DIVIDED = {
    "glue_cola_v200": (8551, 521, 522),
    "glue_sst2_v200": (66349, 1000, 872),
    "glue_mrpc_v200": (3668, 204, 204),
    "glue_stsb_v200": (5749, 750, 750),
    "glue_qqp_v200": (362846, 1000, 40430),
    "glue_mnli_v200": (392702, 9832, 9815),
    "glue_qnli_v200": (103743, 1000, 5463),
    "glue_rte_v200": (2490, 138, 139),
}
# What the original trained and evaluated on: it loses one example of each split.
ORIGINAL = {
    "glue_cola_v200": (8550, 520, 521),
    "glue_sst2_v200": (66348, 999, 871),
    "glue_mrpc_v200": (3667, 203, 203),
    "glue_stsb_v200": (5748, 749, 749),
    "glue_qqp_v200": (362845, 999, 40429),
    "glue_mnli_v200": (392701, 9831, 9814),
    "glue_qnli_v200": (103742, 999, 5462),
    "glue_rte_v200": (2489, 137, 138),
}
SPLITS = ("train", "validation", "test")


def sizes(task_name, official, config):
    official = dict(zip(SPLITS, official, strict=True))
    return tuple(
        len(config.indices(task_name, split, official[config.origin(task_name, split)]))
        for split in SPLITS
    )


@pytest.mark.parametrize(
    ("num_examples", "first"),
    [
        (277, [207, 84, 253, 243, 190]),
        (408, [30, 63, 342, 322, 6]),
        (1043, [911, 408, 813, 657, 710]),
        (1500, [42, 340, 1028, 766, 1150]),
        (67349, [6677, 49712, 38268, 32909, 23395]),
    ],
)
def test_the_permutation_begins_as_the_original_s(num_examples, first):
    order = splits.permutation(num_examples)
    assert order[:5].tolist() == first
    np.testing.assert_array_equal(np.sort(order), np.arange(num_examples))


@pytest.mark.torch
def test_the_permutation_is_that_of_torch():
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    for num_examples, seed in ((0, 42), (1, 42), (2, 42), (7, 42), (392_702, 42), (1000, 7)):
        generator = torch.Generator()
        generator.manual_seed(seed)
        expected = torch.randperm(num_examples, generator=generator).numpy()
        np.testing.assert_array_equal(splits.permutation(num_examples, seed), expected)


@pytest.mark.parametrize("name", GLUE)
def test_glue_has_the_original_s_sizes(name):
    divided = splits.SplitConfig(split_validation_test=True)
    assert sizes(name, GLUE[name], divided) == DIVIDED[name]
    original = splits.SplitConfig(split_validation_test=True, drop_last_example=True)
    assert sizes(name, GLUE[name], original) == ORIGINAL[name]
    assert sizes(name, GLUE[name], splits.SplitConfig()) == GLUE[name]


def test_the_original_trained_on_946_090_examples():
    assert sum(train for train, _, _ in ORIGINAL.values()) == 946_090


@pytest.mark.parametrize("name", [*sorted(splits.HALVED), *sorted(splits.CARVED), "anli_v010"])
@given(num_examples=st.integers(1001, 5000))
def test_parts_of_one_split_are_disjoint_and_cover_it(name, num_examples):
    config = splits.SplitConfig(split_validation_test=True)
    parts = {}
    for split in SPLITS:
        indices = config.indices(name, split, num_examples)
        parts.setdefault(config.origin(name, split), []).extend(indices)
    for indices in parts.values():
        assert sorted(indices) == list(range(num_examples))


def test_no_task_is_divided_in_two_ways():
    assert not splits.HALVED & splits.CARVED


def test_a_limit_keeps_the_first_and_at_most_all():
    config = splits.SplitConfig(num_train=3, num_validation=1600, drop_last_example=True)
    assert config.indices("mine", "train", 10) == range(3)
    assert config.indices("mine", "validation", 10) == range(10)
    assert config.indices("mine", "test", 10) == range(9)
    assert config.indices("mine", "extra", 10) == range(9)


def test_a_limit_cuts_what_a_division_leaves():
    # n_val of the original: ART has 1000 after the division and 1532 without.
    divided = splits.SplitConfig(split_validation_test=True, num_validation=1600)
    assert divided.indices("art", "validation", 169_654) == range(1000)
    assert divided.indices("art", "train", 169_654) == range(1000, 169_654)
    assert splits.SplitConfig(num_validation=1600).indices("art", "validation", 1532) == range(1532)
    halved = splits.SplitConfig(split_validation_test=True, num_test=5)
    assert halved.indices("sick", "test", 20) == range(10, 15)


def test_a_configuration_knows_what_it_changes():
    def changed(name, **fields):
        config = splits.SplitConfig(**fields)
        return [split for split in SPLITS if config.changes(name, split)]

    assert changed("glue_rte_v200") == []
    assert changed("glue_rte_v200", split_validation_test=True) == ["validation", "test"]
    assert changed("art", split_validation_test=True) == ["train", "validation"]
    assert changed("anli_v010", split_validation_test=True) == []
    assert changed("anli_v010", num_test=9) == ["test"]
    assert changed("anli_v010", drop_last_example=True) == [*SPLITS]


def test_a_split_without_examples_is_an_error():
    config = splits.SplitConfig(split_validation_test=True)
    with pytest.raises(
        ValueError, match=r"'train' of 'art' keeps none of the 900 in 'train'.*Give"
    ):
        config.indices("art", "train", 900)


@pytest.mark.parametrize("limit", [-1, 0, 2.5, True])
def test_a_limit_must_be_a_number_of_examples(limit):
    with pytest.raises(
        ValueError, match=rf"num_test must be None or .* got {limit}.*original's -1"
    ):
        splits.SplitConfig(num_test=limit)


@pytest.mark.parametrize("seed", [-1, 2**32, "a", None])
def test_a_seed_must_be_one(seed):
    with pytest.raises(ValueError, match=r"seed must be a whole number .*original's is 42"):
        splits.SplitConfig(seed=seed)
