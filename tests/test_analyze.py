"""What analyze is told by flags; studies are in tests/analysis, a whole one is made by the demo."""

import gin
import pytest

from hyperdecoders_jax import analyze, cli, configuration


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
    configuration.parse(files, bindings, folders, readers=cli.TRAIN_FILES)
    bound = gin.get_bindings("analyze_script.analyze")
    trained = gin.get_bindings("preparation.TrainedConfig")
    gin.clear_config()
    assert (bound["mixture_or_task_name"], bound["num_examples"]) == ("demo_topic", 7)
    assert trained["model_dir"] == str(run)


def test_an_exported_folder_is_analysed_as_it_is(tmp_path):
    args = parse(f"--checkpoint={tmp_path}", "--output=x", "--mixture=demo")
    files, bindings, _ = cli.what_is_given(args, [])
    assert files[0] == cli.INIT_FILE
    assert f"INITIAL_CHECKPOINT_PATH = '{tmp_path}'" in bindings
    assert "CHECKPOINT_STEP = None" in bindings


def study(split):
    return analyze.analyze(
        trained=None,
        mixture_or_task_name="demo",
        task_feature_lengths={},
        split=split,
        batch_size=4,
        eval_batch_size=None,
        num_examples=None,
        generation=None,
        output_dir="x",
    )


def test_an_analysis_without_a_split_is_refused():
    with pytest.raises(ValueError, match=r"needs a split; got EVAL_SPLIT = None.*--gin.EVAL_SPLIT"):
        study(split=None)


def test_what_draws_must_be_installed(monkeypatch):
    monkeypatch.setattr(analyze, "PLOTTING", ("matplotlib", "no_such_package"))
    with pytest.raises(ImportError, match=r"missing: no_such_package.*hyperdecoders_jax\[plots\]"):
        study(split="test")
