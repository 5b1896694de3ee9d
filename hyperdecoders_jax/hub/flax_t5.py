"""Repair of transformers' own Flax T5 for jax 0.10, which changes one call.

    from hyperdecoders_jax.hub import flax_t5
    flax_t5.repair()
    model = transformers.FlaxT5ForConditionalGeneration.from_pretrained(folder)

It calls `jnp.clip(x, a_max=...)`, whose argument jax 0.10 removed; there will be no further release
with Flax. `FlaxHyperdecoderForConditionalGeneration` does not need this.
"""

from __future__ import annotations

import types

import jax.numpy as jnp
from transformers.models.t5 import modeling_flax_t5


def repair() -> None:
    """Gives `modeling_flax_t5`, and no other module, a `clip` with the old argument names."""
    numpy = types.SimpleNamespace(**vars(jnp))
    # A copy of the namespace: jax.numpy itself stays as it is.
    numpy.clip = lambda x, a_min=None, a_max=None: jnp.clip(x, a_min, a_max)
    modeling_flax_t5.jnp = numpy
