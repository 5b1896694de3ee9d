"""transformers' own Flax T5 on the jax of today: one call of it is put right, nothing else changes.

    from hyperdecoders_jax.hub import flax_t5
    flax_t5.repair()
    model = transformers.FlaxT5ForConditionalGeneration.from_pretrained(folder)

Its module calls `jnp.clip(x, a_max=...)`, a name that jax 0.10 took away, and no release of
transformers with Flax will follow. `FlaxHyperdecoderForConditionalGeneration` does not need this.
"""

from __future__ import annotations

import types

import jax.numpy as jnp
from transformers.models.t5 import modeling_flax_t5


def repair() -> None:
    """Gives transformers' `modeling_flax_t5`, and no other module, a `clip` with the old names."""
    numpy = types.SimpleNamespace(**vars(jnp))
    numpy.clip = lambda x, a_min=None, a_max=None: jnp.clip(x, a_min, a_max)
    modeling_flax_t5.jnp = numpy
