"""What analyze is told by flags; studies are in tests/analysis, a whole one is made by the demo."""

import dataclasses

import gin
import pytest

from hyperdecoders_jax import errors
from hyperdecoders_jax.commands import analyze, flags, main
from hyperdecoders_jax.config import gin_binding
from hyperdecoders_jax.decoding import sampling
from hyperdecoders_jax.model import Model
from tests import tiny
from tests.commands import tiny_runs


def parse(*arguments):
    return main.make_parser().parse_args(["analyze", *arguments])


def given(*arguments, gin_flags=()):
    return analyze.what_is_analysed(parse(*arguments), gin_flags)


def bound(*arguments, gin_flags=()):
    """What gin hands to `analyze`."""
    text = given(*arguments, gin_flags=gin_flags).first("runs/embedded/analyze.gin").read()
    gin_binding.parse(text, readers=flags.TRAIN_FILES)
    values = gin.get_bindings("analyze_script.analyze")
    gin.clear_config()
    return values


def test_flags_say_what_is_analysed(tmp_path):
    described = tiny_runs.write_run(tmp_path / "run")
    arguments = [f"--checkpoint={tmp_path}/run", f"--output={tmp_path}"]
    analysed = bound(*arguments, "--mixture=demo_topic", "--num_examples=7")
    run = analysed["run"]
    assert run.data.mixture_or_task_name == "demo_topic"
    assert run.evaluation.num_examples == 7
    assert run.start.initial_checkpoint_path == str(tmp_path / "run")
    assert analysed["checkpoint_step"] == "best"
    assert (run.model_dir, run.start.vocabulary) == (None, "bytes")
    assert run.data.task_feature_lengths == tiny_runs.LENGTHS
    expected = described.description.model
    assert dataclasses.replace(run.model.config, dropout_rate=expected.dropout_rate) == expected


def test_a_run_is_analysed_on_what_it_evaluated(tmp_path):
    generation = {"demo_find": [4, 2]}
    tiny_runs.write_run(tmp_path, eval_batch_size=3, generation=generation, eval_split="test")
    analysed = bound(f"--checkpoint={tmp_path}", "--output=x", gin_flags=[("CHECKPOINT_STEP", "9")])
    run = analysed["run"]
    assert run.data.mixture_or_task_name == "demo"
    assert (run.data.batch_size, run.eval_batch_size, run.data.use_cached) == (4, 3, False)
    assert (run.evaluation.split, run.evaluation.num_examples) == ("test", 5)
    assert run.evaluation.generation == generation
    assert analysed["checkpoint_step"] == 9


def test_the_splits_of_a_run_are_made_again(tmp_path):
    source = {"kind": "subset", "splits": {"split_validation_test": True, "num_train": 7}}
    tasks = {"glue_rte_v200": source, "glue_cola_v200": source}
    tiny_runs.write_run(tmp_path, mixture="mixed", tasks=tasks)
    analysed = given(f"--checkpoint={tmp_path}", "--output=x")
    assert analysed.gin_files[-1] == "runs/resplit.gin"
    text = analysed.first("runs/embedded/analyze.gin").read()
    gin_binding.parse(text, readers=flags.TRAIN_FILES)
    splits = gin.get_bindings("splits.SplitConfig")
    mixture = gin.get_bindings("mixing.mixture", resolve_references=False)
    gin.clear_config()
    assert (splits["split_validation_test"], splits["num_train"]) == (True, 7)
    assert mixture["tasks"] == ("glue_rte_v200", "glue_cola_v200")
    # A mixture of another name has the splits that it is registered with.
    analysed = given(f"--checkpoint={tmp_path}", "--output=x", "--mixture=demo")
    assert not any(line.startswith(("SplitConfig", "mixing")) for line in analysed.bindings)


def test_a_name_of_a_split_s_field_says_nothing_else(tmp_path):
    hostile = {"seed = 1\nMODEL_DIR = @subprocess.getoutput()\nsubprocess.getoutput.cmd": "touch x"}
    source = {"kind": "subset", "splits": hostile}
    tiny_runs.write_run(tmp_path, tasks={"glue_rte_v200": source})
    with pytest.raises(ValueError, match=r"must say by names how its data are split; got \['seed"):
        given(f"--checkpoint={tmp_path}", "--output=x")


def of_files(task, **files):
    return {
        "kind": "own_data", "files": files, "inputs": f"{task}: {{text}}", "targets": "{label}",
        "metrics": ["accuracy", "squad"],
    }  # fmt: skip


def test_the_files_of_a_run_are_those_of_its_analysis(tmp_path):
    tasks = {
        "mail": of_files("mail", train="/a.csv", validation="/b.csv"),
        "news": of_files("news", train="/c.csv"),
    }
    tiny_runs.write_run(tmp_path, mixture="own_data", tasks=tasks)
    analysed = given(f"--checkpoint={tmp_path}", "--output=x")
    assert analysed.gin_files[-1] == flags.OWN_DATA_FILE
    macros = {name: value for name, (value, _) in analysed.read().macro_values.items()}
    assert macros["TRAIN_FILES"] == ("mail=/a.csv", "news=/c.csv")
    assert macros["VALIDATION_FILES"] == ("mail=/b.csv",)
    assert macros["INPUTS_TEMPLATES"] == ("mail: {text}", "news: {text}")
    assert macros["TARGETS_TEMPLATES"] == ("{label}", "{label}")
    assert macros["METRICS"] == ("accuracy,squad", "accuracy,squad")
    assert macros["EVAL_SPLIT"] == "validation"
    assert "MIXTURE_OR_TASK_NAME = @own_data.mixture()" in analysed.bindings
    # Files of another split take its place; what they are made of stays.
    analysed = given(f"--checkpoint={tmp_path}", "--output=x", "--test_file=mail=/d.csv")
    macros = {name: value for name, (value, _) in analysed.read().macro_values.items()}
    assert (macros["EVAL_SPLIT"], macros["TEST_FILES"]) == ("test", ("mail=/d.csv",))
    assert macros["TRAIN_FILES"] == ("mail=/a.csv", "news=/c.csv")


def test_a_run_of_an_earlier_version_says_what_writes_its_description(tmp_path):
    (tmp_path / "config.gin").write_text("include 'experiments/demo_hyperdecoder.gin'\n")
    with pytest.raises(errors.UsageError, match=rf"hyperdecoders upgrade --model_dir={tmp_path}"):
        given(f"--checkpoint={tmp_path}", "--output=x", "--mixture=demo")


def test_a_file_of_ones_own_names_the_split(tmp_path):
    file = tmp_path / "mine.csv"
    file.write_text("inputs,targets\na,b\n")
    analysed = given(
        f"--checkpoint={tmp_path}", "--output=x", f"--test_file={file}", "--mixture=own_data"
    )
    assert analysed.gin_files[-1] == flags.OWN_DATA_FILE
    assert "EVAL_SPLIT = 'test'" in analysed.bindings
    assert "MIXTURE_OR_TASK_NAME = @own_data.mixture()" in analysed.bindings


def test_an_exported_folder_is_analysed_on_a_file_of_ones_own(tmp_path):
    file = tmp_path / "mine.csv"
    file.write_text("inputs,targets\na,b\n")
    analysed = given(f"--checkpoint={tmp_path}", "--output=x", f"--test_file={file}")
    assert analysed.gin_files[-1] == flags.OWN_DATA_FILE
    assert not any(binding.startswith("MIXTURE_OR_TASK_NAME") for binding in analysed.bindings)


def test_an_exported_folder_is_analysed_as_it_is(tmp_path):
    analysed = given(f"--checkpoint={tmp_path}", "--output=x", "--mixture=demo")
    assert analysed.gin_files[0] == flags.INIT_FILE
    assert f"INITIAL_CHECKPOINT_PATH = '{tmp_path}'" in analysed.bindings
    assert "CHECKPOINT_STEP = None" in analysed.bindings


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--checkpoint={}/none"], r"must be the model directory .*/none, which is no folder"),
        (["--checkpoint={}"], r"does not say what to analyse it on; .* Add --mixture=NAME"),
        (["--checkpoint={}", "--mixture=own_data"], r"name no data\. .*--test_file=FILE"),
        (
            ["--checkpoint={}/run/checkpoints/50"],
            r"got .*, one checkpoint of a run\. Pass --checkpoint=.*/run --gin\.CHECKPOINT_STEP=50",
        ),
        (["--checkpoint={}", "--model_dir=run"], r"told its model by --checkpoint; .*=run, too"),
    ],
)
def test_flags_that_name_no_model_are_refused(arguments, message, tmp_path):
    (tmp_path / "run" / "checkpoints" / "50").mkdir(parents=True)
    with pytest.raises(errors.UsageError, match=message):
        given(*(flag.format(tmp_path) for flag in arguments), "--output=x")


def test_an_unwritable_folder_is_refused(tmp_path):
    file = tmp_path / "file"
    file.write_text("")
    with pytest.raises(
        ValueError, match=r"folder of an analysis must be .* name another path\. --output"
    ):
        analyze.analyze(tiny_runs.make_config(), None, str(file))


def test_a_way_of_decoding_is_checked_before_anything_is_read():
    short = Model(tiny.make_config(), decoding=sampling.GreedyConfig(min_len=9))
    with pytest.raises(ValueError, match=r"must fit into the length of targets; .*min_len=9"):
        tiny_runs.make_config(model=short)


def test_an_analysis_without_a_split_is_refused():
    with pytest.raises(ValueError, match=r"needs a split; got EVAL_SPLIT = None.*--gin.EVAL_SPLIT"):
        analyze.analyze(tiny_runs.make_config(split=None), None, "x")


def test_what_draws_must_be_installed(monkeypatch):
    monkeypatch.setattr(analyze, "PLOTTING", ("matplotlib", "no_such_package"))
    with pytest.raises(ImportError, match=r"missing: no_such_package.*hyperdecoders_jax\[plots\]"):
        analyze.analyze(tiny_runs.make_config(), None, "x")
