"""What the demo compares: a method is an experiment, and the default is the quickstart's table."""

import pytest

from hyperdecoders_jax.commands import demo, main
from hyperdecoders_jax.config import gin_files
from hyperdecoders_jax.training import run_lock


@pytest.mark.parametrize("method", demo.METHODS)
def test_a_method_of_the_demo_is_an_experiment_on_its_frozen_t5(method):
    file = f"experiments/demo_{method}.gin"
    macros = gin_files.read([file]).macro_values
    assert macros["INITIAL_CHECKPOINT_PATH"][0] == "package://tasks/demo_data/demo_t5.safetensors"
    assert macros["MIXTURE_OR_TASK_NAME"][0] == demo.MIXTURE


def test_the_same_batches_are_seen_by_every_method():
    files = [f"experiments/demo_{method}.gin" for method in demo.METHODS]
    macros = [gin_files.read([file]).macro_values for file in files]
    for name in ("TRAIN_STEPS", "BATCH_SIZE", "TASK_FEATURE_LENGTHS"):
        assert len({str(values[name][0]) for values in macros}) == 1
    assert not any("RANDOM_SEED" in values for values in macros)


def test_a_method_that_the_demo_lacks_is_told(capsys):
    with pytest.raises(SystemExit):
        main.main(["demo", "--methods", "single_adapter", "hypergrd"])
    message = capsys.readouterr().err
    assert "invalid choice: 'hypergrd'" in message
    assert "hypergrid_all_weights" in message


def test_a_run_that_a_signal_stopped_has_no_scores(tmp_path):
    assert demo.read_scores(str(tmp_path)) == {}
    lines = ['{"step": 100, "kind": "train", "loss": 1.0}']
    (tmp_path / "metrics.jsonl").write_text("\n".join(lines))
    assert demo.read_scores(str(tmp_path)) == {}
    lines += [f'{{"step": {step}, "kind": "eval", "task": "a", "em": {step}.0}}' for step in (5, 9)]
    (tmp_path / "metrics.jsonl").write_text("\n".join(lines))
    assert demo.read_scores(str(tmp_path)) == {"a": 9.0}


def test_a_run_that_is_being_written_is_not_removed(tmp_path, capsys):
    run = tmp_path / "demo_hyperdecoder"
    with run_lock.held(run):
        assert main.main(["demo", f"--output={tmp_path}", "--methods", "hyperdecoder"]) == 2
        assert f"{run} is being written by process" in capsys.readouterr().err
        assert (run / run_lock.FILE).exists()
