"""T5s that transformers saves, against its own Flax and PyTorch classes: logits and texts."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hyperdecoders_jax import model
from hyperdecoders_jax.decoding.beam_search import BeamSearchConfig, HuggingFace457Scoring
from hyperdecoders_jax.decoding.decode import GreedyConfig, SamplingConfig
from hyperdecoders_jax.modeling.config import HyperGridConfig
from hyperdecoders_jax.weights import (
    arrays,
    conversion,
    exported_folder,
    formats,
    hugging_face,
    names,
)
from hyperdecoders_jax.weights.trained_model import Description, TrainedModel
from tests import tiny
from tests.weights import test_adapter_folder

# float32 rounding; logits are of order 1 to 10.
ATOL = 1e-5
MAX_LEN = 9
BATCH = 12
# Far below the distance of two logits.
COLD = 1e-6

GEOMETRIES = {
    "T5 v1.0": dict(feed_forward_proj="relu", num_layers=2),
    "T5 v1.1, FLAN, mT5": dict(
        feed_forward_proj="gated-gelu", tie_word_embeddings=False, num_layers=2
    ),
    "ByT5, more encoder than decoder layers": dict(
        feed_forward_proj="gated-gelu",
        tie_word_embeddings=False,
        num_layers=3,
        num_decoder_layers=1,
    ),
}


class FlaxScoring(HuggingFace457Scoring):
    """As transformers' Flax classes score, 4.57.

    Any candidate may end; all examples go on while one does; a text that `max_len` cuts comes out
    only where none ended.
    """

    def num_ending(self, num_beams):
        return 2 * num_beams

    def is_done(self, finished, live, best_candidate, length, max_len):
        is_done = super().is_done(finished, live, best_candidate, length, max_len)
        return jnp.broadcast_to(jnp.all(is_done), is_done.shape)

    def at_max_len(self, finished, live, max_len):
        has_ended = finished.scores[:, 0] > -jnp.inf
        pick = lambda x, y: jnp.where(jnp.expand_dims(has_ended, range(1, x.ndim)), x, y)  # noqa: E731
        return jax.tree.map(pick, finished, live)


def ways_to_decode(scoring):
    """Our configurations, and transformers' arguments for the same."""
    return [
        (GreedyConfig(), {}),
        (BeamSearchConfig(num_beams=4, scoring=scoring), {"num_beams": 4}),
        (
            SamplingConfig(temperature=COLD),
            {"do_sample": True, "temperature": COLD, "top_k": 0},
        ),
    ]


def their_config(geometry):
    transformers = pytest.importorskip("transformers")
    return transformers.T5Config(
        vocab_size=tiny.VOCAB_SIZE,
        d_model=8,
        d_kv=6,
        d_ff=14,
        num_heads=2,
        decoder_start_token_id=0,
        **GEOMETRIES[geometry],
    )


def make_batch():
    return tiny.make_batch(seed=1, batch=BATCH, enc_len=7, dec_len=5)


def read(folder):
    """Our model and parameters of a Hugging Face folder."""
    config, theirs = hugging_face.open(folder)
    accounted = hugging_face.to_ours(theirs, config)
    assert all(reason == "a copy of shared.weight" for reason in accounted.left.values())
    params = names.unflatten({path: array.read() for path, array in accounted.arrays.items()})
    return model.Model(config), params


def write(folder, our_model, params, **kw):
    flat = arrays.in_memory(names.flatten(params))
    hugging_face.write(
        folder, our_model.config, hugging_face.from_ours(flat, our_model.config), **kw
    )


def predict(our_model, params, decoding):
    decoder = dataclasses.replace(our_model, decoding=decoding)
    found = decoder.predict(params, make_batch(), jax.random.key(0), max_len=MAX_LEN)
    return np.asarray(found.tokens[:, 0])


def as_ours(sequences):
    """Their tokens without the start token, padded behind EOS."""
    tokens = np.asarray(sequences)[:, 1:]
    is_behind = np.cumsum(tokens == 1, axis=1) - (tokens == 1) > 0
    return np.pad(np.where(is_behind, 0, tokens), ((0, 0), (0, MAX_LEN - tokens.shape[1])))


def assert_same_logits(our_model, params, expected):
    batch = make_batch()
    is_real = np.asarray(batch.decoder_loss_weights) > 0
    found = np.asarray(our_model.logits(params, batch))
    np.testing.assert_allclose(found[is_real], expected[is_real], atol=ATOL)


@pytest.fixture
def flax_t5(monkeypatch):
    modeling = pytest.importorskip("transformers.models.t5.modeling_flax_t5")
    from hyperdecoders_jax.hub import flax_t5

    monkeypatch.setattr(modeling, "jnp", jnp)  # puts back what repair replaces
    flax_t5.repair()
    return modeling.FlaxT5ForConditionalGeneration


def flax_logits(theirs):
    batch = make_batch()

    @jax.jit
    def logits(params):
        return theirs(
            batch.encoder_input_tokens,
            attention_mask=batch.encoder_input_tokens > 0,
            decoder_input_ids=batch.decoder_input_tokens,
            params=params,
        ).logits

    return np.asarray(logits(theirs.params))


# Decoding reads logits alone, whatever the geometry, so each way has one.
@pytest.mark.parametrize(("geometry", "way"), zip(GEOMETRIES, (2, 0, 1), strict=True))
def test_what_flax_saves_gives_its_logits_and_texts(flax_t5, geometry, way, tmp_path):
    theirs = flax_t5(their_config(geometry), seed=3)
    theirs.save_pretrained(tmp_path, safe_serialization=True)
    ours, params = read(tmp_path)
    assert_same_logits(ours, params, flax_logits(theirs))
    inputs = make_batch().encoder_input_tokens
    decoding, arguments = ways_to_decode(FlaxScoring())[way]
    expected = theirs.generate(
        inputs,
        attention_mask=inputs > 0,
        max_length=MAX_LEN + 1,
        prng_key=jax.random.key(0),
        **arguments,
    ).sequences
    np.testing.assert_array_equal(predict(ours, params, decoding), as_ours(expected))


@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_flax_reads_what_we_write(flax_t5, geometry, tmp_path):
    flax_t5(their_config(geometry), seed=3).save_pretrained(tmp_path, safe_serialization=True)
    ours, params = read(tmp_path)
    write(tmp_path / "written", ours, params)
    assert_same_logits(ours, params, flax_logits(flax_t5.from_pretrained(tmp_path / "written")))


def test_flax_reads_a_t5_into_which_gates_were_folded(flax_t5, tmp_path):
    sizes = dict(mlp_dim=12, num_encoder_layers=1, num_decoder_layers=1)
    grids = dict(
        encoder_hypergrid=HyperGridConfig(4, 2, "L2", "task_embedding", kernels="both"),
        decoder_hypergrid=HyperGridConfig(2, 4, "GG", gate="identity"),
    )
    gated = model.Model(tiny.make_config("none", "none", **sizes, **grids))
    params = tiny.make_params(gated)
    flat = arrays.in_memory(names.flatten(params))
    description = Description(gated.config, task_names=("cola", "mnli", "qqp", "sst2"))
    weights = TrainedModel(description, flat)
    folded = conversion.fold_gates(weights, "mnli")
    formats.FORMATS["hugging_face"].write(tmp_path / "t5", folded)
    batch = make_batch()
    task_ids = jnp.ones_like(batch.task_ids)
    is_real = np.asarray(batch.decoder_loss_weights) > 0
    expected = jax.jit(gated.logits)(params, batch.replace(task_ids=task_ids))[is_real]
    found = flax_logits(flax_t5.from_pretrained(tmp_path / "t5"))[is_real]
    np.testing.assert_allclose(found, expected, atol=ATOL)


def test_a_sharded_folder_gives_the_same_parameters(flax_t5, tmp_path):
    flax_t5(their_config("T5 v1.0"), seed=3).save_pretrained(tmp_path, safe_serialization=True)
    ours, params = read(tmp_path)
    write(tmp_path / "sharded", ours, params, max_shard_bytes=2000)
    assert len(list((tmp_path / "sharded").glob("*.safetensors"))) > 3
    jax.tree.map(np.testing.assert_array_equal, read(tmp_path / "sharded")[1], params)


def export(folder, name, max_shard_bytes):
    """An exported T5 that nothing adapts."""
    geometry = "T5 v1.1, FLAN, mT5"
    config = hugging_face.config_from_json(their_config(geometry).to_dict())
    params = arrays.in_memory(names.flatten(tiny.make_params(model.Model(config))))
    description = test_adapter_folder.describe(model=config, backbone=None)
    folder.mkdir()
    exported_folder.write_weights(folder, description, params, [name], max_shard_bytes)


def assert_saved_as_it_was(load, name, folder):
    """Loading an export and saving it gives its files of weights, whole and sharded."""
    export(folder / "whole", name, 10**9)
    theirs = load(folder / "whole")
    for num_files, max_bytes in ((1, 10**9), (11, 2000)):
        saved, exported = folder / f"saved_{max_bytes}", folder / f"exported_{max_bytes}"
        theirs.save_pretrained(saved, max_shard_size=max_bytes)
        export(exported, name, max_bytes)
        files = {path.name: path.read_bytes() for path in exported.glob("*model*")}
        assert {path.name: path.read_bytes() for path in saved.glob("*model*")} == files
        assert len(files) == num_files


def test_flax_saves_an_export_as_it_was(flax_t5, tmp_path):
    assert_saved_as_it_was(flax_t5.from_pretrained, "flax", tmp_path)


@pytest.fixture
def torch_t5():
    pytest.importorskip("torch", reason="PyTorch is not installed")
    import transformers

    return transformers.T5ForConditionalGeneration


def torch_inputs():
    import torch

    inputs = torch.tensor(np.asarray(make_batch().encoder_input_tokens), dtype=torch.int64)
    return {"input_ids": inputs, "attention_mask": (inputs > 0).long()}


def torch_logits(theirs):
    import torch

    tokens = np.asarray(make_batch().decoder_input_tokens)
    with torch.no_grad():
        return theirs(
            **torch_inputs(), decoder_input_ids=torch.tensor(tokens, dtype=torch.int64)
        ).logits.numpy()


@pytest.mark.torch
@pytest.mark.parametrize(
    ("geometry", "saving"),
    [
        ("T5 v1.0", {"max_shard_size": "2KB"}),
        ("T5 v1.0", {"safe_serialization": False, "max_shard_size": "2KB"}),
        ("T5 v1.1, FLAN, mT5", {}),
        ("ByT5, more encoder than decoder layers", {"safe_serialization": False}),
    ],
    ids=["v1.0, sharded", "v1.0, sharded .bin", "v1.1, safetensors", "ByT5, .bin"],
)
def test_what_pytorch_saves_gives_its_logits_and_texts(torch_t5, geometry, saving, tmp_path):
    import torch

    torch.manual_seed(1)
    theirs = torch_t5(their_config(geometry)).eval()
    theirs.save_pretrained(tmp_path, **saving)
    assert (len(list(tmp_path.glob("*model*"))) > 3) == ("max_shard_size" in saving)
    ours, params = read(tmp_path)
    assert_same_logits(ours, params, torch_logits(theirs))
    for decoding, arguments in ways_to_decode(HuggingFace457Scoring()):
        expected = theirs.generate(**torch_inputs(), max_new_tokens=MAX_LEN, **arguments)
        np.testing.assert_array_equal(predict(ours, params, decoding), as_ours(expected))


@pytest.mark.torch
@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_pytorch_reads_what_we_write_bit_for_bit(torch_t5, geometry, tmp_path):
    import torch

    torch.manual_seed(1)
    theirs = torch_t5(their_config(geometry)).eval()
    theirs.save_pretrained(tmp_path)
    write(tmp_path / "written", *read(tmp_path), max_shard_bytes=2000)
    found = torch_t5.from_pretrained(tmp_path / "written")
    expected = theirs.state_dict()
    assert set(found.state_dict()) == set(expected)
    for name, tensor in found.state_dict().items():
        assert torch.equal(tensor, expected[name])
    config, expected = (x.config.to_dict() | {"_name_or_path": ""} for x in (found, theirs))
    # Release 5 has this field, and 5.0 scales a v1.1 without it.
    expected["scale_decoder_outputs"] = expected["tie_word_embeddings"]
    assert config == expected


@pytest.mark.torch
def test_pytorch_saves_an_export_as_it_was(torch_t5, tmp_path):
    assert_saved_as_it_was(torch_t5.from_pretrained, "safetensors", tmp_path)
