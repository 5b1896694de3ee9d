"""Own files as tasks: templates, several answers, metrics, pairing, and what is refused."""

import itertools
import json

import pytest
import seqio

from hyperdecoders_jax.data import mixtures, vocabulary
from hyperdecoders_jax.tasks import demo, mixing, own_data, registration
from hyperdecoders_jax.tasks.features import OUTPUT_FEATURES

ROW = {"word": "go", "text": "she goes", "answer": "goes", "n": "3.80", "yes": True, "none": None}


@pytest.fixture(autouse=True)
def _forget():
    before = {*seqio.TaskRegistry.names()}
    yield
    for name in {*seqio.TaskRegistry.names()} - before:
        seqio.TaskRegistry.remove(name)
    seqio.MixtureRegistry.remove(own_data.MIXTURE)
    vocabulary.set_run_vocabulary(None)


def rendering(inputs="{text}", targets="{answer}", metric="accuracy", are_targets_required=True):
    return own_data.Rendering(inputs, targets, tuple(metric.split(",")), are_targets_required)


def render(row=ROW, **arguments):
    return rendering(**arguments).render(row, "line 7 of x.csv")


def write(path, *rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


# Templates.


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("find {word} in: {text}", "find go in: she goes"),
        ("{n}{yes}", "3.80true"),
        ("{{word}} {word}", "{word} go"),
        ("{word}}}", "go}"),
        ("100 % {word}, @{word}", "100 % go, @go"),
    ],
)
def test_a_template_makes_a_text_of_columns(template, text):
    assert render(inputs=template)["inputs"] == text
    assert render(targets=template)["targets"] == text


def test_a_column_may_have_any_name():
    row = {"sentence 1": "a", "b.c-d[0]": "e", "Q: text": "f", "wow!r": "g", ":": "h"}
    inputs = "{sentence 1} {b.c-d[0]} {Q: text} {wow!r} {:}"
    assert render(row, inputs=inputs, targets="{sentence 1}")["inputs"] == "a e f g h"


@pytest.mark.parametrize("header", ["text;answer", "text\tanswer", "text,answer", "text|answer"])
def test_columns_that_are_separated_otherwise_are_told(header):
    with pytest.raises(ValueError, match=r"is not separated at '.*': a \.csv has commas .* tabs\."):
        render({header: "a;b"})


@pytest.mark.parametrize("column", ["n:.2f", "n!r", "n[0]"])
def test_python_s_formats_are_told_where_no_column_is_called_so(column):
    with pytest.raises(ValueError, match=r"Did you mean 'n'\? A column's text is taken as it is\."):
        render(inputs=f"{{{column}}}")


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("{word", r"The braces of a template must close; '\{word' is none\. Write a column's name"),
        ("word}", "The braces of a template must close"),
        ("{wo{rd}", "The braces of a template must close"),
        ("{}", "must be a column's name; got '{}'. Write"),
        ("{ } {word}", "must be a column's name; got '{ } {word}'. Write"),
        ("word", "A template must name a column, or all examples are alike; got 'word'"),
        ("{{word}}", "A template must name a column"),
    ],
)
@pytest.mark.parametrize("feature", ["inputs", "targets"])
def test_a_template_that_cannot_be_meant_is_refused(feature, template, message):
    with pytest.raises(ValueError, match=message):
        rendering(**{feature: template})


def test_a_missing_column_is_told_with_those_that_there_are():
    message = (
        r"template 'x: \{txet\}'; line 7 of x.csv has no 'txet'\. Its columns are 'word', 'text', "
        r".*Did you mean 'text'\? Correct the row, or say .*--inputs_template="
    )
    with pytest.raises(ValueError, match=message):
        render(inputs="x: {txet}")


@pytest.mark.parametrize("value", [None, {"a": "b"}, ["a"]])
def test_a_value_that_is_no_text_is_told(value):
    with pytest.raises(ValueError, match=r"'text' in line 7 of x.csv is .*Correct the row, or le"):
        render(ROW | {"text": value})


@pytest.mark.parametrize("column", ["text", "answer"])
def test_an_empty_text_is_told(column):
    feature = {"text": "inputs", "answer": "targets"}[column]
    with pytest.raises(ValueError, match=rf"the {feature} of line 7 of x.csv are empty\. Leave"):
        render(ROW | {column: " "})


# Targets.


def test_a_list_of_targets_holds_several_right_answers_and_the_first_is_trained_on():
    example = render(ROW | {"answer": ["goes", "go", "3"]})
    assert example["targets"] == "goes"
    assert own_data.to_answers("", is_target=True, example=example) == ("goes", "go", "3")
    assert own_data.to_answers("any", is_target=False) == "any"


@pytest.mark.parametrize(
    ("answers", "message"),
    [
        ([], "the targets of line 7 of x.csv are empty"),
        (["goes", ""], "the targets of line 7 of x.csv are empty"),
        (["goes", None], r"'answer' in line 7 of x.csv is null\. Correct"),
        ([["goes"]], r"'answer' in line 7 of x.csv is \[\"goes\"\]"),
    ],
)
def test_a_list_of_targets_holds_texts(answers, message):
    with pytest.raises(ValueError, match=message):
        render(ROW | {"answer": answers})


def test_a_list_is_the_whole_of_the_targets():
    with pytest.raises(
        ValueError, match=r"alone in the targets, a list of texts.*'answer' in line"
    ):
        render(ROW | {"answer": ["goes"]}, targets="it is {answer}")


@pytest.mark.parametrize("row", [{"text": "a"}, {"text": "a", "answer": " "},
                                 {"text": "a", "answer": None}])  # fmt: skip
def test_to_predict_no_targets_are_needed(row):
    example = render(row, metric="f1_score_with_invalid", are_targets_required=False)
    assert example == {"inputs": "a", "targets": "", "answers": '[""]'}


@pytest.mark.parametrize(("value", "text"), [("unknown", "unknown"), (False, "false")])
def test_to_predict_targets_that_are_there_are_kept(value, text):
    row = ROW | {"answer": value}
    example = render(row, metric="f1_score_with_invalid", are_targets_required=False)
    assert example["targets"] == text


@pytest.mark.parametrize(
    ("metric", "target", "is_accepted"),
    [
        ("accuracy", "yes", True),
        ("f1_score_with_invalid", "yes", False),
        ("f1_score_with_invalid", "2", False),
        ("f1_score_with_invalid", " 1", True),
        ("matthews_corrcoef", "2", True),
        ("matthews_corrcoef", "-1", False),
        ("pearson_corrcoef", "-1.5e3", True),
        ("spearman_corrcoef", "nan", False),
        ("accuracy,pearson_corrcoef", "high", False),
    ],
)
def test_targets_are_what_the_metric_reads(metric, target, is_accepted):
    row = ROW | {"answer": target}
    if is_accepted:
        assert render(row, metric=metric)["targets"] == target
        return
    message = rf"needs targets that are .*; the target in line 7 of x.csv is '{target}'\. Correct"
    with pytest.raises(ValueError, match=message):
        render(row, metric=metric)


# Metrics.


def test_an_unknown_metric_is_told_with_the_nearest():
    message = r"must be one of accuracy, bleu, .*; got 'acuracy'\. Did you mean 'accuracy'\? Choose"
    with pytest.raises(ValueError, match=message):
        rendering(metric="acuracy")


PERFECT = {
    "accuracy": {"accuracy": 100.0},
    "bleu": {"bleu": 100.0},
    "f1_score_with_invalid": {"f1": 100.0},
    "gen_len": {"gen_len": 2.0},
    "matthews_corrcoef": {"matthews_corrcoef": 100.0},
    "pearson_corrcoef": {"pearson_corrcoef": 100.0},
    "rouge": {"rouge1": 100.0, "rouge2": 100.0, "rougeL": 100.0, "rougeLsum": 100.0},
    "spearman_corrcoef": {"spearman_corrcoef": 100.0},
    "squad": {"em": 100.0, "f1": 100.0},
}


@pytest.mark.parametrize("names", itertools.combinations_with_replacement(PERFECT, 2), ids=",".join)
def test_metrics_of_a_task_have_results_of_different_names(names):
    if PERFECT[names[0]].keys().isdisjoint(PERFECT[names[1]]):
        rendering(metric=",".join(names))
        return
    with pytest.raises(ValueError, match=rf"one name .*; got {', '.join(names)}\. Leave one out"):
        rendering(metric=",".join(names))


def test_a_task_has_a_metric():
    with pytest.raises(ValueError, match=r"must have a metric, .*; got none\. .* or name one"):
        own_data.mixture(["a.csv"], metric_names=[" , "])


@pytest.mark.parametrize("name", own_data.ANSWERS)
def test_every_metric_compares_texts(name):
    answer = own_data.ANSWERS[name]
    texts = ["0", "1", "1"] if answer is not own_data.TEXT else ["a cat sat on it"] * 2
    targets = [(text, "nothing") if answer is own_data.TEXT else (text,) for text in texts]
    aux = {"aux_values": {"num_tokens": [2] * len(texts)}} if name == "gen_len" else {}
    score = own_data.metric_fn(name)(targets, [f" {text}" for text in texts], **aux)
    assert score == pytest.approx(PERFECT[name])


@pytest.mark.parametrize("name", own_data.TAKES_SEVERAL)
def test_some_metrics_take_any_right_answer(name):
    score = own_data.metric_fn(name)([("nothing", "a cat sat on it")], ["a cat sat on it"])
    assert score == pytest.approx(PERFECT[name])


def test_the_other_metrics_take_the_first_answer():
    assert own_data.metric_fn("accuracy")([("a", "b")], ["b"]) == {"accuracy": 0.0}


# Files and tasks.


@pytest.mark.parametrize(
    ("files", "tasks"),
    [
        ((["a.csv"], [], []), {"a": {"train": "a.csv"}}),
        (
            (["d/my-a.csv.gz", "b.v2.tsv"], ["x.csv", "y.csv"], []),
            {
                "my_a": {"train": "d/my-a.csv.gz", "validation": "x.csv"},
                "b.v2": {"train": "b.v2.tsv", "validation": "y.csv"},
            },
        ),
        (
            (["one=t.csv", "u.csv"], ["u=x.csv"], ["u=y.csv", "one=z.csv"]),
            {
                "one": {"train": "t.csv", "test": "z.csv"},
                "u": {"train": "u.csv", "validation": "x.csv", "test": "y.csv"},
            },
        ),
        (([], [], ["gs://bucket/k=v/a.csv"]), {"a": {"test": "gs://bucket/k=v/a.csv"}}),
        (
            (["my-task=x.jsonl"], ["my-task=d.jsonl"], []),
            {"my_task": {"train": "x.jsonl", "validation": "d.jsonl"}},
        ),
        ((["d/k=v.tsv?quoting=csv"], [], []), {"k_v": {"train": "d/k=v.tsv?quoting=csv"}}),
    ],
)
def test_files_go_to_tasks_by_name_or_by_order(files, tasks):
    assert own_data.pair_files(dict(zip(own_data.SPLITS, files, strict=True))) == tasks


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (([], [], []), r"must be in a file; got none\. Name it with --train_file=x\.jsonl"),
        ((["a/x.csv", "b/x.csv"], [], []), r"are both 'x'\. Write --train_file=NAME=b/x\.csv"),
        ((["m=a.csv", "m=b.csv"], [], []), "a.csv and b.csv are both 'm'"),
        (
            (["a.csv", "b.csv"], ["x.csv"], []),
            r"one --validation_file for each of the 2 tasks .*or",
        ),
        ((["a.csv"], [], ["x.csv", "y.csv"]), r"one --test_file for each .*got \['x.csv', 'y.csv'"),
        ((["a.csv", "b.csv"], ["x.csv", "b=y.csv"], []), r"write --validation_file=NAME=PATH for"),
        ((["mail.csv"], ["mial=x.csv"], []), r"got mial=x.csv\. Did you mean 'mail'\? Correct"),
        ((["a.csv"], ["a=x.csv", "a=y.csv"], []), r"another one of the tasks \['a'\]; got a=y"),
        (
            (["b=x.csv", "a_train.csv"], ["a_dev.csv", "b_dev.csv"], []),
            r"a_dev.csv stands where 'b' does, and is called as 'a_train'\. Put it there, or",
        ),
        ((["a.csv"], ["x.txt"], []), r"must end in \.jsonl"),
        ((["*.csv"], [], []), r"\*\.csv is a pattern\. Patterns are not .*: name each file"),
        ((["a.csv"], ["a=b-?.csv"], []), r"b-\?\.csv is a pattern"),
        (([""], [], []), r"A file must be named; got ''\. Write its path"),
    ],
)
def test_files_whose_task_cannot_be_told_are_refused(files, message):
    with pytest.raises(ValueError, match=message):
        own_data.pair_files(dict(zip(own_data.SPLITS, files, strict=True)))


def read(name, split):
    vocabulary.set_run_vocabulary(vocabulary.load_vocabulary(vocabulary.DEMO_VOCABULARY_PATH))
    dataset = seqio.TaskRegistry.get(name).get_dataset(None, split, shuffle=False)
    return list(dataset.as_numpy_iterator())


def test_files_become_tasks_of_a_mixture_by_size(tmp_path):
    files = [write(tmp_path / f"{name}.jsonl", *[ROW] * n) for name, n in (("a", 3), ("b", 1))]
    for _ in range(2):  # gin may call it again.
        name = own_data.mixture(
            files,
            inputs_templates=("{text}", "b: {word}"),
            targets_templates=("{word}",),
            metric_names=("accuracy", "squad, rouge"),
        )
    table = mixtures.mixing_table(name, "train")
    assert {task: (row.rate, row.num_examples) for task, row in table.items()} == {
        "a": (0.75, 3), "b": (0.25, 1),
    }  # fmt: skip
    [example] = read("b", "train")
    assert example["inputs_pretokenized"] == b"b: go"
    assert example["targets"][-1] == 1
    functions = seqio.TaskRegistry.get("b").metric_fns
    assert [function.__name__ for function in functions] == ["squad", "rouge"]


def test_a_mixture_keeps_its_files_when_another_is_made(tmp_path):
    files = [write(tmp_path / f"{name}.jsonl", *[ROW] * n) for name, n in (("a", 3), ("b", 1))]
    made = [
        own_data.mixture(
            [f"same={file}"], inputs_templates=("{text}",), targets_templates=("{word}",)
        )
        for file in files
    ]
    tasks = [mixtures.leaf_tasks(mixture, "train") for mixture in made]
    assert [task.num_input_examples("train") for (task,) in tasks] == [3, 1]


def test_own_files_make_the_examples_that_a_task_in_python_makes():
    own_data.mixture(
        test_files=[f"own={demo.FOLDER}/inflect/test.jsonl.gz"],
        inputs_templates=("inflect {form}: {word}",),
        targets_templates=("{answer}",),
    )
    ours, theirs = read("own", "test"), read("demo_inflect", "test")
    assert len(ours) == len(theirs)
    for one, other in zip(ours, theirs, strict=True):
        assert all(one[name].tolist() == other[name].tolist() for name in ("inputs", "targets"))


def test_a_mixture_may_have_other_rates(tmp_path):
    files = [write(tmp_path / f"{name}.jsonl", *[ROW] * n) for name, n in (("a", 3), ("b", 1))]
    name = own_data.mixture(
        files, inputs_templates=("{text}",), targets_templates=("{word}",), rates=mixing.Equal()
    )
    tasks = mixtures.leaf_tasks(name)
    assert mixtures.mixing_rates(name, tasks) == {"a": 0.5, "b": 0.5}


def test_no_file_is_opened_before_its_examples_are_asked_for(tmp_path):
    own_data.mixture([str(tmp_path / "later.jsonl")])
    with pytest.raises(ValueError, match=r"there is no file .*later\.jsonl"):
        seqio.TaskRegistry.get("later").num_input_examples("train")


def test_a_run_is_told_at_once_about_every_file(tmp_path):
    files = {split: write(tmp_path / f"{split}.jsonl", ROW) for split in own_data.SPLITS}
    (tmp_path / "test.jsonl").write_text('{"text": "a"\n')
    source = own_data.OwnFiles(files, rendering())
    assert source.missing("validation") is None
    for split in ("train", "test"):
        with pytest.raises(ValueError, match=r"line 1 of .*test\.jsonl is"):
            source.missing(split)


@pytest.mark.parametrize(
    ("first", "second"), [("train", "validation"), ("train", "test"), ("validation", "test")]
)
def test_scoring_on_what_was_seen_is_told(tmp_path, caplog, first, second):
    (tmp_path / "again.csv").write_text("text,word\nshe goes,go\n")
    (tmp_path / "own.csv").write_text("text,word\nhe goes,go\n")
    train = write(tmp_path / "train.jsonl", {"text": "she goes", "word": "go"})
    others = write(tmp_path / "others.jsonl", {"text": "she went", "word": "go"})
    for scored, is_told in ((train, True), (f"{tmp_path}/again.csv", True), (others, False)):
        caplog.clear()
        files = {"train": f"{tmp_path}/own.csv"} | {first: train, second: scored}
        own_data.OwnFiles(files, rendering("{text}", "{word}")).missing("train")
        told = [record.getMessage() for record in caplog.records]
        assert len(told) == is_told
        assert all(f"{first} and {second} are the same (" in text for text in told)
        assert all(f"Name other examples with --{second}_file" in text for text in told)


@pytest.mark.parametrize("metric", ["matthews_corrcoef", "pearson_corrcoef"])
@pytest.mark.parametrize("number", ["٣", "1_0", "²", "1,5"])  # Python reads the first two.
def test_a_number_that_a_model_does_not_write_is_told(metric, number):
    with pytest.raises(ValueError, match=rf"needs targets that are a .*number.* is '{number}'"):
        render({"a": "b", "n": number}, inputs="{a}", targets="{n}", metric=metric)


def test_a_file_keeps_how_its_quotes_are_read(tmp_path):
    (tmp_path / "x.tsv").write_text('a\tb\n"c"\td\n')
    examples = {}
    for quoting in ("csv", "none"):
        file = f"{tmp_path}/x.tsv?quoting={quoting}"
        source = own_data.OwnFiles({"train": file}, rendering("{a}", "{b}"))
        assert source.describe()["files"] == {"train": file}
        examples[quoting] = source.records("train")[0]["inputs"]
    assert examples == {"csv": "c", "none": '"c"'}


def test_a_fingerprint_is_of_the_examples(tmp_path):
    path, other = write(tmp_path / "a.jsonl", ROW), tmp_path / "b.csv"
    other.write_text("text,answer\nshe goes,goes\n")
    prints = [
        own_data.OwnFiles({"train": str(file)}, rendering(**templates)).fingerprint("train")
        for file, templates in (
            (path, {}), (other, {}), (path, {"inputs": "{text}."}), (path, {"targets": "{word}"}),
        )
    ]  # fmt: skip
    assert prints[0] == prints[1]
    assert len(set(prints)) == 3


@pytest.mark.parametrize("split", ["train", "validation"])
def test_a_mixture_is_checked_before_it_is_read(tmp_path, split):
    own_data.mixture(
        [write(tmp_path / "a.jsonl", ROW)], [write(tmp_path / "b.jsonl", {"txet": "a"})],
        inputs_templates=("{text}",), targets_templates=("{answer}",),
    )  # fmt: skip
    with pytest.raises(ValueError, match=r"line 1 of .*b\.jsonl has no 'text'"):
        mixtures.leaf_tasks(own_data.MIXTURE, split)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"inputs_templates": ("{a}",) * 3}, r"one --inputs_template for .*got 3 .* and 2 tasks\."),
        ({"targets_templates": ()}, "one --targets_template for all tasks, or one for each; got 0"),
        ({"metric_names": ("squad",) * 3}, "one --metric for .*one task are separated by commas"),
    ],
)
def test_a_flag_is_given_once_or_for_each_task(arguments, message):
    with pytest.raises(ValueError, match=message):
        own_data.mixture(["a.csv", "b.csv"], **arguments)


@pytest.mark.parametrize("name", ["taken", own_data.MIXTURE])
def test_a_registered_name_is_not_hidden(name):
    registration.add_task(
        "taken",
        source=seqio.FunctionDataSource(lambda split, shuffle_files: None, splits=["train"]),
        preprocessors=[],
        output_features=OUTPUT_FEATURES,
    )
    with pytest.raises(ValueError, match=rf"'{name}' is one\. Name it by --train_file=NAME=PATH"):
        own_data.mixture([f"{name}.csv"])
