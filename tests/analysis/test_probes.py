import numpy as np
import pytest

from hyperdecoders_jax.analysis import probes, results

# Of a mean over some hundred examples: three standard deviations and more.
CHANCE_TOLERANCE = 15.0


@pytest.fixture(autouse=True)
def one_shuffle(monkeypatch):
    """Most tests do not read the scores of shuffled groups, which take most of the time."""
    monkeypatch.setattr(probes, "_MAX_SHUFFLES", 1)


@pytest.fixture
def all_shuffles(one_shuffle, monkeypatch):
    monkeypatch.undo()


def make_examples(features, labels, tasks=None, output_types=None, inputs=None, groups=None):
    """Examples whose texts differ, of one task with class labels unless said otherwise."""
    count = len(labels)
    if not isinstance(features, dict):
        features = {"pooled": features}
    return results.Examples(
        ids=[f"example-{i}" for i in range(count)],
        tasks=["rte"] * count if tasks is None else tasks,
        inputs=[f"text {i}" for i in range(count)] if inputs is None else inputs,
        targets=labels,
        predictions=labels,
        is_correct=np.ones(count, bool),
        output_types=["class label"] * count if output_types is None else output_types,
        groups=list(map(str, range(count))) if groups is None else groups,
        features=features,
    )


def by_method(found, grouping, features="pooled", task=None):
    return {
        row.method: row
        for row in found
        if (row.grouping, row.features, row.task) == (grouping, features, task)
    }


def draw(seed, count=150, dim=7, groups=3, apart=0.0):
    """Vectors around a mean for each group, and names of the groups."""
    rng = np.random.default_rng(seed)
    numbers = np.arange(count) % groups
    vectors = rng.normal(size=(count, dim)) + apart * rng.normal(size=(groups, dim))[numbers]
    return vectors.astype(np.float32), [f"label {number}" for number in numbers]


def test_labels_far_apart_are_told(all_shuffles):
    found = by_method(probes.measure(make_examples(*draw(0, apart=9.0))), "label", task="rte")
    assert list(found) == ["linear probe", "nearest neighbours", "silhouette"]
    for method in ("linear probe", "nearest neighbours"):
        assert found[method].score == 100
        assert abs(found[method].shuffled - 100 / 3) < CHANCE_TOLERANCE
    assert found["silhouette"].score > 0.8
    assert abs(found["silhouette"].shuffled) < 0.1


def test_all_of_few_hits_are_no_certainty():
    found = by_method(probes.measure(make_examples(*draw(0, 36, apart=9.0))), "label", task="rte")
    assert found["linear probe"].high == 100
    assert 90 < found["linear probe"].low < 98


def test_intervals_of_random_labels_cover_chance_as_often_as_they_say():
    seeds = range(15)
    covered = dict.fromkeys(("linear probe", "nearest neighbours"), 0)
    for seed in seeds:
        examples = make_examples(*draw(seed, 90, groups=2))
        found = by_method(probes.measure(examples, seed), "label", task="rte")
        for method in covered:
            covered[method] += found[method].low <= 50 <= found[method].high
    # Folds share examples, which costs some of the 14 expected.
    assert min(covered.values()) >= 12


def test_tasks_are_told_where_labels_are_not():
    vectors, tasks = draw(1, 240, groups=4, apart=9.0)
    labels = np.random.default_rng(0).choice(["yes", "no"], len(tasks)).tolist()
    types = ["span" if task == "label 0" else "class label" for task in tasks]
    found = probes.measure(make_examples(vectors, labels, tasks, types))
    assert by_method(found, "task")["linear probe"].score == 100
    assert by_method(found, "output type")["linear probe"].score == 100
    assert not by_method(found, "label", task="label 0")
    for task in ("label 1", "label 2", "label 3"):
        row = by_method(found, "label", task=task)["linear probe"]
        assert row.low <= 50 <= row.high
        assert row.num_examples == 60


def test_a_large_group_is_no_advantage(all_shuffles):
    vectors, _ = draw(2, 300)
    labels = ["rare" if i % 5 == 0 else "frequent" for i in range(300)]
    found = by_method(probes.measure(make_examples(vectors, labels)), "label", task="rte")
    for method in ("linear probe", "nearest neighbours"):
        assert abs(found[method].score - 50) < CHANCE_TOLERANCE
        assert abs(found[method].shuffled - 50) < CHANCE_TOLERANCE


def test_a_rare_group_that_overlaps_is_told_half_the_time():
    rng = np.random.default_rng(3)
    is_rare = np.arange(400) % 20 == 0
    vectors = (rng.normal(size=(400, 2)) + np.outer(is_rare, [2.5, 0.0])).astype(np.float32)
    labels = ["rare" if rare else "frequent" for rare in is_rare]
    found = by_method(probes.measure(make_examples(vectors, labels)), "label", task="rte")
    # Without regard to frequencies nearly all would be called frequent: 50.
    for method in ("linear probe", "nearest neighbours"):
        assert found[method].score > 75


def test_windows_of_a_question_are_held_out_together():
    """Each question has a vector of its own, which says nothing of others' labels."""
    questions = np.repeat(np.arange(40), 15)
    rng = np.random.default_rng(5)
    vectors = rng.normal(size=(40, 7))[questions] + 0.01 * rng.normal(size=(600, 7))
    labels = rng.permutation(["yes", "no"] * 20)[questions].tolist()
    scores = []
    for groups in (None, [f"question {question}" for question in questions]):
        examples = make_examples(vectors.astype(np.float32), labels, groups=groups)
        found = by_method(probes.measure(examples), "label", task="rte")
        scores.append(found["nearest neighbours"].score)
    assert scores[0] > 95
    assert abs(scores[1] - 50) < CHANCE_TOLERANCE
    # Forty of them tell no more than forty examples would.
    assert found["nearest neighbours"].high - found["nearest neighbours"].low > 25


def test_a_question_may_have_most_of_the_windows():
    vectors, labels = draw(17, 24, groups=2)
    groups = ["question"] * 18 + [f"question {i}" for i in range(6)]
    assert not probes.measure(make_examples(vectors, labels, groups=groups))
    groups[:2] = ["question 6", "question 7"]
    found = by_method(
        probes.measure(make_examples(vectors, labels, groups=groups)), "label", task="rte"
    )
    assert found["nearest neighbours"].num_examples == 24


def test_types_of_new_tasks_are_told_by_what_tasks_of_a_type_share(all_shuffles):
    rng = np.random.default_rng(6)
    tasks = np.arange(240) % 6
    types = np.where(tasks < 3, "span", "class label").tolist()
    names = [f"task {task}" for task in tasks]
    of_task = 9 * rng.normal(size=(6, 20))[tasks] + rng.normal(size=(240, 20))
    of_type = of_task + np.outer(tasks < 3, np.full(20, 99.0))
    labels = ["a"] * 240  # One group, of which nothing can be told.
    features = {"pooled": of_task.astype(np.float32), "condition": of_type.astype(np.float32)}
    found = probes.measure(make_examples(features, labels, names, types))
    for name, told in (("pooled", False), ("condition", True)):
        assert by_method(found, "output type", name)["linear probe"].score == 100
        of_new = by_method(found, probes.OF_NEW_TASKS, name)
        assert set(of_new) == {"linear probe", "nearest neighbours"}
        assert (of_new["linear probe"].score > 95) == told
        # Whole tasks are shuffled, too: of the type of which one is held out fewer are left to
        # learn from, so that it is told less often than by chance.
        row = of_new["linear probe"]
        # But one draw in ten is the types themselves.
        assert row.shuffled < (60 if told else 45)
        assert (row.low <= row.shuffled <= row.high) != told


def test_types_of_new_tasks_need_two_tasks_of_two_types():
    vectors, tasks = draw(1, 120, groups=3, apart=9.0)
    types = ["span" if task == "label 0" else "class label" for task in tasks]
    found = probes.measure(make_examples(vectors, ["a"] * 120, tasks, types))
    assert by_method(found, "output type")
    assert not by_method(found, probes.OF_NEW_TASKS)


def test_copies_of_a_text_are_never_trained_on_and_told():
    vectors, _ = draw(4, 60, dim=40)
    labels = np.random.default_rng(0).permutation(["yes", "no"] * 30)
    copies = np.repeat(np.arange(60), 4)
    examples = make_examples(
        vectors[copies], labels[copies].tolist(), inputs=[f"text {i}" for i in copies]
    )
    found = by_method(probes.measure(examples), "label", task="rte")
    assert found["nearest neighbours"].num_examples == 60
    assert found["nearest neighbours"].low <= 50 <= found["nearest neighbours"].high


def test_the_linear_probe_finds_what_neighbours_miss():
    vectors, labels = draw(5, 120, dim=6, groups=2)
    vectors *= 100
    vectors[:, 3] = np.where(np.array(labels) == "label 1", 1, -1)
    found = by_method(probes.measure(make_examples(vectors, labels)), "label", task="rte")
    assert found["linear probe"].score > 95
    assert found["nearest neighbours"].score < 75


def test_vectors_may_be_longer_than_examples_are_many():
    vectors, labels = draw(6, 45, dim=211, apart=0.6)
    found = by_method(probes.measure(make_examples(vectors, labels)), "label", task="rte")
    assert found["linear probe"].score > 85


def test_scale_changes_nothing():
    vectors, labels = draw(7, 45, dim=5, apart=1.0)
    vectors = vectors.astype(np.float64)
    expected = probes.measure(make_examples(vectors, labels))
    for exponent in (-200, 3, 200):
        assert probes.measure(make_examples(vectors * 2.0**exponent, labels)) == expected


def test_rows_depend_on_their_own_vectors_alone():
    vectors, labels = draw(8, 60, apart=0.5)
    alone = probes.measure(make_examples(vectors, labels))
    other = np.random.default_rng(0).normal(size=(60, 3))
    both = probes.measure(make_examples({"other": other, "pooled": vectors}, labels))
    assert [row for row in both if row.features == "pooled"] == alone


@pytest.mark.parametrize("dtype", [np.float16, np.float64])
def test_vectors_may_have_other_types(dtype):
    vectors, labels = draw(9, 60, apart=5.0)
    found = probes.measure(make_examples(vectors.astype(dtype), labels))
    assert by_method(found, "label", task="rte")["linear probe"].score > 95


def test_nothing_is_said_of_what_cannot_be_told():
    vectors, labels = draw(10, 60)
    one_group = make_examples(vectors, ["yes"] * 60)
    constant = make_examples(np.ones((60, 4), np.float32), labels)
    zero = make_examples(np.zeros((60, 4), np.float32), labels)
    no_entries = make_examples(np.zeros((60, 0), np.float32), labels)
    no_features = make_examples({}, labels)
    no_examples = make_examples(np.zeros((0, 4), np.float32), [])
    no_labels = make_examples(vectors, labels, output_types=["span"] * 60)
    too_few = make_examples(vectors[:27], labels[:27])
    for examples in (
        *(one_group, constant, zero, no_entries, no_features, no_examples, no_labels, too_few),
    ):
        assert probes.measure(examples) == []


def test_rounding_is_no_signal():
    _, labels = draw(11, 60)
    vectors = np.full((60, 4), 0.3, np.float32)
    vectors[np.array(labels) == "label 0"] += 1e-7
    assert probes.measure(make_examples(vectors, labels)) == []


def test_groups_of_few_are_left_out():
    vectors, labels = draw(12, 60)
    labels[:9] = ["rare"] * 9
    row = by_method(probes.measure(make_examples(vectors, labels)), "label", task="rte")
    assert row["linear probe"].num_examples == 51


def test_only_so_many_examples_are_used(monkeypatch):
    monkeypatch.setattr(probes, "MAX_EXAMPLES", 70)
    monkeypatch.setattr(probes, "MAX_SILHOUETTES", 45)
    found = by_method(probes.measure(make_examples(*draw(13))), "label", task="rte")
    assert found["linear probe"].num_examples == 70
    assert found["silhouette"].num_examples == 45


def test_vectors_with_nan_are_refused():
    vectors, labels = draw(14, 60)
    vectors[[5, 9], 2] = np.nan, np.inf
    with pytest.raises(ValueError, match=r"2 of 60 vectors of 'pooled'.*'example-5'.*float32"):
        probes.measure(make_examples(vectors, labels))


@pytest.mark.parametrize("shape", [(59, 4), (60,), (60, 2, 2)])
def test_a_feature_is_a_vector_for_each_example(shape):
    with pytest.raises(ValueError, match=r"each of the 60 examples; 'pooled' has the shape"):
        probes.measure(make_examples(np.zeros(shape), draw(15, 60)[1]))
