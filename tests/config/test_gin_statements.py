"""Selections of statements: what a call reads, and modules that are skipped."""

import gin
import pytest

from hyperdecoders_jax.modeling import config
from tests.config.parsing import MODEL_FILE, bound, flags, parse

RUN_FILE = """
from __gin__ import dynamic_registration

import a_module_that_is_not_there as trainer
from hyperdecoders_jax.modeling import config

BOTTLENECK_DIM = 3
include 'model.gin'

TRAIN_STEPS = %gin.REQUIRED
GATE = 'gelu'
ACTIVATIONS = ('relu', %GATE)
trainer.Trainer.num_steps = %TRAIN_STEPS
config.TransformerConfig.mlp_activations = %ACTIVATIONS
config.TransformerConfig.decoder_adapter = @decoder/config.AdapterConfig()
"""


def parse_needed(folder, *arguments, file=RUN_FILE):
    (folder / "run.gin").write_text(file)
    parse(
        ["run.gin"], flags(*arguments), function=config.TransformerConfig,
        are_macros_checked=False, is_all_bound=False,
    )  # fmt: skip


def test_what_a_call_does_not_read_is_neither_bound_nor_imported_nor_required(folder):
    parse_needed(folder)
    assert bound("config.TransformerConfig.encoder_adapter").bottleneck_dim == 8
    assert bound("config.TransformerConfig.decoder_adapter").bottleneck_dim == 64
    with pytest.raises(ValueError, match="no bound parameters"):
        bound("losses.LossConfig.label_smoothing")


def test_what_a_call_reads_is_bound_as_with_all_the_rest(folder):
    parse_needed(folder, "encoder/AdapterConfig.norm_input=True", "BOTTLENECK_DIM=5")
    activations = gin.query_parameter("ACTIVATIONS/gin.macro.value")
    assert repr(activations) == "('relu', %GATE)"
    encoder = bound("config.TransformerConfig.encoder_adapter")
    assert (encoder.norm_input, encoder.bottleneck_dim) == (True, 5)


THEIR_FILE = f"""{MODEL_FILE}
import nowhere.engine
from nowhere.engine import runs as theirs
import nowherebut.here

ENGINE = @theirs.Engine()
SPEED = 3
theirs.Engine.speed = %SPEED
nowhere.engine.go.engine = %ENGINE
scope/config.AdapterConfig.source = @theirs.source
"""


def test_modules_that_are_skipped_are_neither_imported_nor_bound(folder):
    (folder / "run.gin").write_text(THEIR_FILE)
    with pytest.raises(ValueError, match=r"run.gin:\d+ imports 'nowherebut.here'"):
        parse(["run.gin"], skipped_modules=["nowhere"])
    text = parse(["run.gin"], flags("SPEED=4"), skipped_modules=["nowhere", "nowherebut"])
    assert bound("config.TransformerConfig.encoder_adapter").bottleneck_dim == 8
    assert bound("losses.LossConfig.label_smoothing") == 0.0
    assert "nowhere" not in text
    assert "scope/" not in text


def test_a_mistake_in_what_a_call_reads_is_told_without_the_rest(folder):
    with pytest.raises(ValueError, match="Did you mean 'decoder_adapter'"):
        parse_needed(folder, file=RUN_FILE.replace(".decoder_adapter", ".decodr_adapter"))
    with pytest.raises(ValueError, match=r"ACTIVATIONS \(read in run.gin:14\) is set by no file"):
        parse_needed(folder, file=RUN_FILE.replace("\nACTIVATIONS =", "\nTRAIN_STEPS ="))
    with pytest.raises(ValueError, match=r"BOTTLENEK_DIM .*Did you mean 'BOTTLENECK_DIM'"):
        parse_needed(folder, "BOTTLENEK_DIM=3")
    with pytest.raises(ValueError, match="names 'Trainer'"):
        parse_needed(folder, "Trainer.num_steps=3")
