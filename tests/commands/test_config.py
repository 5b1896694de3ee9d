"""`hyperdecoders config`: values that an experiment resolves to, without running anything."""

import sys
import time

import gin
import pytest

from hyperdecoders_jax.commands import main

EXPERIMENT = "experiments/demo_hyperdecoder.gin"


def resolved(capsys, *arguments):
    """Lines by the name that they set."""
    assert main.main(["config", *arguments]) == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if " = " in line]
    return {line.split(" = ")[0].strip(): line.split(" = ", 1)[1] for line in lines}


def test_every_value_has_the_place_where_it_was_set(capsys):
    values = resolved(capsys, EXPERIMENT, "--gin.BATCH_SIZE=7")
    assert values["BATCH_SIZE"].split() == ["7", "--gin.BATCH_SIZE=7"]
    value, where = values["MIXTURE_OR_TASK_NAME"].split()
    assert (value, where.split(":")[0]) == ("'demo'", "mixtures/demo.gin")
    assert values["batch_size"].startswith(("%BATCH_SIZE (7)", "%EVAL_BATCH_SIZE"))
    assert values["MODEL_DIR"].startswith("%gin.REQUIRED") or "must be set" in values["MODEL_DIR"]


def test_nothing_is_bound_or_imported(capsys):
    before = set(sys.modules)
    start = time.monotonic()
    resolved(capsys, EXPERIMENT)
    assert time.monotonic() - start < 5
    assert gin.config_str() == ""
    new = {name for name in set(sys.modules) - before if name.startswith("hyperdecoders_jax")}
    assert all(name.startswith("hyperdecoders_jax.config") for name in new), new


def test_a_runner_of_another_kind_reads_other_files(capsys):
    assert main.main(["config", "--runner=t5x", f"--gin_file={EXPERIMENT}"]) == 0
    out = capsys.readouterr().out
    assert "runs/t5x/train.gin" in out
    assert "runs/embedded/train.gin" not in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "config needs an experiment; got none. Write hyperdecoders config"),
        (["experiments/demo_hyperdecodr.gin"], "Did you mean 'experiments/demo_hyperdecoder.gin'?"),
    ],
)
def test_what_is_no_experiment_is_told(capsys, arguments, message):
    assert main.main(["config", *arguments]) == 2
    assert message in capsys.readouterr().err
