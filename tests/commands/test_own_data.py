"""Own files in whole runs of a tiny model: trained on, evaluated, predicted for, or refused."""

import csv
import json
import pathlib
import shlex
import shutil

import gin
import pytest
import seqio

from hyperdecoders_jax.commands import configured, main, train
from hyperdecoders_jax.commands import flags as flags_lib
from hyperdecoders_jax.config import gin_binding, gin_files
from hyperdecoders_jax.data import mixtures, pipeline
from hyperdecoders_jax.tasks import demo, own_data  # noqa: F401 (registers the demo's tasks)
from tests.commands import test_train, tiny_runs

README = pathlib.Path(__file__).parents[2] / "README.md"

TINY = {name: value for name, value in test_train.TINY.items() if name != "MIXTURE_OR_TASK_NAME"}
EXPERIMENT = "--gin_file=experiments/demo_hyperdecoder.gin"
VERBS = ["walk", "jump", "climb", "paint", "clean", "open", "cook", "wash", "play", "look", "push"]
NUMBERS = {"cat": "cats", "fox": "foxes", "dog": "dogs", "box": "boxes", "cow": "cows"}
TEMPLATES = [
    "--inputs_template=past of {word} in: {text}",
    "--inputs_template=plural of {noun}",
    "--targets_template={past}",
    "--targets_template={plural}",
    "--metric=accuracy,squad",
    "--metric=accuracy",
]


def write_json_lines(path, count, targets=True):
    rows = [
        {"id": i, "word": verb, "text": f'they "{verb}", {i} times'}
        | ({"past": [f"{verb}ed", f"did {verb}"]} if targets else {})
        for i, verb in zip(range(count), VERBS * count, strict=False)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def write_csv(path, count):
    rows = list(NUMBERS.items()) * (count // len(NUMBERS))
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([("noun", "plural"), *rows])
    return path


def train_arguments(model_dir, *flags, **macros):
    macros = [f"--gin.{name}={value}" for name, value in {**TINY, **macros}.items()]
    return ["train", EXPERIMENT, f"--model_dir={model_dir}", *flags, *macros]


@pytest.fixture(autouse=True)
def _forget_tasks(forget_configuration):
    yield
    seqio.MixtureRegistry.remove("own_data")
    for name in ("past", "plural", "inflect", "find"):
        seqio.TaskRegistry.remove(name)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The folder of a run on 200 JSON lines and a CSV, and of its files."""
    folder = tmp_path_factory.mktemp("own")
    write_json_lines(folder / "past.jsonl", 200)
    write_json_lines(folder / "dev.jsonl", 20)
    write_csv(folder / "plural.csv", 50)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        arguments = train_arguments(
            "run", "--train_file=past.jsonl", "--train_file=plural.csv",
            "--validation_file=dev.jsonl", "--validation_file=plural.csv", *TEMPLATES,
        )  # fmt: skip
        assert main.main(arguments) == 0
    return folder


def test_a_run_learns_and_evaluates_a_task_for_each_file(trained):
    lines = map(json.loads, (trained / "run" / "metrics.jsonl").read_text().splitlines())
    kinds = {"step", "kind", "task"}
    metrics = {line["task"]: line.keys() - kinds for line in lines if line["kind"] == "eval"}
    assert metrics == {"past": {"accuracy", "em", "f1"}, "plural": {"accuracy"}}
    predictions = (trained / "run" / "eval" / "past" / "3.jsonl").read_text().splitlines()
    assert len(predictions) == TINY["EVAL_EXAMPLES"]
    assert json.loads(predictions[0])["input"] == 'past of walk in: they "walk", 0 times'
    assert json.loads(predictions[0])["target"] == "walked"


def test_a_run_keeps_its_files_wherever_it_is_evaluated_from(trained, tmp_path, capsys):
    assert f"'{trained}/past.jsonl'" in (trained / "run" / configured.SAVED_CONFIG).read_text()
    code = main.main(
        ["eval", f"--model_dir={trained}/run", f"--gin.EVAL_OUTPUT_DIR={tmp_path}/out"]
    )
    assert code == 0
    assert set(json.loads((tmp_path / "out" / "metrics-3.json").read_text())) == {"past", "plural"}
    assert "past" in capsys.readouterr().out


def test_predictions_are_made_for_files_without_targets(trained, tmp_path, monkeypatch):
    monkeypatch.chdir(write_json_lines(tmp_path / "new.jsonl", 7, targets=False).parent)
    code = main.main(["infer", f"--model_dir={trained}/run", "--test_file=past=new.jsonl",
                     f"--gin.INFER_OUTPUT_DIR={tmp_path}/out"])  # fmt: skip
    assert code == 0
    lines = (tmp_path / "out" / "past-test-3.jsonl").read_text().splitlines()
    assert [json.loads(line)["target"] for line in lines] == [""] * 7
    assert [json.loads(line)["id"] for line in lines] == [*range(7)]


def test_columns_come_back_with_predictions(trained, tmp_path, capsys):
    file = write_json_lines(tmp_path / "new.jsonl", 7, targets=False)
    infer = ["infer", f"--model_dir={trained}/run", f"--test_file=past={file}",
             f"--gin.INFER_OUTPUT_DIR={tmp_path}/out", "--gin.INFER_EXAMPLES=2"]  # fmt: skip
    assert main.main([*infer, "--keep=wrod"]) == 2
    message = f"line 1 of {file} has no 'wrod', but 'id', 'word', 'text'. Did you mean 'word'?"
    assert message in capsys.readouterr().err
    assert main.main([*infer, "--keep=input"]) == 2
    assert "columns that predictions do not have; got input" in capsys.readouterr().err
    assert main.main([*infer, "--keep=word"]) == 0
    lines = map(json.loads, (tmp_path / "out" / "past-test-3.jsonl").read_text().splitlines())
    assert [(line["id"], line["word"]) for line in lines] == [(0, "walk"), (1, "jump")]


def test_a_run_is_not_continued_with_other_rows_or_templates(trained, tmp_path, capsys):
    labels = (trained / "past.jsonl").read_text().replace("walked", "walkt")
    (tmp_path / "past.jsonl").write_text(labels)
    before = (trained / "run" / configured.SAVED_CONFIG).read_text()
    templates = ["--inputs_template=tense of {word}", *TEMPLATES[1:]]
    for file, flags, message in (
        (trained / "past.jsonl", templates, "sources.past.inputs is 'past of {word} in: {text}'"),
        (tmp_path / "past.jsonl", TEMPLATES, "sources.past.train_examples is "),
    ):
        arguments = train_arguments(
            trained / "run", f"--train_file={file}", f"--train_file={trained}/plural.csv",
            f"--validation_file={trained}/dev.jsonl", f"--validation_file={trained}/plural.csv",
            *flags, TRAIN_STEPS=6,
        )  # fmt: skip
        assert main.main(arguments) == 2
        assert message in capsys.readouterr().err
    assert (trained / "run" / configured.SAVED_CONFIG).read_text() == before


def test_metrics_need_targets(trained, tmp_path, capsys):
    file = write_json_lines(tmp_path / "new.jsonl", 7, targets=False)
    assert main.main(["eval", f"--model_dir={trained}/run", f"--test_file=past={file}"]) == 2
    assert f"line 1 of {file} has no 'past'" in capsys.readouterr().err


def test_the_end_of_a_training_says_where_the_model_is_and_how_to_use_it():
    own_data.mixture(["mail=a.csv"], targets_templates=["{label}"])
    run = tiny_runs.make_config(
        data=pipeline.PipelineConfig(own_data.MIXTURE, tiny_runs.LENGTHS), model_dir="my run"
    )
    told = train.how_to_use(run)
    assert told.startswith("The model is in my run. To use it:\n")
    assert "hyperdecoders infer --model_dir='my run' --test_file=ROWS.jsonl\n" in told
    assert "hyperdecoders_jax.load('my run').predict([TEXT])" in told
    assert "--input=LINES.txt" in train.how_to_use(tiny_runs.make_config(model_dir="run"))
    seqio.TaskRegistry.remove("mail")


# What is refused, before anything is written.


def refused(tmp_path, capsys, *flags):
    assert main.main(train_arguments(tmp_path / "run", *flags)) == 2
    assert not (tmp_path / "run").exists()
    return capsys.readouterr().err


@pytest.mark.parametrize("split", ["train", "validation", "test"])
def test_a_broken_line_is_told_with_its_file_and_number(tmp_path, capsys, split):
    good = write_json_lines(tmp_path / "past.jsonl", 9)
    broken = tmp_path / "broken.jsonl"
    broken.write_text(good.read_text() + '{"word": "run", "past": \n')
    files = {"train": good, "validation": good, "test": good} | {split: broken}
    flags = [f"--{name}_file={file}" for name, file in files.items()]
    message = refused(tmp_path, capsys, *flags, "--inputs_template={word}",
                      "--targets_template={past}")  # fmt: skip
    assert f'line 10 of {broken} is \'{{"word": "run", "past": \'' in message


def test_a_missing_column_is_told_with_the_columns(tmp_path, capsys):
    file = write_csv(tmp_path / "plural.csv", 10)
    message = refused(tmp_path, capsys, f"--train_file={file}", "--inputs_template={nuon}",
                      "--targets_template={plural}")  # fmt: skip
    assert f"line 2 of {file} has no 'nuon'. Its columns are 'noun', 'plural'" in message
    assert "Did you mean 'noun'?" in message
    message = refused(tmp_path, capsys, f"--train_file={file}")
    assert "has no 'inputs'. Its columns are 'noun', 'plural'" in message


def test_files_that_do_not_pair_are_told(tmp_path, capsys):
    message = refused(tmp_path, capsys, "--train_file=a.csv", "--train_file=b.csv",
                      "--validation_file=c.csv")  # fmt: skip
    assert "one --validation_file for each of the 2 tasks ['a', 'b']" in message


def test_flags_of_own_data_need_a_file(tmp_path, capsys):
    assert "Own data must be in a file; got none" in refused(tmp_path, capsys, "--metric=squad")
    for flags in ([], ["--train_file=a.jsonl"]):
        message = refused(tmp_path, capsys, "--quoting=csv", *flags)
        assert "--quoting must go with the tables (.csv, .tsv) that it is meant for" in message


def test_train_needs_files_to_train_on(tmp_path, capsys):
    file = write_csv(tmp_path / "plural.csv", 10)
    message = refused(tmp_path, capsys, f"--validation_file={file}")
    assert f"must be given files to train on; got others alone: {file}. Add --train" in message


@pytest.mark.parametrize("name", ["..", ".", "__", "a" * 151])
def test_a_name_that_is_no_folder_s_is_refused(tmp_path, capsys, name):
    file = write_csv(tmp_path / "plural.csv", 10)
    message = refused(tmp_path, capsys, f"--train_file={name}={file}")
    assert "A task's name must hold a letter or digit, and at most 150 bytes" in message
    assert "Write NAME=FILE with another name" in message


# What flags bind.


RUN_FILES = ("runs/embedded/train.gin", "experiments/demo_hyperdecoder.gin")


def bound(command, *flags, files=RUN_FILES):
    args = main.make_parser().parse_args([command, *flags])
    given, bindings = flags_lib.own_data(args, files, [])
    text = gin_files.read(given, bindings)
    return {name: value for name, (value, _) in text.macro_values.items()}


def test_paths_are_those_of_this_folder_and_keep_their_names(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/home/me")
    flags = ["--train_file=a.csv", "--train_file=b=../b.csv", "--train_file=~/k=v.csv",
             "--train_file=gs://b/c.csv", "--train_file=my-task=x.jsonl", "--train_file=k=v.csv",
             "--train_file=c=d.tsv", "--quoting=none"]  # fmt: skip
    (tmp_path / "k=v.csv").touch()
    assert bound("train", *flags)["TRAIN_FILES"] == (
        f"{tmp_path}/a.csv?quoting=none",
        f"b={tmp_path.parent}/b.csv?quoting=none",
        "/home/me/k=v.csv?quoting=none",
        "gs://b/c.csv?quoting=none",
        f"my-task={tmp_path}/x.jsonl",
        f"{tmp_path}/k=v.csv?quoting=none",
        f"c={tmp_path}/d.tsv?quoting=none",
    )


def test_without_flags_nothing_is_bound():
    args = main.make_parser().parse_args(["train"])
    assert flags_lib.own_data(args, ["experiments/demo_hyperdecoder.gin"], []) == (
        ["experiments/demo_hyperdecoder.gin"],
        [],
    )


@pytest.mark.parametrize(
    ("command", "flags", "split"),
    [
        ("train", ["--train_file=a.csv"], ("EVAL_SPLIT", None)),
        ("train", ["--train_file=a.csv", "--validation_file=b.csv"], ("EVAL_SPLIT", "validation")),
        ("eval", ["--test_file=c.csv"], ("EVAL_SPLIT", "test")),
        ("eval", ["--validation_file=b.csv"], ("EVAL_SPLIT", "validation")),
        ("infer", ["--test_file=c.csv"], ("INFER_SPLIT", "test")),
        ("infer", ["--validation_file=b.csv"], ("INFER_SPLIT", "validation")),
    ],
)
def test_the_split_is_that_of_the_files(command, flags, split):
    name, value = split
    assert bound(command, *flags)[name] == value


def test_the_files_of_a_configuration_stay_where_flags_name_none(tmp_path):
    saved = tmp_path / "config.gin"
    saved.write_text(
        "include 'experiments/demo_hyperdecoder.gin'\ninclude 'mixtures/own_data.gin'\n"
        "TRAIN_FILES = ('a.csv',)\nMETRICS = ('squad',)\n"
    )
    macros = bound("infer", "--test_file=/c.csv", files=[str(saved)])
    assert macros["TRAIN_FILES"] == ("a.csv",)
    assert macros["TEST_FILES"] == ("/c.csv",)
    assert macros["METRICS"] == ("squad",)
    assert macros["ARE_TARGETS_REQUIRED"] is False
    assert bound("eval", files=[str(saved)])["ARE_TARGETS_REQUIRED"] is True


def test_the_files_of_the_readme_are_there_and_fit_its_templates(monkeypatch):
    block = README.read_text().split("## Train on your own file")[1].split("```")[1]
    monkeypatch.chdir(README.parent)
    lines = block.removeprefix("sh\n").replace("\\\n", " ").splitlines()
    macros = []
    for program, command, *arguments in map(shlex.split, lines):
        assert program == "hyperdecoders"
        flags, _ = main.split_gin_flags(arguments)
        macros.append(bound(command, *flags))
    train, evaluate = macros
    own_data.mixture(
        train["TRAIN_FILES"],
        test_files=evaluate["TEST_FILES"],
        inputs_templates=train["INPUTS_TEMPLATES"],
        targets_templates=train["TARGETS_TEMPLATES"],
        metric_names=train["METRICS"],
    )
    tasks = mixtures.leaf_tasks(own_data.MIXTURE, "train")
    assert [task.num_input_examples("train") for task in tasks] == [3969, 5000]


def test_a_template_that_a_folder_cannot_tell_is_told(tmp_path, capsys):
    file = write_csv(tmp_path / "plural.csv", 10)
    template = ["--inputs_template={word}"]
    for options, is_told in (
        (["--init=run"], True), (["--init=run", *template], False), (["--model_dir=run"], False),
    ):  # fmt: skip
        args = main.make_parser().parse_args(["eval", f"--test_file={file}", *options])
        flags_lib.own_data(args, ["mixtures/demo.gin"], [])
        assert ("{inputs} is used" in capsys.readouterr().err) == is_told


def test_files_are_read_with_the_templates_of_the_run_that_predicts(trained, tmp_path, capsys):
    run = json.loads((trained / "run" / "config.json").read_text())
    for name in ("past", "plural"):  # As of a run whose tasks have all the same texts.
        run["data"]["tasks"][name] |= {"inputs": "{word}", "metrics": ["rouge"], "targets": "{a}"}
    shutil.copytree(trained / "run", tmp_path / "alike")
    (tmp_path / "alike" / "config.json").write_text(json.dumps(run))
    past, plural = TEMPLATES[0].partition("=")[2], TEMPLATES[1].partition("=")[2]
    for command, options, expected in (
        ("eval", ["--test_file=past=x.csv"], (past,)),
        ("infer", ["--test_file=plural=x.csv", "--test_file=past=y.csv"], (plural, past)),
        ("eval", ["--test_file=past=x.csv", "--inputs_template={word}"], ("{word}",)),
        ("eval", ["--test_file=x.csv"], None),  # Of the two tasks' templates, which?
        ("train", ["--train_file=past=x.csv"], None),
    ):
        macros = bound(command, f"--init={trained}/run", *options)
        assert macros["INPUTS_TEMPLATES"] == (expected or ("{inputs}",))
        assert ("{inputs} is used" in capsys.readouterr().err) == (expected is None)
    macros = bound("infer", f"--init={tmp_path}/alike", "--test_file=x.csv")
    assert macros["INPUTS_TEMPLATES"] == ("{word}",)
    assert (macros["TARGETS_TEMPLATES"], macros["METRICS"]) == (("{a}",), ("rouge",))
    for data in ({}, {"tasks": {"past": {"kind": "own_data"}}}):
        (tmp_path / "alike" / "config.json").write_text(json.dumps(run | {"data": data}))
        for command in (
            f"eval --init={tmp_path}/alike",
            f"analyze --checkpoint={tmp_path}/alike --output=/x",
        ):
            assert main.main([*command.split(), "--test_file=x.csv"]) == 2
            assert "must say what its run reads and evaluates" in capsys.readouterr().err


def test_a_flag_sets_the_rates(tmp_path):
    file = write_csv(tmp_path / "plural.csv", 10)
    args = main.make_parser().parse_args(["train", f"--train_file={file}"])
    files, bindings = flags_lib.own_data(args, RUN_FILES, [])
    rates = "own_data.mixture.rates = @mixing.Equal()"
    bindings += [rates, "MODEL_DIR = '/nowhere'"]
    gin_binding.parse(gin_files.read(files, bindings))
    macro = gin.query_parameter("MIXTURE_OR_TASK_NAME/gin.macro.value")
    assert macro.scoped_configurable_fn().name == own_data.MIXTURE
    assert seqio.MixtureRegistry.get(own_data.MIXTURE).total_rate == 1.0
