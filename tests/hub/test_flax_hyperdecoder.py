"""The Flax class of an exported folder gives our own model's logits and texts."""

import collections
import functools
import inspect
import pathlib
import sys
import types
from typing import NamedTuple

import flax.linen as nn
import huggingface_hub
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import transformers
from transformers.models.t5 import modeling_flax_t5

from hyperdecoders_jax import interop
from hyperdecoders_jax.data import tokenizer
from hyperdecoders_jax.decoding.beam_search import BeamSearchConfig, HuggingFaceScoring
from hyperdecoders_jax.hub import flax_t5
from hyperdecoders_jax.hub.flax_hyperdecoder import FlaxHyperdecoderForConditionalGeneration
from hyperdecoders_jax.hub.hyperdecoder_config import HyperdecoderConfig
from hyperdecoders_jax.model import Model
from hyperdecoders_jax.modeling.config import HyperGridConfig
from hyperdecoders_jax.weights import arrays, exported_folder, names, trained_model
from tests import tiny

# float32 rounding; logits are of order 1 to 10.
ATOL = 1e-5
MAX_LEN = 6
TASKS = ("cola", "mnli", "qqp", "sst2")
BEAMS = BeamSearchConfig(4, scoring=HuggingFaceScoring(length_penalty=0.7, early_stopping=True))

SIZES = dict(num_encoder_layers=1, num_decoder_layers=1, mlp_dim=12)
GRIDS = dict(
    encoder_hypergrid=HyperGridConfig(2, 4, "L2", gate="identity"),
    decoder_hypergrid=HyperGridConfig(4, 2, "LG", "task_embedding"),
)
# The demo's sources, a T5 v1.0 among them, and gates, of which some read the task.
CONFIGS = {
    "hyperdecoder": tiny.make_config("manual", "generated", **SIZES),
    "single adapter": tiny.make_config(
        "manual", "manual", **SIZES, mlp_activations=("relu",), logits_via_embedding=True
    ),
    "HyperGrid": tiny.make_config("none", "none", **SIZES, **GRIDS),
}


def export(folder, config, **kw):
    """Makes a folder of a model with random parameters, and gives these."""
    params = tiny.make_params(Model(config))
    description = trained_model.Description(
        model=config,
        decoding=BEAMS,
        backbone=None,
        vocabulary=trained_model.Vocabulary(tokenizer.BYTES_MODEL, 0),
        task_names=TASKS,
        task_feature_lengths={"inputs": 13, "targets": MAX_LEN},
        step=3,
    )
    folder.mkdir(exist_ok=True)
    flat = arrays.in_memory(names.flatten(params))
    exported_folder.write_weights(folder, description, flat, **kw)
    options = transformers.GenerationConfig(
        num_beams=4, max_new_tokens=MAX_LEN, length_penalty=0.7, early_stopping=True
    )
    options.save_pretrained(folder)
    return params


def load(folder, **kw):
    return FlaxHyperdecoderForConditionalGeneration.from_pretrained(folder, **kw)


class Exported(NamedTuple):
    folder: pathlib.Path
    params: dict
    model: FlaxHyperdecoderForConditionalGeneration


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """Each model's folder, our parameters, and what the Auto class makes of the folder."""
    found = {}
    for name, config in CONFIGS.items():
        folder = tmp_path_factory.mktemp("exported")
        params = export(folder, config)
        model = transformers.FlaxAutoModelForSeq2SeqLM.from_pretrained(folder)
        found[name] = Exported(folder, params, model)
    return found


@pytest.fixture
def folder(exported):
    return exported["hyperdecoder"].folder


@pytest.fixture
def loaded(exported):
    return exported["hyperdecoder"].model


COUNTS = collections.Counter()
# All of one shape: what is compiled for one test serves the others.
BATCH = tiny.make_batch(enc_len=7, dec_len=MAX_LEN)
TOKENS = np.asarray(BATCH.encoder_input_tokens)
TASK_IDS = np.asarray(BATCH.task_ids)
GIVEN = {"input_ids": TOKENS, "decoder_input_ids": BATCH.decoder_input_tokens}


@functools.cache
def our_logits(name):
    """Compiled once."""
    return jax.jit(Model(CONFIGS[name]).logits)


def pad_left(tokens):
    """The same texts with their padding in front."""
    return np.stack([np.roll(row, np.sum(row == 0)) for row in tokens])


def generate_counting(model, tokens, task_ids, **options):
    """Generates, and checks that what makes the context has run once, while steps ran often.

    Counted is where the program runs: a count of traces would see no loop.
    """
    step = "decoder/layers_0/step"
    once = {"encoder/__call__", "decoder/layers_0/encoder_decoder_attention/keys_values"}
    once |= {f"{key}/__call__" for key in model.params if key.endswith(("adapters", "hypergrid"))}

    def count(call, args, kwargs, context):
        place = "/".join([*context.module.path, context.method_name])
        if place in {*once, step}:
            jax.debug.callback(lambda: COUNTS.update([place]))
        return call(*args, **kwargs)

    with nn.intercept_methods(count):
        COUNTS.clear()
        found = model.generate(tokens, task_ids=task_ids, **options)
        jax.effects_barrier()
    assert COUNTS[step] > 1
    assert {**dict.fromkeys(once, 1), step: COUNTS[step]} == COUNTS
    return found


@pytest.mark.parametrize("name", CONFIGS)
def test_logits_are_our_own_model_s_wherever_padding_is(exported, name):
    _, params, model = exported[name]
    assert type(model) is FlaxHyperdecoderForConditionalGeneration
    ours = our_logits(name)(params, BATCH)
    for tokens in (TOKENS, pad_left(TOKENS)):
        given = GIVEN | {"input_ids": tokens, "attention_mask": tokens > 0}
        found = model(**given, task_ids=TASK_IDS).logits
        np.testing.assert_allclose(found, ours, atol=ATOL)


@pytest.mark.parametrize("name", CONFIGS)
def test_greedy_texts_are_our_own_model_s_likeliest_tokens(exported, name):
    _, params, model = exported[name]
    for inputs in (TOKENS, pad_left(TOKENS)):
        found = generate_counting(model, inputs, TASK_IDS, num_beams=1).sequences
        read = BATCH.replace(decoder_input_tokens=found[:, :-1])
        likeliest = np.argmax(our_logits(name)(params, read), axis=-1)
        has_ended = np.cumsum(found[:, :-1] == 1, axis=1) > 0
        np.testing.assert_array_equal(found[:, 0], 0)
        np.testing.assert_array_equal(found[:, 1:], np.where(has_ended, 0, likeliest))


@pytest.mark.parametrize("name", CONFIGS)
def test_texts_of_four_beams_are_our_own_model_s(exported, name):
    _, params, model = exported[name]
    ours = Model(CONFIGS[name], decoding=BEAMS)
    expected = jax.jit(functools.partial(ours.predict, max_len=MAX_LEN))(params, BATCH)
    for inputs in (TOKENS, pad_left(TOKENS)):
        found = generate_counting(model, inputs, TASK_IDS)
        np.testing.assert_array_equal(found.sequences[:, 0], 0)
        np.testing.assert_array_equal(found.sequences[:, 1:], expected.tokens[:, 0])
        np.testing.assert_allclose(found.scores, expected.scores[:, 0], atol=ATOL)


def test_samples_are_drawn_with_the_key(exported):
    loaded = exported["single adapter"].model
    options = {
        "do_sample": True,
        "num_beams": 1,
        "num_return_sequences": 2,
        "early_stopping": False,
    }
    first, same, other = (
        np.asarray(loaded.generate(TOKENS, prng_key=jax.random.key(seed), **options).sequences)
        for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(first, same)
    assert (first != other).any()
    assert (first[0::2] != first[1::2]).any()
    assert first.shape == (6, 1 + MAX_LEN)


def test_more_padding_changes_nothing(loaded):
    expected = loaded(**GIVEN)
    for before, behind in ((0, 4), (3, 1)):
        padded = np.pad(TOKENS, ((0, 0), (before, behind)))
        found = loaded(**GIVEN | {"input_ids": padded})
        np.testing.assert_allclose(found.logits, expected.logits, atol=ATOL)
        states = found.encoder_last_hidden_state[:, before : before + TOKENS.shape[1]]
        real = TOKENS > 0
        np.testing.assert_allclose(
            states[real], expected.encoder_last_hidden_state[real], atol=ATOL
        )


def test_a_token_that_the_mask_hides_is_as_good_as_padding(loaded):
    mask = (TOKENS > 0) & (np.arange(TOKENS.shape[1]) != 1)
    hidden = loaded(**GIVEN, attention_mask=mask).logits
    padded = loaded(**GIVEN | {"input_ids": np.where(mask, TOKENS, 0)}).logits
    np.testing.assert_array_equal(hidden, padded)
    assert np.abs(hidden - loaded(**GIVEN).logits).max() > 0.01


def test_the_decoder_s_mask_hides_what_is_behind_a_text(loaded):
    found = loaded(**GIVEN, decoder_attention_mask=BATCH.decoder_loss_weights).logits
    np.testing.assert_array_equal(found, loaded(**GIVEN).logits)


def test_decoding_what_was_encoded_gives_the_same(loaded):
    whole = loaded(**GIVEN)
    encoded = loaded.encode(TOKENS)
    np.testing.assert_array_equal(encoded.last_hidden_state, whole.encoder_last_hidden_state)
    found = loaded.decode(BATCH.decoder_input_tokens, encoded)
    np.testing.assert_array_equal(found.logits, whole.logits)
    plain = loaded.decode(BATCH.decoder_input_tokens, encoded.to_tuple(), return_dict=False)
    np.testing.assert_array_equal(plain[0], whole.logits)


def test_saving_what_was_loaded_gives_the_same_bytes(folder, loaded, tmp_path):
    loaded.save_pretrained(tmp_path / "first")
    again = load(tmp_path / "first")
    again.save_pretrained(tmp_path / "second")
    for name in ("flax_model.msgpack", "config.json", "generation_config.json"):
        written = (tmp_path / "first" / name).read_bytes()
        assert (tmp_path / "second" / name).read_bytes() == written
    expected = (folder / "flax_model.msgpack").read_bytes()
    assert (tmp_path / "first" / "flax_model.msgpack").read_bytes() == expected
    assert again.config.transformer_config == CONFIGS["hyperdecoder"]
    assert again.config.architectures == [exported_folder.ARCHITECTURE]


@pytest.mark.parametrize(
    "kw", [{}, {"formats": ("safetensors",)}], ids=["sharded", "sharded safetensors"]
)
def test_any_exported_folder_gives_the_same_parameters(loaded, kw, tmp_path):
    export(tmp_path, CONFIGS["hyperdecoder"], max_shard_bytes=3000, **kw)
    assert len(list(tmp_path.glob("*model*"))) > 3
    jax.tree.map(np.testing.assert_array_equal, load(tmp_path).params, loaded.params)


@pytest.mark.parametrize("kw", [{"max_shard_size": "3KB"}, {"safe_serialization": True}])
def test_any_saved_folder_gives_the_same_parameters(loaded, kw, tmp_path):
    loaded.save_pretrained(tmp_path, **kw)
    jax.tree.map(np.testing.assert_array_equal, load(tmp_path).params, loaded.params)


def test_a_hub_id_is_downloaded_as_it_is_asked_for(folder, loaded, monkeypatch):
    asked = []

    def download(name, **kw):
        asked.append((name, kw))
        return folder

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    found = load("somebody/some_model", revision="v2").params
    jax.tree.map(np.testing.assert_array_equal, found, loaded.params)
    kw = {"revision": "v2", "allow_patterns": ["*.json", "*.msgpack"]}
    assert asked == [("somebody/some_model", kw)]


def test_it_may_be_traced_with_parameters_from_outside(folder, loaded):
    model, params = load(folder, _do_init=False)
    jax.tree.map(np.testing.assert_array_equal, params, loaded.params)

    def loss(params, given, task_ids):
        mask = given["input_ids"] > 0
        logits = model(**given, attention_mask=mask, task_ids=task_ids, params=params).logits
        return jnp.sum(logits**2)

    # Without compiling it.
    gradients = jax.eval_shape(jax.grad(loss), params, GIVEN, BATCH.task_ids)
    assert jax.tree.map(jnp.shape, gradients) == jax.tree.map(jnp.shape, params)
    generate = lambda params, tokens: model.generate(tokens, params=params, max_new_tokens=3)  # noqa: E731
    assert jax.eval_shape(generate, params, TOKENS).sequences.shape == (3, 4)


def test_dropout_is_for_training_with_a_key(loaded):
    def draws(**kw):
        return "random_bits" in str(jax.make_jaxpr(lambda: loaded(**GIVEN, **kw).logits)())

    assert draws(train=True, dropout_rng=jax.random.key(1))
    assert not draws(dropout_rng=jax.random.key(1))
    with pytest.raises(ValueError, match=r"dropout_rng must be given where train=True.*got None"):
        loaded(**GIVEN, train=True)


def test_a_new_model_has_random_parameters(folder, loaded):
    config = HyperdecoderConfig.from_pretrained(folder)

    def make(seed):
        return FlaxHyperdecoderForConditionalGeneration(config, seed=seed).params

    # Without compiling it.
    found, expected = (
        jax.tree.map(jnp.shape, x) for x in (jax.eval_shape(lambda: make(2)), loaded.params)
    )
    assert found == expected


def test_activations_may_be_bfloat16(folder):
    model = load(folder, dtype=jnp.bfloat16)
    assert model.params["shared"]["embedding"].dtype == jnp.float32
    encoded = jax.eval_shape(lambda: model.encode(TOKENS))
    assert encoded.last_hidden_state.dtype == jnp.bfloat16
    with pytest.raises(ValueError, match=r"dtype must be one of .*; got 'float16'"):
        load(folder, dtype=jnp.float16)


@pytest.mark.parametrize(
    ("task_ids", "message"),
    [
        (None, r"parameters for each task, so task_ids must be given; got None.*'sst2'"),
        ([1, 2], r"task_ids must be of shape \(3,\).*; got \(2,\)"),
        ([1, 2, 4], r"task_ids must be from 0 to 3; got \[1, 2, 4\]"),
        (-1, r"task_ids must be from 0 to 3; got -1"),
    ],
)
def test_a_model_with_parameters_for_each_task_needs_to_know_the_task(exported, task_ids, message):
    model = exported["HyperGrid"].model
    for method in (model.encode, model.generate):
        with pytest.raises(ValueError, match=message):
            method(TOKENS, task_ids=task_ids)


def test_one_task_may_be_given_for_all(exported):
    model = exported["HyperGrid"].model
    encode = lambda task_ids: model.encode(TOKENS, task_ids=task_ids)  # noqa: E731
    one, each = (jax.make_jaxpr(encode)(np.array(ids)).out_avals for ids in (2, [2, 2, 2]))
    assert one == each


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"input_ids": [5, 6]}, r"input_ids must be integers of shape .*; got int\d+ of shape \(2"),
        ({"input_ids": TOKENS * 0.5}, r"input_ids must be integers .*; got float\d+ of shape"),
        ({"attention_mask": TOKENS[:1] > 0}, r"shape of its tokens, \(3, 7\); got \(1, 7\)"),
        ({"attention_mask": TOKENS >= 0}, r"must be 0 at padding.*; it is 1 at \d+ of them"),
        ({"decoder_input_ids": None}, r"decoder_input_ids must be given; got None.*call generate"),
        ({"decoder_attention_mask": np.eye(3, 6)}, r"at the end of a row alone.*a 1 comes after"),
        ({"output_attentions": True}, r"output_attentions must be False; got True"),
    ],
)  # fmt: skip
def test_arguments_that_cannot_be_meant_are_refused(loaded, arguments, message):
    with pytest.raises(ValueError, match=message):
        loaded(**GIVEN | arguments)


def test_options_are_shown_by_name_and_unknown_ones_refused(loaded):
    for method in (loaded.__call__, loaded.encode, loaded.decode):
        found = inspect.signature(method).parameters
        assert {"train", "params", "dropout_rng", "return_dict"} <= set(found)
        assert inspect.Parameter.VAR_KEYWORD not in {x.kind for x in found.values()}
    with pytest.raises(TypeError, match=r"unexpected keyword argument 'training'"):
        loaded.encode(TOKENS, training=True)


def test_generate_is_traced_always(loaded):
    with pytest.raises(ValueError, match=r"trace must be True; got False.*disable_jit"):
        loaded.generate(TOKENS, trace=False)


def test_decoding_needs_all_that_encode_gave(loaded):
    states = loaded.encode(TOKENS).last_hidden_state
    with pytest.raises(ValueError, match=r"must be what encode gave, .*; got a tuple that ends"):
        loaded.decode(BATCH.decoder_input_tokens, (states,))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"decoder_adapter": {"source": "none"}},
            r"missing: none; unexpected: decoder_adapters/.* more; .* Copy",
        ),
        ({"num_decoder_layers": 2}, r"missing: decoder/layers_1/.* and \d+ more; unexpected: none"),
        ({"d_ff": 16}, r"of another shape: decoder/layers_0/mlp/wi_0/kernel is .* more\. "),
    ],
)
def test_weights_that_are_not_the_model_s_are_refused(folder, change, message):
    with pytest.raises(ValueError, match=message):
        load(folder, **change)


def test_a_folder_that_is_not_there_or_has_no_weights_is_refused(folder, tmp_path):
    (tmp_path / "config.json").write_bytes((folder / "config.json").read_bytes())
    with pytest.raises(FileNotFoundError, match=r"hold .*safetensors"):
        load(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"a folder, or a hub id .*; got /gone/x"):
        load("/gone/x")


@pytest.mark.parametrize("module", [types.ModuleType("transformers"), None], ids=["5", "none"])
def test_transformers_without_flax_is_told(monkeypatch, module):
    monkeypatch.delitem(sys.modules, "hyperdecoders_jax.hub.flax_hyperdecoder")
    monkeypatch.setitem(sys.modules, "transformers", module)
    message = r"needs transformers 4\.57, the last release with Flax; .*: .*pip install.*\[hf\]"
    with pytest.raises(ImportError, match=message):
        interop.FlaxHyperdecoderForConditionalGeneration  # noqa: B018


def test_flax_t5_is_repaired_for_itself_alone(monkeypatch):
    monkeypatch.setattr(modeling_flax_t5, "jnp", jnp)
    clip = jnp.clip
    flax_t5.repair()
    assert modeling_flax_t5.jnp.clip(jnp.array([3, -2]), a_max=0).tolist() == [0, -2]
    assert modeling_flax_t5.jnp.where is jnp.where
    assert jnp.clip is clip
