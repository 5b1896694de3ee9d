"""What the demo compares: methods are experiments on one frozen T5 and the same batches."""

import json

import pytest
import seqio

from hyperdecoders_jax.commands import demo, main
from hyperdecoders_jax.config import gin_files
from hyperdecoders_jax.tasks import mixtures as _  # noqa: F401 (registers the demo)


@pytest.mark.parametrize("method", demo.METHODS)
def test_a_method_of_the_demo_is_an_experiment_on_its_frozen_t5(method):
    file = f"experiments/demo_{method}.gin"
    macros = gin_files.read([file]).macro_values
    assert macros["INITIAL_CHECKPOINT_PATH"][0] == "package://tasks/demo_data/demo_t5.safetensors"
    assert macros["MIXTURE_OR_TASK_NAME"][0] == "demo"


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


def test_the_demo_is_a_comparison_that_the_parser_takes():
    line = demo.comparison("out", demo.DEFAULT_METHODS, ["--gin.TRAIN_STEPS=3"])
    others, gin_flags = main.split_gin_flags(line)
    args = main.make_parser().parse_args(others)
    assert (args.command, args.select_on, args.split) == ("compare", "none", None)
    assert gin_flags[-1] == ("TRAIN_STEPS", "3")
    assert len(args.method) == 2


def test_the_demo_runs_to_its_table(tmp_path, capsys, monkeypatch, forget_configuration):
    monkeypatch.setattr(demo, "SEEDS", "1")
    # Two of its six tasks, which all take a while to read.
    names = ["demo_relation", "demo_topic"]
    seqio.MixtureRegistry.add("two_of_demo", names, default_rate=1)
    few = (
        "TRAIN_STEPS=1",
        "BATCH_SIZE=6",
        "EVAL_BATCH_SIZE=60",
        "MIXTURE_OR_TASK_NAME=two_of_demo",
    )
    # Known already: classifiers without a T5 have tests of their own.
    (tmp_path / "floors.json").write_text(json.dumps({name: {} for name in names}))
    line = ["demo", "--output", str(tmp_path), "--methods", "single_adapter"]
    try:
        assert main.main([*line, *(f"--gin.{macro}" for macro in few)]) == 0
    finally:
        seqio.MixtureRegistry.remove("two_of_demo")
    assert "demo_relation" in (tmp_path / "table.txt").read_text()
    assert f"--model_dir={tmp_path}/single_adapter/seed-1" in capsys.readouterr().out
