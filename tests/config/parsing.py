"""A gin file, and the way of files and flags to gin that the tests take."""

import gin

from hyperdecoders_jax.config import gin_binding, gin_files

MODEL_FILE = """
from __gin__ import dynamic_registration

from hyperdecoders_jax import losses
from hyperdecoders_jax.modeling import config

LABEL_SMOOTHING = 0.0
BOTTLENECK_DIM = 8
losses.LossConfig.label_smoothing = %LABEL_SMOOTHING
config.TransformerConfig.encoder_adapter = @encoder/config.AdapterConfig()
encoder/config.AdapterConfig:
  source = 'manual'
  bottleneck_dim = %BOTTLENECK_DIM
"""


def flags(*arguments):
    return [gin_files.to_binding(*argument.split("=", 1)) for argument in arguments]


def parse(files, bindings=(), function=None, **options):
    return gin_binding.parse(gin_files.read(files, bindings), function, **options)


def bound(name):
    value = gin.query_parameter(name)
    return value.scoped_configurable_fn() if hasattr(value, "scoped_configurable_fn") else value
