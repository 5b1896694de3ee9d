"""Packed rows: each segment has the losses and the gradients of its example in a row of its own."""

from __future__ import annotations

import dataclasses
import functools
import itertools

import hypothesis
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import strategies as st

from hyperdecoders_jax import losses
from hyperdecoders_jax.data import packing
from hyperdecoders_jax.model import Model
from hyperdecoders_jax.modeling import config as config_lib
from hyperdecoders_jax.modeling import sites as sites_lib
from hyperdecoders_jax.modeling.config import HyperGridConfig
from hyperdecoders_jax.weights import names
from tests import tiny

LENGTHS = {"inputs": 17, "targets": 9}
MAX_SEGMENTS = 3
# Float32, whose sums are in another order.
LOSS_TOLERANCE = 1e-5
GRADIENT_TOLERANCE = 1e-4  # Of a gradient's norm.
# Sites of two models, which together have all of them: (both stacks, the decoder alone).
SITES = {
    "generated": (
        ("feed_forward", "self_attention_query", "self_attention_out", *config_lib.AFTER),
        ("cross_attention_key", "cross_attention_out"),
    ),
    "manual_specific": (
        ("self_attention_key", "self_attention_value"),
        ("cross_attention_query", "cross_attention_value"),
    ),
}
NETWORKS = {
    "shared": None,
    "per_layer": config_lib.PerLayerHypernetworkConfig(bottleneck_dim=11, pooled_mlp=True),
    "hyperformer": config_lib.HyperFormerConfig(embedding_dim=8, hidden_dim=9, joint_dim=10),
}


def make_examples(seed, rows):
    """Random examples for rows that hold so many of them each; not the longest that would fit."""
    rng = np.random.default_rng(seed)

    def text(longest):
        ids = rng.integers(2, tiny.VOCAB_SIZE, rng.integers(1, longest + 1))
        return np.append(ids[:-1], 1).astype(np.int32)

    longest = {name: length // MAX_SEGMENTS for name, length in LENGTHS.items()}
    return [
        [
            packing.Example(*map(text, longest.values()), int(rng.integers(0, tiny.NUM_TASKS)))
            for _ in range(count)
        ]
        for count in rows
    ]


def pack(rows):
    return packing.packed_batch(rows, LENGTHS, MAX_SEGMENTS)


def unpack(rows, num_rows):
    """The same examples in rows of their own, with empty rows behind them."""
    examples = [[example] for row in rows for example in row]
    batch = packing.packed_batch([*examples, *[[]] * (num_rows - len(examples))], LENGTHS, 1)
    fields = {field.name: None for field in dataclasses.fields(batch)[5:]}
    return batch.replace(**fields, task_ids=batch.task_ids[:, 0])


def losses_of(model, params, batch):
    logits = model.logits(params, batch)
    return -losses.token_log_likelihoods(logits, batch.decoder_target_tokens)


@functools.partial(jax.jit, static_argnums=0)
def losses_and_gradients(model, params, batch):
    def total(params):
        found = losses_of(model, params, batch)
        return jnp.sum(found * batch.decoder_loss_weights), found

    (_, found), grads = jax.value_and_grad(total, has_aux=True)(params)
    return found, grads


def real(found, batch):
    """The losses of real tokens, in the order of examples."""
    return np.asarray(found)[np.asarray(batch.decoder_loss_weights) > 0]


def grid(variant, condition="first_state", rows=4, cols=2, kernels="wo"):
    return HyperGridConfig(rows, cols, variant, condition, 2, gate="identity", kernels=kernels)


# Adapter source, hypernetwork, and each stack's gates, which together are every variant with every
# condition: all that is made for an example.
CASES = {
    "none": ("none", "shared", grid("L2", kernels="both"), grid("GL", "pooled")),
    "gates of all examples": ("none", "shared", grid("GG"), grid("GG", kernels="both")),
    "manual": (
        "manual",
        "shared",
        grid("L", "task_embedding", rows=1, kernels="wi"),
        grid("L", "prefix_mean", cols=1, kernels="both"),
    ),
    "manual_specific": (
        "manual_specific",
        "shared",
        grid("LG", "task_embedding"),
        grid("L2", "pooled", kernels="wi"),
    ),
    "task": ("task", "shared", grid("L2", "prefix_mean"), grid("LG", "pooled", kernels="both")),
    "generated": (
        "generated",
        "shared",
        grid("LG", kernels="both"),
        grid("L", "pooled", rows=1, kernels="wi"),
    ),
    "generated per layer": (
        "generated",
        "per_layer",
        grid("GL"),
        grid("L2", "task_embedding", kernels="both"),
    ),
    "task, HyperFormer": (
        "task",
        "hyperformer",
        grid("GL", "prefix_mean", kernels="wi"),
        grid("L", cols=1),
    ),
    "generated, HyperFormer": (
        "generated",
        "hyperformer",
        grid("LG", "prefix_mean"),
        grid("GL", "task_embedding", kernels="both"),
    ),
}


def make_model(source, network, encoder_grid, decoder_grid, **kw):
    """One layer each, as packing does not see layers."""
    sites = {}
    if source in SITES and network == "shared":
        of_both, of_decoder = SITES[source]
        sites = {"encoder_sites": of_both, "decoder_sites": (*of_both, *of_decoder)}
    sizes = {"num_encoder_layers": 1, "num_decoder_layers": 1, "mlp_dim": 12}
    grids = {"encoder_hypergrid": encoder_grid, "decoder_hypergrid": decoder_grid}
    kw = {**sites, **sizes, **grids, **kw}
    return Model(tiny.make_config(source, source, network=NETWORKS[network], **kw))


def test_all_sites_and_gates_are_packed():
    sites = {site for of_both, of_decoder in SITES.values() for site in (*of_both, *of_decoder)}
    assert sites == set(sites_lib.SITES)
    found = {(x.variant, x.condition_read) for _, _, *grids in CASES.values() for x in grids}
    local = itertools.product(config_lib.VARIANTS.keys() - {"GG"}, config_lib.CONDITIONS)
    assert found == {("GG", None), *local}


def check_law(model, params, rows, seed):
    examples = make_examples(seed, rows)
    packed, plain = pack(examples), unpack(examples, 3 * MAX_SEGMENTS)
    found, grads = losses_and_gradients(model, params, packed)
    wanted, wanted_grads = losses_and_gradients(model, params, plain)
    np.testing.assert_allclose(
        real(found, packed), real(wanted, plain), rtol=LOSS_TOLERANCE, atol=LOSS_TOLERANCE
    )
    for (path, ours), theirs in zip(
        jax.tree_util.tree_leaves_with_path(grads), jax.tree.leaves(wanted_grads), strict=True
    ):
        error, norm = jnp.linalg.norm(ours - theirs), jnp.linalg.norm(theirs)
        assert error <= GRADIENT_TOLERANCE * norm + 1e-7, jax.tree_util.keystr(path)


@pytest.mark.parametrize("case", CASES)
def test_a_packed_batch_has_the_losses_and_gradients_of_its_examples(case):
    model = make_model(*CASES[case])
    params = tiny.make_params(model, scale=0.2)

    @hypothesis.settings(max_examples=8)
    @hypothesis.given(
        st.lists(st.integers(0, MAX_SEGMENTS), min_size=3, max_size=3), st.integers(0, 99)
    )
    @hypothesis.example([0, MAX_SEGMENTS, 1], 0)
    def check(rows, seed):
        check_law(model, params, rows, seed)

    check()


def test_a_segment_changes_no_other_ones_losses():
    model = make_model(*CASES["generated"])
    params = tiny.make_params(model, scale=0.2)
    rows = make_examples(3, [3, 2, 1])
    before = losses_and_gradients(model, params, pack(rows))[0]
    # Ids alone, as lengths would move the tokens behind it.
    first, second, third = rows[0]
    changed = packing.Example(second.inputs[::-1] + 2, second.targets[::-1] + 3, 1)
    batch = pack([[first, changed, third], *rows[1:]])
    after = losses_and_gradients(model, params, batch)[0]
    is_changed = np.zeros(after.shape, bool)
    is_changed[0] = batch.decoder_segment_ids[0] == 2
    is_real = batch.decoder_loss_weights > 0
    np.testing.assert_array_equal(after[is_real & ~is_changed], before[is_real & ~is_changed])
    assert np.all(after[is_changed] != before[is_changed])


def test_bfloat16_packs_within_its_rounding():
    model = make_model(*CASES["generated per layer"], dtype="bfloat16")
    params = tiny.make_params(model, scale=0.2)
    rows = make_examples(5, [3, 2, 1])
    packed, plain = pack(rows), unpack(rows, 3 * MAX_SEGMENTS)
    found, wanted = (
        jax.jit(losses_of, static_argnums=0)(model, params, x) for x in (packed, plain)
    )
    np.testing.assert_allclose(real(found, packed), real(wanted, plain), rtol=0.03)


def test_the_loss_of_a_batch_counts_tokens_as_unpacked():
    config = losses.LossConfig(label_smoothing=0.1, z_loss=1e-4)
    model = make_model(*CASES["gates of all examples"])
    models = [
        dataclasses.replace(model, loss_config=dataclasses.replace(config, reduction=reduction))
        for reduction in ("sum", "mean")
    ]
    params = tiny.make_params(model, scale=0.2)

    @jax.jit
    def both(batch):
        return [model.loss(params, batch) for model in models]

    rows = make_examples(5, [3, 0, 1])
    packed, plain = both(pack(rows)), both(unpack(rows, 9))
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-5), packed, plain)


def test_dropout_is_independent_for_each_position():
    model = make_model(*CASES["gates of all examples"])
    # Without attention each token is computed alone: equal tokens differ by their dropout.
    params = names.unflatten(
        {
            path: 0 * x if "attention/out" in path else x
            for path, x in names.flatten(tiny.make_params(model, scale=0.2)).items()
        }
    )
    example = packing.Example(*(np.zeros(length, np.int32) for length in (5, 3)), task_id=0)
    batch = pack([[example] * MAX_SEGMENTS] * 2)
    logits = jax.jit(model.logits)(params, batch, jax.random.key(0))
    found = real(-losses.token_log_likelihoods(logits, batch.decoder_target_tokens), batch)
    assert len(set(found.tolist())) == len(found) == 18


def test_packed_rows_are_not_decoded():
    model = make_model(*CASES["none"])
    with pytest.raises(
        ValueError, match=r"one example in each row.* got a packed batch.*pack=False"
    ):
        model.predict({}, pack(make_examples(0, [1])), max_len=4)
