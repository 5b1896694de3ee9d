"""Plain T5 against Hugging Face's Flax T5, in the geometries that people have weights for."""

import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hyperdecoders_jax import model
from hyperdecoders_jax.interop import names
from tests import tiny

# float32 rounding; logits are of order 1 to 10.
ATOL = 2e-5

GEOMETRIES = {
    "T5 v1.0": (dict(mlp_activations=("relu",), logits_via_embedding=True), "relu", 2),
    "T5 v1.1, mT5": (dict(), "gated-gelu", 2),
    "ByT5, more encoder than decoder layers": (dict(num_encoder_layers=4), "gated-gelu", 4),
}


@pytest.fixture
def flax_t5(monkeypatch):
    modeling = pytest.importorskip("transformers.models.t5.modeling_flax_t5")
    # transformers' Flax T5 calls jnp.clip with a name that jax 0.10 no longer has.
    shim = types.SimpleNamespace(**vars(jnp))
    shim.clip = lambda x, a_min=None, a_max=None: jnp.clip(x, a_min, a_max)
    monkeypatch.setattr(modeling, "jnp", shim)
    return modeling


@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_logits_equal_hugging_faces(flax_t5, geometry):
    ours, feed_forward_proj, num_layers = GEOMETRIES[geometry]
    config = tiny.make_config("none", "none", dropout_rate=0.0, **ours)
    our_model = model.Model(config)
    params = tiny.make_params(our_model)
    theirs = flax_t5.FlaxT5ForConditionalGeneration(
        flax_t5.T5Config(
            vocab_size=config.vocab_size,
            d_model=config.emb_dim,
            d_kv=config.head_dim,
            d_ff=config.mlp_dim,
            num_layers=num_layers,
            num_decoder_layers=config.num_decoder_layers,
            num_heads=config.num_heads,
            feed_forward_proj=feed_forward_proj,
            tie_word_embeddings=config.logits_via_embedding,
            decoder_start_token_id=0,
        ),
        _do_init=False,
    )
    batch = tiny.make_batch()
    with jax.default_matmul_precision("highest"):
        logits = our_model.logits(params, batch)
        expected = theirs(
            batch.encoder_input_tokens,
            attention_mask=batch.encoder_input_tokens > 0,
            decoder_input_ids=batch.decoder_input_tokens,
            params=_flax_params(params, config),
        ).logits
    is_real = np.asarray(batch.decoder_loss_weights) > 0
    np.testing.assert_allclose(logits[is_real], expected[is_real], atol=ATOL)


def _flax_params(params, config):
    """Hugging Face's Flax tree: PyTorch's names, kernels as ours."""
    flat = {}
    found = names.hugging_face_names(config)
    for path, value in names.flatten(params).items():
        name = found[path].removesuffix(".weight")
        leaf = "kernel" if path.endswith("kernel") else "weight"
        if path.endswith("embedding"):  # tables of tokens and of relative positions
            leaf, value = "embedding", value.T if "relpos" in path else value
        flat[f"{name}.{leaf}".replace(".", "/")] = value
    return names.unflatten(flat)
