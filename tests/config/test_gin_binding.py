"""What gin binds of files and flags."""

import gin
import pytest

from hyperdecoders_jax.config import gin_binding, gin_files
from tests.config.parsing import bound, flags, parse


def test_flags_bind_after_files(folder):
    parse(["model.gin"], flags("LABEL_SMOOTHING=0.2"))
    assert bound("losses.LossConfig.label_smoothing") == 0.2


def test_a_flag_binds_a_class_that_no_file_has_bound(folder):
    parse(["model.gin"], flags("HypernetworkConfig.bottleneck_dim=3"))
    assert bound("HypernetworkConfig.bottleneck_dim") == 3


def test_a_scoped_flag_binds_in_its_scope_alone(folder):
    parse(["model.gin"], flags("encoder/config.AdapterConfig.norm_input=True"))
    encoder = bound("config.TransformerConfig.encoder_adapter")
    assert (encoder.norm_input, encoder.bottleneck_dim, encoder.source) == (True, 8, "manual")


def test_a_flag_may_refer_to_a_class(folder):
    parse(["model.gin"], flags("TransformerConfig.decoder_adapter=@decoder/AdapterConfig()"))
    assert bound("config.TransformerConfig.decoder_adapter").source == "none"


def test_the_returned_text_binds_the_same_again(folder):
    text = parse(["model.gin"], flags("BOTTLENECK_DIM=5"))
    (folder / "again.gin").write_text(text)
    assert parse(["again.gin"]) == text
    assert bound("BOTTLENECK_DIM/gin.macro.value") == 5


def test_a_second_parse_forgets_the_first(folder):
    parse(["model.gin"], flags("BOTTLENECK_DIM=5"))
    parse(["model.gin"])
    assert bound("BOTTLENECK_DIM/gin.macro.value") == 8


WHOLE_FILE = """
# Comments, blocks, scopes, lines that go on, an include in between, names from after it.
from __gin__ import dynamic_registration
from hyperdecoders_jax.modeling import config
import hyperdecoders_jax.losses

A = (1,
     'two'  'strings',   # [2]
     {'three': %SIZE})
scope/inner/B = None
SIZE = %gin.REQUIRED
middle/config.AdapterConfig:  # A block.

  # With a comment.
  source = 'task'
  bottleneck_dim = \\
      %SIZE

include 'model.gin'
SIZE = 7
from hyperdecoders_jax.training import schedules
shared/gin.singleton.constructor = @schedules.LinearConfig
config.TransformerConfig.mlp_activations = %A
config.TransformerConfig.dropout_rate = %scope/inner/B
config.TransformerConfig.decoder_adapter = @a/b/config.AdapterConfig()
hyperdecoders_jax.losses.LossConfig.z_loss = -1e-4
schedules.LinearConfig.learning_rate = @shared/gin.singleton()
"""


def test_gin_binds_what_it_would_read_itself(folder):
    (folder / "whole.gin").write_text(WHOLE_FILE)
    saved = parse(["whole.gin"])
    gin.clear_config()
    gin.parse_config_file("whole.gin")
    assert gin.config_str() == saved
    assert "bottleneck_dim = %SIZE" in saved
    assert "A = (1, 'twostrings', {'three': %SIZE})" in saved
    assert "decoder_adapter = @a/b/config" in saved
    assert "singleton.constructor = @schedules.LinearConfig\n" in saved


def test_each_file_is_read_once(folder):
    (folder / "run.gin").write_text("include 'model.gin'\nBOTTLENECK_DIM = 4\n")
    text = gin_files.read(["run.gin"])
    (folder / "model.gin").unlink()
    (folder / "run.gin").unlink()
    gin_binding.parse(text)
    assert bound("BOTTLENECK_DIM/gin.macro.value") == 4


def test_gins_own_errors_name_the_line_of_the_file(folder):
    # Registered names of other libraries are looked up by gin alone.
    (folder / "theirs.gin").write_text("\n\n# Not there.\nsome.library.size = 3\n")
    with pytest.raises(
        ValueError, match=r'(?s)matching .some.library.*In file "theirs.gin", line 4'
    ):
        parse(["theirs.gin"])
