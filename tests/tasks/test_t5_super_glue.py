"""SuperGLUE's text, expansion, labels, splits and metrics are T5's, letter by letter."""

import numpy as np
import pytest
import seqio
import tensorflow as tf
import tensorflow_datasets as tfds

from hyperdecoders_jax.tasks import mixtures, t5_super_glue

NAMES = ("boolq", "cb", "copa", "multirc", "record", "rte", "wic", "wsc")
RECORD = {
    "passage": "Ann met Bob.\n@highlight\nBob is Ann's guide\n@highlight\nThey climb!",
    "query": "@placeholder fell.",
    "entities": ["Ann", "Bob"],
    "answers": ["Bob"],
    "idx": {"passage": 3, "query": 7},
}
WSC = {
    "text": "Ann asked Bob if he could run.",
    "span1_text": "Bob",
    "span1_index": 2,
    "span2_text": "he",
    "span2_index": 4,
    "label": 1,
}


def examples_of(function, record):
    dataset = function(tf.data.Dataset.from_tensors(record))
    return [
        {name: value.decode() if isinstance(value, bytes) else value.tolist()
         for name, value in example.items()}
        for example in dataset.as_numpy_iterator()
    ]  # fmt: skip


def score(name, examples, predictions):
    """Scores texts as an evaluation does; an example has its target and what else is passed on."""
    task = seqio.TaskRegistry.get(f"t5_super_glue_{name}_v102")
    targets, values = [], []
    for example, prediction in zip(examples, predictions, strict=True):
        example = {**example, "targets_pretokenized": example["targets"].encode()}
        targets.append(task.postprocess_fn(example["targets"], example=example, is_target=True))
        values.append(task.postprocess_fn(prediction, example=example, is_target=False))
    scores = {}
    for metric_fn in task.predict_metric_fns:
        scores |= metric_fn(targets, values)
    return scores


def test_boolq_begins_with_the_passage():
    record = {"question": "is it wet", "passage": "Rain -- It is wet.", "label": 1, "idx": 0}
    assert examples_of(t5_super_glue.render_boolq, record) == [
        {"inputs": "boolq passage: Rain -- It is wet. question: is it wet", "targets": "True"}
    ]


def test_cb_begins_with_the_hypothesis():
    record = {"premise": "A: If it rains,", "hypothesis": "it rains", "label": 2, "idx": 0}
    assert examples_of(t5_super_glue.render_cb, record) == [
        {"inputs": "cb hypothesis: it rains premise: A: If it rains,", "targets": "neutral"}
    ]


def test_copa_asks_after_both_choices():
    record = {
        "premise": "I fell.",
        "choice1": "I cried.",
        "choice2": "I sang.",
        "question": "effect",
        "label": 0,
    }
    assert examples_of(t5_super_glue.render_copa, record) == [
        {
            "inputs": "copa choice1: I cried. choice2: I sang. premise: I fell. question: effect",
            "targets": "choice1",
        }
    ]


def test_multirc_loses_its_markup_and_keeps_its_numbers():
    record = {
        "paragraph": "<b>Sent 1: </b>Ann ran.<br><b>Sent 2: </b>Bob <i>sat</i>.<br>",
        "question": "Who ran?",
        "answer": "Ann",
        "label": 1,
        "idx": {"paragraph": 3, "question": 7, "answer": 2},
    }
    assert examples_of(t5_super_glue.render_multirc, record) == [
        {
            "inputs": "multirc question: Who ran? answer: Ann paragraph: "
            "Sent 1: Ann ran. Sent 2: Bob <i>sat</i>. ",
            "targets": "True",
            "group": [3, 7],
        }
    ]


def test_record_joins_its_highlights_to_the_text():
    [example] = examples_of(t5_super_glue.render_record, RECORD)
    assert example["inputs"] == (
        "record query: @placeholder fell. entities: Ann, Bob passage: "
        "Ann met Bob. Bob is Ann's guide. They climb!"
    )
    assert example["targets"] == "Bob"
    assert example["group"] == [3, 7]


def test_record_becomes_an_example_for_each_answer():
    two = {**RECORD, "answers": ["Ann", "Bob"]}
    first, second = examples_of(t5_super_glue.render_record, two)
    assert (first.pop("targets"), second.pop("targets")) == ("Ann", "Bob")
    assert first == second
    assert first["answers"] == [b"Ann", b"Bob"]


def test_record_without_answers_stays_one_example():
    none = {**RECORD, "answers": tf.constant([], tf.string)}
    [example] = examples_of(t5_super_glue.render_record, none)
    assert (example["targets"], example["answers"]) == ("<unk>", [])


def test_rte_begins_with_the_hypothesis():
    record = {"premise": "Ann ran far.", "hypothesis": "Ann ran.", "label": 0, "idx": 0}
    assert examples_of(t5_super_glue.render_rte, record) == [
        {"inputs": "rte hypothesis: Ann ran. premise: Ann ran far.", "targets": "entailment"}
    ]


def test_wic_ends_in_the_word():
    record = {
        "word": "run",
        "sentence1": "I run.",
        "sentence2": "A run of luck.",
        "start1": 2,
        "start2": 2,
        "label": 0,
    }
    assert examples_of(t5_super_glue.render_wic, record) == [
        {"inputs": "wic sentence1: I run. sentence2: A run of luck. word: run", "targets": "False"}
    ]


def test_wsc_marks_the_pronoun_and_asks_for_the_candidate():
    assert examples_of(t5_super_glue.render_wsc, WSC) == [
        {"inputs": "wsc: Ann asked Bob if *he* could run.", "targets": "Bob", "label": 1}
    ]


@pytest.mark.parametrize(
    ("text", "pronoun", "index", "marked"),
    [
        ("Bob said he knew he won.", "he", 2, "Bob said *he* knew he won."),
        ("Bob said he knew he won.", "he", 4, "Bob said he knew *he* won."),
        ("Her back hurt .", "Her", 0, "*Her* back hurt ."),
        ('Ann: "Good for him," she said.', "him", 3, 'Ann: "Good for *him* ," she said.'),
        ("They want to use it , he says", "it", 3, "They want to use *it* , he says"),
        ("There the heir saw the path .", "the", 4, "There the heir saw *the* path ."),
        ("A b X it  c ", "it", 3, "A b X *it*  c "),
    ],
)
def test_wsc_marks_the_nearest_pronoun(text, pronoun, index, marked):
    record = {**WSC, "text": text, "span2_text": pronoun, "span2_index": index}
    [example] = examples_of(t5_super_glue.render_wsc, record)
    assert example["inputs"] == f"wsc: {marked}"


def test_wsc_needs_its_pronoun():
    record = {**WSC, "span2_text": "she"}
    with pytest.raises(tf.errors.InvalidArgumentError, match="pronoun must be a word of the text"):
        examples_of(t5_super_glue.render_wsc, record)


@pytest.mark.parametrize(
    ("sentence", "marked"),
    [
        ("Ann met Sue, she says, as she ran.", "Ann met Sue, *she* says, as she ran."),
        ("It was she.", "It was *she*."),
        ("The sheep saw she, too.", "The sheep saw *she*, too."),
        ("she ran.", "she ran."),
    ],
)
def test_dpr_marks_the_first_pronoun_inside(sentence, marked):
    record = {
        "sentence": sentence,
        "pronoun": "she",
        "candidates": ["Ann", "Sue"],
        "label": tf.constant(1, tf.int64),
    }
    assert examples_of(t5_super_glue.render_dpr, record) == [
        {"inputs": f"wsc: {marked}", "targets": "Sue"}
    ]


def test_only_true_pairs_are_for_training(tmp_path):
    features = tfds.features.FeaturesDict({"label": tfds.features.ClassLabel(names=["no", "yes"])})
    rows = [(key, {"label": label}) for key, label in enumerate((0, 1, 1, 0))]
    tfds.dataset_builders.store_as_tfds_dataset(
        name="pairs",
        version="1.0.0",
        features=features,
        split_datasets={"train": rows, "validation": rows[:3]},
        data_dir=tmp_path,
    )
    source = t5_super_glue.TruePairsForTraining(
        "pairs:1.0.0", tfds_data_dir=str(tmp_path), splits=["train", "validation"]
    )
    labels = {
        split: sorted(row["label"] for row in source.get_dataset(split).as_numpy_iterator())
        for split in source.splits
    }
    assert labels == {"train": [1, 1], "validation": [0, 1, 1]}
    assert {split: source.num_input_examples(split) for split in labels} == {
        "train": 2,
        "validation": 3,
    }
    wsc = seqio.TaskRegistry.get("t5_super_glue_wsc_v102").source
    assert isinstance(wsc, t5_super_glue.TruePairsForTraining)


@pytest.mark.parametrize("name", NAMES)
def test_a_name_holds_the_version_of_its_data_set(name):
    task = seqio.TaskRegistry.get(f"t5_super_glue_{name}_v102")
    config = "wsc.fixed" if name == "wsc" else name
    assert task.source.tfds_dataset.name == f"super_glue/{config}:1.0.2"
    assert set(task.splits) == {"train", "validation", "test"}


def test_dpr_is_for_training_alone():
    task = seqio.TaskRegistry.get("t5_dpr_v110")
    assert task.source.tfds_dataset.name == "definite_pronoun_resolution:1.1.0"
    assert set(task.splits) == {"train"}
    assert not task.metric_objs


@pytest.mark.parametrize(
    ("name", "targets", "predictions", "expected"),
    [
        ("boolq", ["True", "False"], ["True", "0"], {"accuracy": 50.0}),
        # One class is right, two are lost.
        (
            "cb",
            ["entailment", "contradiction", "neutral"],
            ["entailment", "", "Neutral"],
            {"mean_3class_f1": 100 / 3, "accuracy": 100 / 3},
        ),
        ("copa", ["choice1", "choice2"], ["choice1", "choice2"], {"accuracy": 100.0}),
        ("rte", ["entailment", "not_entailment"], ["not_entailment"] * 2, {"accuracy": 50.0}),
        ("wic", ["True", "False"], ["true", "False"], {"accuracy": 50.0}),
    ],
)
def test_labels_are_scored_by_their_numbers(name, targets, predictions, expected):
    examples = [{"targets": target} for target in targets]
    assert score(name, examples, predictions) == pytest.approx(expected)


def test_cb_has_its_labels_in_the_order_of_the_data_set():
    postprocess = seqio.TaskRegistry.get("t5_super_glue_cb_v102").postprocess_fn
    labels = ("entailment", "contradiction", "neutral", "?")
    assert [postprocess(label) for label in labels] == [0, 1, 2, -1]


def test_the_answers_of_a_question_are_scored_together():
    answers = [("True", [0, 0]), ("False", [0, 0]), ("True", [0, 1])]
    examples = [{"targets": text, "group": np.array(group)} for text, group in answers]
    # F1: two of two found, and one more; the first question has a mistake.
    scores = score("multirc", examples, ["True", "True", "True"])
    assert scores == pytest.approx({"f1": 80.0, "exact_match": 50.0})


def test_a_query_is_scored_once_with_its_best_answer():
    answers = np.array([b"Ann", b"Ann Lee"], object)
    group = np.array([3, 7])
    examples = [
        {"targets": "Ann", "answers": answers, "group": group},
        {"targets": "Ann Lee", "answers": answers, "group": group},
        {"targets": "Bob", "answers": np.array([b"Bob"], object), "group": group + 1},
    ]
    assert score("record", examples, ["ann lee", "Bob", "Ann"]) == {"em": 50.0, "f1": 50.0}


def test_naming_the_candidate_says_that_it_is_the_referent():
    examples = [
        {"targets": "The boy", "label": 1},
        {"targets": "The pony", "label": 0},
        {"targets": "John", "label": 0},
        {"targets": "The boy", "label": 1},
    ]
    scores = score("wsc", examples, ["boy", "The boy", "John", ""])
    assert scores == {"accuracy": 50.0}


@pytest.mark.parametrize(
    ("name", "example"),
    [
        ("cb", {"targets": "<unk>"}),
        ("multirc", {"targets": "<unk>", "group": np.array([0, 0])}),
        ("record", {"targets": "<unk>", "answers": np.array([]), "group": np.array([0, 0])}),
        ("wsc", {"targets": "Ann", "label": -1}),
    ],
)
def test_a_secret_target_cannot_be_scored(name, example):
    with pytest.raises(ValueError, match=r"labels of GLUE's .* are secret: evaluate .* validation"):
        score(name, [example], ["Ann"])


def test_the_mixtures_have_the_rates_of_t5():
    mixture = seqio.MixtureRegistry.get("super_glue")
    both = seqio.MixtureRegistry.get("glue_super_glue")
    rates = {task.name: mixture.get_rate(task) for task in mixture.tasks}
    assert sum(rates.values()) == 185_673
    share = rates["t5_super_glue_record_v102"] / sum(rates.values())
    assert 100 * share == pytest.approx(74.8, abs=0.05)
    all_rates = {task.name: both.get_rate(task) for task in both.tasks}
    assert all_rates.items() >= rates.items()
    assert 100 * sum(rates.values()) / sum(all_rates.values()) == pytest.approx(16.4, abs=0.05)
    assert mixtures.TASK_FEATURE_LENGTHS["super_glue"] == {"inputs": 512, "targets": 62}
