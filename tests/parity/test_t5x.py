"""Plain T5 against T5X's minimal T5: the same tree, shapes, axes and numbers."""

import jax
import numpy as np
import pytest
from flax.core import unfreeze
from flax.linen import partitioning

from hyperdecoders_jax import model
from tests import tiny

# float32 rounding; the softmax and one-hot products are summed in another order.
ATOL = 2e-5

pytestmark = pytest.mark.t5x


def make(**kw):
    network = pytest.importorskip("t5x.examples.t5.network", reason="T5X is not installed")
    config = tiny.make_config("none", "none", dropout_rate=0.0, **kw)
    theirs = network.Transformer(
        network.T5Config(
            vocab_size=config.vocab_size,
            emb_dim=config.emb_dim,
            num_heads=config.num_heads,
            num_encoder_layers=config.num_encoder_layers,
            num_decoder_layers=config.num_decoder_layers,
            head_dim=config.head_dim,
            mlp_dim=config.mlp_dim,
            mlp_activations=config.mlp_activations,
            dropout_rate=0.0,
            logits_via_embedding=config.logits_via_embedding,
        )
    )
    return model.Model(config), theirs


@pytest.mark.parametrize("tied", [False, True])
def test_tree_shapes_axes_and_logits_equal_t5xs(tied):
    ours, theirs = make(logits_via_embedding=tied)
    batch = tiny.make_batch()
    tokens = (
        batch.encoder_input_tokens,
        batch.decoder_input_tokens,
        batch.decoder_target_tokens,
    )
    variables = jax.eval_shape(
        lambda: theirs.init(jax.random.key(0), *tokens, enable_dropout=False)
    )
    assert ours.param_shapes() == unfreeze(variables["params"])
    axes = unfreeze(partitioning.get_axis_names(variables["params_axes"]))
    is_spec = lambda x: isinstance(x, jax.sharding.PartitionSpec)  # noqa: E731
    assert ours.param_axes() == jax.tree.map(tuple, axes, is_leaf=is_spec)

    params = tiny.make_params(ours)
    with jax.default_matmul_precision("highest"):
        expected = theirs.apply({"params": params}, *tokens, enable_dropout=False)
        found = ours.logits(params, batch)
    is_real = np.asarray(batch.decoder_loss_weights) > 0
    np.testing.assert_allclose(found[is_real], expected[is_real], atol=ATOL)
