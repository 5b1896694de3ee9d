"""Packed rows: each segment has the losses and the gradients of its example in a row of its own."""

from __future__ import annotations

import dataclasses
import functools
from typing import NamedTuple

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


class Case(NamedTuple):
    """What is made for the examples of one model: each stack's adapters and gates."""

    encoder: str
    decoder: str
    encoder_grid: HyperGridConfig
    decoder_grid: HyperGridConfig
    network: str = "shared"
    encoder_sites: tuple[str, ...] = ("feed_forward",)
    decoder_sites: tuple[str, ...] = ("feed_forward",)


# Together every source, hypernetwork and site, and in each stack every variant and condition of
# gates. Packing gives each stack conditions, and takes adapters and gates of each segment from it,
# whoever makes them and wherever they go.
CASES = {
    "of all examples": Case("manual", "none", grid("GG"), grid("GG", kernels="both")),
    "of tasks": Case(
        "manual_specific",
        "task",
        grid("L2", "task_embedding"),
        grid("GL", "prefix_mean", kernels="both"),
        encoder_sites=("self_attention_query", "self_attention_out"),
        decoder_sites=("self_attention_value", "cross_attention_query", "cross_attention_value"),
    ),
    "generated": Case(
        "generated",
        "generated",
        grid("LG", kernels="both"),
        grid("L", "pooled", rows=1, kernels="wi"),
        encoder_sites=("feed_forward", "self_attention_value", "after_self_attention"),
        decoder_sites=(
            *("feed_forward", "self_attention_key", "cross_attention_key", "cross_attention_out"),
            "after_feed_forward",
        ),
    ),
    "generated per layer": Case(
        "none",
        "generated",
        grid("L", cols=1),
        grid("L2", "task_embedding", kernels="both"),
        network="per_layer",
    ),
    "HyperFormer": Case(
        "task",
        "generated",
        grid("GL", "prefix_mean", kernels="wi"),
        grid("LG"),
        network="hyperformer",
    ),
}


def make_model(case, **kw):
    """One layer each, as packing does not see layers."""
    encoder, decoder, *_ = case = CASES[case]
    kw = {
        "encoder_sites": case.encoder_sites,
        "decoder_sites": case.decoder_sites,
        "encoder_hypergrid": case.encoder_grid,
        "decoder_hypergrid": case.decoder_grid,
        "num_encoder_layers": 1,
        "num_decoder_layers": 1,
        "mlp_dim": 12,
        **kw,
    }
    return Model(tiny.make_config(encoder, decoder, network=NETWORKS[case.network], **kw))


def test_all_sources_sites_and_gates_are_packed():
    cases = CASES.values()
    assert {source for case in cases for source in case[:2]} == set(config_lib.SOURCES)
    assert {case.network for case in cases} == set(NETWORKS)
    sites = {site for case in cases for site in (*case.encoder_sites, *case.decoder_sites)}
    assert sites == set(sites_lib.SITES)
    for side, conditions in config_lib.CONDITIONS_OF_SIDE.items():
        grids = [getattr(case, f"{side}_grid") for case in cases]
        assert {grid.variant for grid in grids} == set(config_lib.VARIANTS)
        assert {grid.condition_read for grid in grids} == {None, *conditions}


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
        ours, theirs = np.asarray(ours), np.asarray(theirs)
        error, norm = np.linalg.norm(ours - theirs), np.linalg.norm(theirs)
        assert error <= GRADIENT_TOLERANCE * norm + 1e-7, jax.tree_util.keystr(path)


@pytest.mark.parametrize("case", CASES)
def test_a_packed_batch_has_the_losses_and_gradients_of_its_examples(case):
    model = make_model(case)
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
    model = make_model("generated")
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
    model = make_model("generated per layer", dtype="bfloat16")
    params = tiny.make_params(model, scale=0.2)
    rows = make_examples(5, [3, 2, 1])
    packed, plain = pack(rows), unpack(rows, 3 * MAX_SEGMENTS)
    found, wanted = (
        jax.jit(losses_of, static_argnums=0)(model, params, x) for x in (packed, plain)
    )
    np.testing.assert_allclose(real(found, packed), real(wanted, plain), rtol=0.03)


def test_the_loss_of_a_batch_counts_tokens_as_unpacked():
    config = losses.LossConfig(label_smoothing=0.1, z_loss=1e-4)
    model = make_model("of all examples")
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
    model = make_model("of all examples")
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
    model = make_model("of all examples")
    with pytest.raises(
        ValueError, match=r"one example in each row.* got a packed batch.*pack=False"
    ):
        model.predict({}, pack(make_examples(0, [1])), max_len=4)
