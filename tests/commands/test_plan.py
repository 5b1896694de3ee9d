"""The command line of `plan`: what reaches the compiler, and what is told."""

import dataclasses
import importlib.util
import json
import re

import pytest

from hyperdecoders_jax.commands import main
from hyperdecoders_jax.commands import plan as command
from hyperdecoders_jax.planning.estimate import Choice
from tests.planning import test_estimate

EXPERIMENT = "--gin_file=experiments/demo_hyperdecoder.gin"


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--model_parallel=1,two"], r"--model_parallel must be whole numbers .* got '1,two'\. Wr"),
        (
            ["--model=t5_1_1_xxxl"],
            r"--model must name a file of gin_configs/models; got .* mean 't5",
        ),
        (["--topology=v6x:2x2"], r"A slice must be named by its chip and shape, .* got 'v6x:2x2'"),
        (["--topology="], r"--topology must name slices; got ''\. Write --topology=v5e:2x2"),
        (["--topology=,"], r"--topology must name slices; got ','\. Write"),
        (["--rows=0"], r"--rows must be a positive number; got 0\. Give as many as `train`"),
        (
            ["--for=infer", "--rows=4", "--micro_batches=1,2", "--remat=layer"],
            r"--for=infer must come without flags of the train step; got --rows=4 "
            r"--micro_batches=1,2 --remat=layer\. Leave",
        ),
        (["--price=cheap"], r"--price must be what a chip costs an hour, for each of v5e; got 'ch"),
    ],
)
def test_flags_that_cannot_be_meant_are_told(flags, message, capsys, forget_configuration):
    assert main.main(["plan", EXPERIMENT, "--topology=v5e:2x2", *flags]) == 2
    assert re.search(message, capsys.readouterr().err)


def test_what_fits_nowhere_is_told_with_what_to_try():
    large = dataclasses.replace(test_estimate.MEMORY, weights=2**31)
    unfit = dataclasses.replace(test_estimate.MADE, memory=large)
    assert re.search(
        r"none of 1 choices fits: the nearest needs 2\.00 GiB of a chip of v0:2x2, which has "
        r"0\.00\. Try a larger slice \(--topology\), more --model_parallel, more --micro_batches, "
        r"--remat=layer, ",
        command._why_nothing_fits([unfit]),
    )
    decoding = dataclasses.replace(unfit, choice=Choice("v0:2x2", 2), problem="9G.", memory=None)
    told = command._why_nothing_fits([decoding])
    assert re.search(r"fits: 9G\. Try .* a smaller EVAL_BATCH_SIZE", told)
    assert "micro_batches" not in told


def test_without_a_price_the_fewest_chip_hours_are_told():
    assert command._tell(test_estimate.MADE, True).startswith("The cheapest that fits: v0:2x2, 4")
    told = command._tell(dataclasses.replace(test_estimate.MADE, price=None), True)
    assert told.startswith("The fewest chip-hours: v0:2x2, 4 chips")


@pytest.mark.skipif(importlib.util.find_spec("libtpu") is None, reason="needs the TPU compiler")
def test_decoding_is_planned_without_data_or_weights(capsys, forget_configuration):
    sizes = {"EMB_DIM": 8, "MLP_DIM": 16, "NUM_HEADS": 2, "HEAD_DIM": 4}
    sizes |= {"NUM_ENCODER_LAYERS": 1, "NUM_DECODER_LAYERS": 1, "EVAL_BATCH_SIZE": 8}
    flags = [f"--gin.{name}={value}" for name, value in sizes.items()]
    flags += ["--gin_file=runs/tpu.gin", "--gin.INITIAL_CHECKPOINT_PATH=/not/there", "--for=infer"]
    assert main.main(["plan", EXPERIMENT, *flags, "--topology=v5e:2x2", "--price=2", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    [choice] = told["choices"]
    assert told["picked"] == 0
    assert told["notes"] is None
    assert choice["fits"]
    assert choice["mfu"] is None
    assert choice["compiled"]["cycles"] > 0
    assert choice["hours"] == pytest.approx(1e6 / 8 * choice["secs"] / 3600)  # Of a million.
    assert choice["cost"] == pytest.approx(4 * 2 * choice["hours"])
