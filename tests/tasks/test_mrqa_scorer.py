import gzip
import json

import pytest

from hyperdecoders_jax.tasks import mrqa_scorer

# What a line of the shared task holds, less what the scorer does not read.
LINES = [
    {"header": {"dataset": "Hand", "split": "dev"}},
    {"context": "…", "qas": [{"qid": "q1", "answers": ["Rome", "the old Rome"]}]},
    {
        "context": "…",
        "qas": [
            {"qid": "q2", "answers": ["Bonn"]},
            {"qid": "qä", "answers": ["Köln\u2028am Rhein"]},
        ],
    },
    {"context": "…", "qas": [{"qid": "q4", "answers": ["nobody asks"]}]},
]
WINDOWS = {
    "q1": [["", 0.01], ["Paris", 0.5], ["old Rome!", 0.25], ["Rome", 0.25]],
    "q2": [["", 0.3]],
    "qä": [["köln", 0.7]],
    "other": [["x", 0.1]],
}
TEXTS = {"q1": "old Rome!", "q2": "", "qä": "köln", "other": "x"}
# q1: the articles do not count; q2: empty; qä: one word of three.
EXACT_MATCH, F1 = 100 / 3, (100 + 0 + 50) / 3


def write(folder, lines=LINES, predictions=WINDOWS, name="Hand.jsonl.gz"):
    content = "\n".join(json.dumps(line, ensure_ascii=False) for line in lines).encode()
    dataset = folder / name
    dataset.write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    (folder / "answers.json").write_text(json.dumps(predictions))
    return [str(dataset), str(folder / "answers.json")]


@pytest.mark.parametrize("name", ["Hand.jsonl.gz", "Hand.jsonl"])
@pytest.mark.parametrize("predictions", [WINDOWS, TEXTS], ids=["windows", "texts"])
def test_the_questions_that_have_an_answer_are_scored(tmp_path, capsys, name, predictions):
    assert mrqa_scorer.main(write(tmp_path, predictions=predictions, name=name)) == 0
    printed = capsys.readouterr()
    in_words, in_json = printed.out.splitlines()
    assert in_words == "33.33 / 50.00"
    assert json.loads(in_json) == pytest.approx({"exact_match": EXACT_MATCH, "f1": F1})
    assert printed.err == "1 of 4 questions have no prediction and do not count.\n"


def test_answers_to_another_data_set_are_refused(tmp_path):
    arguments = write(tmp_path, predictions={"other": "x"})
    with pytest.raises(ValueError, match=r"must have a prediction.*4 questions and 1 .*Score the"):
        mrqa_scorer.main(arguments)


@pytest.mark.parametrize("line", [[1], {"qas": [{"qid": "q1"}]}, {"context": "…"}])
def test_a_line_that_is_no_context_is_named(tmp_path, line):
    arguments = write(tmp_path, lines=[*LINES[:2], line])
    with pytest.raises(ValueError, match=r"with 'qas'.*line 3 of .*Hand.*Take the file"):
        mrqa_scorer.main(arguments)


@pytest.mark.parametrize("predictions", [["q1"], {"q1": 3}, {"q1": ["Rome"]}])
def test_a_file_that_holds_no_answers_is_named(tmp_path, predictions):
    arguments = write(tmp_path, predictions=predictions)
    with pytest.raises(ValueError, match=r"\{qid: text\} or .*answers.json does not.*Take what"):
        mrqa_scorer.main(arguments)
