"""A model whose gates were folded is the same model without gates."""

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest

from hyperdecoders_jax import model
from hyperdecoders_jax.modeling.config import HyperGridConfig
from hyperdecoders_jax.weights import conversion, formats, names
from tests import tiny
from tests.weights import test_conversion

TASKS = ("cola", "mnli", "qqp", "sst2")
# float32 rounding: gated products are summed block by block.
ATOL = 2e-5

# In each a stack of a task's gates and one of all examples'; two layers and one. An encoder with
# generated adapters runs twice, both times with gates.
V1_0 = dict(
    encoder_hypergrid=HyperGridConfig(4, 2, "L2", "task_embedding", gate="identity", kernels="wi"),
    decoder_hypergrid=HyperGridConfig(2, 4, "GG", kernels="both"),
    mlp_activations=("relu",),
    logits_via_embedding=True,
)
V1_1_WITH_ADAPTERS = dict(
    encoder="generated",
    decoder="task",
    encoder_hypergrid=HyperGridConfig(4, 4, "GG", gate="identity"),
    decoder_hypergrid=HyperGridConfig(1, 2, "L", "task_embedding", kernels="both"),
)


def make(encoder="none", decoder="none", dtype=np.float32, **fields):
    sizes = dict(mlp_dim=12, num_decoder_layers=1)
    weights = test_conversion.make(encoder, decoder, dtype, **sizes, **fields)
    return test_conversion.with_tasks(weights, TASKS)


def logits_of(weights, batch):
    params = names.unflatten({path: array.read() for path, array in weights.arrays.items()})
    return jax.jit(model.Model(weights.config).logits)(params, batch)


@pytest.mark.parametrize(
    ("fields", "num_kernels"), [(V1_0, 2 * 1 + 2), (V1_1_WITH_ADAPTERS, 2 * 1 + 3)]
)
def test_the_logits_are_those_of_the_gated_model(fields, num_kernels):
    gated = make(**fields)
    folded = conversion.fold_gates(gated, "qqp")
    test_conversion.check(folded, "a test")
    assert (folded.config.encoder_hypergrid, folded.config.decoder_hypergrid) == (None, None)
    gone = {path for path in gated.arrays if "_hypergrid/" in path}
    assert set(folded.skipped) == gone == set(gated.arrays) - set(folded.arrays)
    kernels = {path for path, x in folded.arrays.items() if np.any(x.read() != gated.arrays[path])}
    assert len(kernels) == num_kernels
    batch = tiny.make_batch()
    batch = batch.replace(task_ids=jnp.full(3, TASKS.index("qqp")))
    np.testing.assert_allclose(logits_of(folded, batch), logits_of(gated, batch), atol=ATOL)


def test_tasks_are_forgotten_where_nothing_depends_on_them_any_more():
    plain, adapted = (conversion.fold_gates(make(**x), "qqp") for x in (V1_0, V1_1_WITH_ADAPTERS))
    assert plain.config.num_tasks is None
    assert adapted.config.num_tasks == tiny.NUM_TASKS


def test_kernels_are_folded_in_float32_and_keep_their_type():
    grid = HyperGridConfig(4, 2, "GG")
    gated = make(dtype=ml_dtypes.bfloat16, encoder_hypergrid=grid)
    folded = conversion.fold_gates(gated)
    for layer in range(2):
        u, v = (
            gated.arrays[f"encoder_hypergrid/wo/{side}_vector"].read()[layer].astype(np.float32)
            for side in ("rows", "cols")
        )
        gates = 1 / (1 + np.exp(-np.outer(u, v)))
        path = f"encoder/layers_{layer}/mlp/wo/kernel"
        kernel = gated.arrays[path].read().astype(np.float32)
        expected = kernel * np.repeat(np.repeat(gates, 12 // 4, axis=0), 8 // 2, axis=1)
        found = folded.arrays[path]
        assert found.dtype == found.read().dtype == ml_dtypes.bfloat16
        # One unit in the last of bfloat16's 8 bits.
        np.testing.assert_allclose(found.read().astype(np.float32), expected, rtol=2**-8)


def test_what_cannot_be_folded_says_why():
    def refused(message, task=None, task_names=TASKS, **fields):
        weights = test_conversion.with_tasks(make(**fields), task_names)
        with pytest.raises(ValueError, match=message):
            conversion.fold_gates(weights, task)

    refused(r"--fold must be given a model with gates; this one has none\. Leave it out")
    states = dict(decoder_hypergrid=HyperGridConfig(4, 2, "LG", "pooled"))
    static = dict(encoder_hypergrid=HyperGridConfig(4, 2, "GG"))
    refused(
        r"to be folded\. The decoder's gates read 'pooled', states of each .* without --fold",
        **static,
        **states,
    )
    refused(r"--task must be left out where gates are the same .*; got 'qqp'", "qqp", **static)
    of_task = dict(encoder_hypergrid=HyperGridConfig(4, 2, "L2", "task_embedding"))
    refused(r"--task must name the task .*: one of \('cola', .*; got None\.", **of_task)
    refused(r"got 'qpq'\. Did you mean 'qqp'\?", "qpq", **of_task)
    refused(r"must name their tasks .*; these do not\. Convert the run", "qqp", (), **of_task)


@pytest.mark.parametrize("name", ["hugging_face", "original"])
def test_what_has_no_place_for_gates_says_whether_to_fold_them(tmp_path, name):
    static = make(encoder_hypergrid=HyperGridConfig(4, 2, "GG"))
    with pytest.raises(ValueError, match=r"unexpected: encoder_hyper.* convert --fold makes its"):
        formats.FORMATS[name].write(tmp_path / "new", static)
    of_states = make(encoder_hypergrid=HyperGridConfig(4, 2, "L2", "first_state"))
    with pytest.raises(ValueError, match=r"The encoder's gates read 'first_state', .*Keep such"):
        formats.FORMATS[name].write(tmp_path / "new", of_states)
    assert not list(tmp_path.iterdir())
