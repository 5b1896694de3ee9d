"""Text, labels, splits and data of the tasks of multiple choice are the original's."""

import pytest
import seqio

from hyperdecoders_jax.tasks import multiple_choice, sources
from tests.tasks import rendering


def test_social_i_qa_numbers_its_answers_from_one():
    record = {
        "context": "Bo fell.",
        "question": "What will Bo do?",
        "answerA": "stand up",
        "answerB": "fly",
        "answerC": "cook",
        "label": "3\n",
    }
    assert rendering.render(multiple_choice.render_social_i_qa, **record) == (
        "social_i_qa question: What will Bo do? context: Bo fell. answerA: stand up answerB: fly "
        "answerC: cook",
        "3",
    )


def test_cosmos_qa_has_four_answers():
    record = {
        "context": "I ate.",
        "question": "Was I hungry?",
        "answer0": "No",
        "answer1": "Yes",
        "answer2": "Never",
        "answer3": "None of these",
        "label": 1,
        "id": "7",
    }
    assert rendering.render(multiple_choice.render_cosmos_qa, **record) == (
        "cosmos_qa question: Was I hungry? context: I ate. answer0: No answer1: Yes answer2: Never "
        "answer3: None of these",
        "1",
    )


def test_winogrande_numbers_its_options_from_one():
    record = {"sentence": "Al, not Bo, won as _ ran.", "option1": "Al", "option2": "Bo", "label": 0}
    assert rendering.render(multiple_choice.render_winogrande, **record) == (
        "winogrande sentence: Al, not Bo, won as _ ran. option1: Al option2: Bo",
        "1",
    )
    assert rendering.labels_of("winogrande_v120") == ["1", "2"]


def test_hellaswag_calls_its_context_ctx():
    record = {"context": "She", "endings": ["ran.", "sat.", "fell.", "sang."], "label": 3}
    assert rendering.render(multiple_choice.render_hellaswag, **record) == (
        "hellaswag ctx: She ending0: ran. ending1: sat. ending2: fell. ending3: sang.",
        "3",
    )


def test_commonsense_qa_answers_with_a_letter():
    record = {"question": "What barks?", "answerKey": "E"}
    record |= dict(zip("ABCDE", ["a cat", "a cup", "a hat", "a key", "a dog"], strict=True))
    assert rendering.render(multiple_choice.render_commonsense_qa, **record) == (
        "commonsense_qa question: What barks? A: a cat B: a cup C: a hat D: a key E: a dog",
        "E",
    )


@pytest.mark.parametrize(
    ("name", "data", "train"),
    [
        ("cosmos_qa_v100", "cosmos_qa:1.0.0", "train"),
        ("winogrande_v120", "winogrande:1.2.0", "train_l"),
        ("hellaswag_v110", "hellaswag:1.1.0", "train"),
    ],
)
def test_the_validation_split_is_also_the_test_split(name, data, train):
    splits = {"train": train, "validation": "validation", "test": "validation"}
    assert rendering.data_of(name) == (data, splits)


@pytest.mark.parametrize("name", ["social_i_qa", "commonsense_qa"])
def test_of_a_folder_too(name, monkeypatch):
    monkeypatch.setenv(sources.DATA_DIR_VARIABLE, "/data")
    source = seqio.TaskRegistry.get(name).source
    assert source.list_shards("train") == [f"/data/{name}/train.jsonl"]
    assert source.list_shards("test") == [f"/data/{name}/validation.jsonl"]


@pytest.mark.parametrize(
    "name",
    ["social_i_qa", "cosmos_qa_v100", "winogrande_v120", "hellaswag_v110", "commonsense_qa"],
)
def test_choices_are_compared_as_text(name):
    assert rendering.score(name, ["1", "2"], ["1", "2."]) == {"accuracy": 50.0}


def test_folders_hold_the_labels_of_the_original():
    social, common = (
        seqio.TaskRegistry.get(name).source for name in ("social_i_qa", "commonsense_qa")
    )
    assert social._labels == (("label", ("1", "2", "3")),)
    assert common._labels == (("answerKey", ("A", "B", "C", "D", "E")),)
