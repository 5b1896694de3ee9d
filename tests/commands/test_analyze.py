"""What analyze is told by flags; studies are in tests/analysis, a whole one is made by the demo."""

import types

import gin
import pytest

from hyperdecoders_jax import errors
from hyperdecoders_jax.commands import analyze, cli
from hyperdecoders_jax.config import gin_binding, gin_files
from hyperdecoders_jax.decoding import sampling
from hyperdecoders_jax.model import Model
from tests import tiny


def parse(*flags):
    return cli.make_parser().parse_args(["analyze", *flags])


def test_flags_say_what_is_analysed(tmp_path):
    run = tmp_path / "run"
    run.mkdir()
    (run / "config.gin").write_text("include 'experiments/demo_hyperdecoder.gin'\n")
    args = parse(
        f"--checkpoint={run}", f"--output={tmp_path}", "--mixture=demo_topic", "--num_examples=7"
    )
    files, bindings, folders = cli.what_is_given(args, [])
    files = cli.with_run_file(files, "runs/embedded/analyze.gin", folders)
    text = gin_files.read(files, bindings, folders)
    gin_binding.parse(text, readers=cli.TRAIN_FILES)
    bound = gin.get_bindings("analyze_script.analyze")
    trained = gin.get_bindings("preparation.TrainedConfig")
    gin.clear_config()
    assert (bound["mixture_or_task_name"], bound["num_examples"]) == ("demo_topic", 7)
    assert trained["model_dir"] == str(run)


def test_a_file_of_ones_own_names_the_split(tmp_path):
    file = tmp_path / "mine.csv"
    file.write_text("inputs,targets\na,b\n")
    args = parse(
        f"--checkpoint={tmp_path}", "--output=x", f"--test_file={file}", "--mixture=own_data"
    )
    files, bindings, _ = cli.what_is_given(args, [])
    assert files[-1] == cli.OWN_DATA_FILE
    assert "EVAL_SPLIT = 'test'" in bindings
    assert "MIXTURE_OR_TASK_NAME = @own_data.mixture()" in bindings


def test_an_exported_folder_is_analysed_on_a_file_of_ones_own(tmp_path):
    file = tmp_path / "mine.csv"
    file.write_text("inputs,targets\na,b\n")
    args = parse(f"--checkpoint={tmp_path}", "--output=x", f"--test_file={file}")
    files, bindings, _ = cli.what_is_given(args, [])
    assert files[-1] == cli.OWN_DATA_FILE
    assert not any(binding.startswith("MIXTURE_OR_TASK_NAME") for binding in bindings)


def test_an_exported_folder_is_analysed_as_it_is(tmp_path):
    args = parse(f"--checkpoint={tmp_path}", "--output=x", "--mixture=demo")
    files, bindings, _ = cli.what_is_given(args, [])
    assert files[0] == cli.INIT_FILE
    assert f"INITIAL_CHECKPOINT_PATH = '{tmp_path}'" in bindings
    assert "CHECKPOINT_STEP = None" in bindings


@pytest.mark.parametrize(
    ("flags", "message"),
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
def test_flags_that_name_no_model_are_refused(flags, message, tmp_path):
    (tmp_path / "run" / "checkpoints" / "50").mkdir(parents=True)
    args = parse(*(flag.format(tmp_path) for flag in flags), "--output=x")
    with pytest.raises(errors.UsageError, match=message):
        cli.what_is_given(args, [])


def test_an_unwritable_folder_is_refused(tmp_path):
    file = tmp_path / "file"
    file.write_text("")
    with pytest.raises(
        ValueError, match=r"folder of an analysis must be .*Choose another --output"
    ):
        study(split="test", output_dir=str(file))


def test_a_way_of_decoding_is_checked_before_anything_is_read(tmp_path):
    short = Model(tiny.make_config(), decoding=sampling.GreedyConfig(min_len=9))
    trained = types.SimpleNamespace(model=short)
    with pytest.raises(ValueError, match=r"must fit into the length of targets; .*min_len=9"):
        study(split="test", trained=trained, output_dir=str(tmp_path))


def study(split, trained=None, output_dir="x"):
    return analyze.analyze(
        trained=trained,
        mixture_or_task_name="demo",
        task_feature_lengths={"inputs": 8, "targets": 4},
        split=split,
        batch_size=4,
        eval_batch_size=None,
        num_examples=None,
        generation=None,
        output_dir=output_dir,
    )


def test_an_analysis_without_a_split_is_refused():
    with pytest.raises(ValueError, match=r"needs a split; got EVAL_SPLIT = None.*--gin.EVAL_SPLIT"):
        study(split=None)


def test_what_draws_must_be_installed(monkeypatch):
    monkeypatch.setattr(analyze, "PLOTTING", ("matplotlib", "no_such_package"))
    with pytest.raises(ImportError, match=r"missing: no_such_package.*hyperdecoders_jax\[plots\]"):
        study(split="test")
