"""The PyTorch class of exported folders, against our model: logits, texts, files, gradients."""

import dataclasses
import functools
import inspect
import itertools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hyperdecoders_jax import interop, losses, model, types
from hyperdecoders_jax.data import tokenizer
from hyperdecoders_jax.decoding.beam_search import BeamSearchConfig, HuggingFace457Scoring
from hyperdecoders_jax.decoding.decode import GreedyConfig
from hyperdecoders_jax.modeling import adapter_sources, config, relative_position
from hyperdecoders_jax.modeling.config import (
    AdapterConfig,
    HyperFormerConfig,
    HyperGridConfig,
    HypernetworkConfig,
    PerLayerHypernetworkConfig,
)
from hyperdecoders_jax.weights import (
    arrays,
    exported_folder,
    hugging_face,
    names,
    trained_model,
)
from tests import tiny

torch = pytest.importorskip("torch", reason="PyTorch is not installed")
transformers = pytest.importorskip("transformers")

pytestmark = pytest.mark.torch

# float32 rounding; logits are of order 1 to 10.
ATOL = 1e-5
BATCH = 5
MAX_LEN = 8
TASK_NAMES = ("cola", "mnli", "qqp", "sst2")
EVERYWHERE = {f"{side}_sites": found for side, found in config.SITES_OF_SIDE.items()}
NETWORKS = {
    "HyperFormer": HyperFormerConfig(embedding_dim=4, hidden_dim=7, joint_dim=6),
    "one for each layer": PerLayerHypernetworkConfig(bottleneck_dim=11),
}
# For the encoder and the decoder.
GRIDS = {
    "of contextual states": (
        HyperGridConfig(4, 2, "L2", "first_state", kernels="both"),
        HyperGridConfig(4, 2, "GL", "pooled", gate="identity"),
    ),
    "of tasks": (
        HyperGridConfig(2, 4, "LG", "task_embedding", gate="identity", unseen_tasks="mean"),
        HyperGridConfig(4, 2, "L2", "task_embedding", kernels="wi", unseen_tasks="mean"),
    ),
    "one-sided": (
        HyperGridConfig(1, 2, "L", "prefix_mean", prefix_len=3, kernels="wi"),
        HyperGridConfig(4, 1, "L", "prefix_mean", prefix_len=3, kernels="both"),
    ),
    "static": (HyperGridConfig(4, 2, "GG", kernels="both"), HyperGridConfig(4, 2, "GG")),
}


# A decoder deeper than its encoder, which transformers' own T5 cannot decode with.
SIZES = dict(num_encoder_layers=1, num_decoder_layers=2, mlp_dim=12)


def make_config(*sources, **kw):
    return tiny.make_config(*sources, **SIZES | kw)


def make_gated(name, *sources, **kw):
    encoder, decoder = GRIDS[name]
    return make_config(*sources, encoder_hypergrid=encoder, decoder_hypergrid=decoder, **kw)


MODELS = {
    "hyperdecoder": make_config("manual", "generated"),
    "tasks, v1.0": make_config(
        "generated",
        "task",
        encoder_sites=("self_attention_out", "after_self_attention"),
        decoder_sites=("feed_forward", "self_attention_key", "cross_attention_value"),
        logits_via_embedding=True,
        mlp_activations=("relu",),
    ),
    "HyperGrid, single adapter": make_gated("of contextual states", "none", "manual"),
}


# Parameters of texts that differ; in logits they would amplify rounding.
OF_TEXTS = 0.7


@functools.cache
def make_params(model_config, scale=0.4):
    return tiny.make_params(model.Model(model_config), scale=scale)


def write(folder, model_config, scale=0.4, **kw):
    """An exported folder of a model with random parameters."""
    description = trained_model.Description(
        model=model_config,
        decoding=GreedyConfig(),
        backbone=None,
        vocabulary=trained_model.Vocabulary(tokenizer.BYTES_MODEL, 0),
        task_names=TASK_NAMES,
        task_feature_lengths={"inputs": 7, "targets": 5},
        step=3,
    )
    flat = arrays.in_memory(names.flatten(make_params(model_config, scale)))
    exported_folder.write_weights(folder, description, flat, formats=("safetensors",), **kw)
    return folder


def load(folder, cls=None, **kw):
    """The model of a folder, every parameter of which it must take, and no other."""
    cls = cls or interop.HyperdecoderForConditionalGeneration
    found, information = cls.from_pretrained(folder, output_loading_info=True, **kw)
    assert not any(information.values()), information
    return found


@pytest.fixture
def make(tmp_path):
    return lambda model_config, *scale: load(write(tmp_path, model_config, *scale))


def make_batch(**kw):
    return tiny.make_batch(seed=1, batch=BATCH, **kw)


def tensor(array):
    return torch.tensor(np.asarray(array)).long()


def inputs_of(batch):
    return {"input_ids": tensor(batch.encoder_input_tokens), "task_ids": tensor(batch.task_ids)}


def logits_of(theirs, batch, **inputs):
    with torch.no_grad():
        return theirs(
            **(inputs_of(batch) | inputs), decoder_input_ids=tensor(batch.decoder_input_tokens)
        ).logits.numpy()


def assert_same_logits(theirs, model_config, batch=None):
    batch = batch or make_batch()
    expected = model.Model(model_config).logits(make_params(model_config), batch)
    assert np.max(np.abs(expected)) > 0.1
    np.testing.assert_allclose(logits_of(theirs, batch), expected, atol=ATOL)


PAIRS = [pair for pair in itertools.product(config.SOURCES, repeat=2) if set(pair) != {"none"}]


@pytest.mark.parametrize(("encoder", "decoder"), PAIRS, ids=[" ".join(p) for p in PAIRS])
def test_every_pair_of_sources_gives_our_logits(make, encoder, decoder):
    model_config = make_config(encoder, decoder)
    assert_same_logits(make(model_config), model_config)


def test_adapters_everywhere_give_our_logits(make):
    model_config = make_config("generated", "manual_specific", **EVERYWHERE)
    assert_same_logits(make(model_config), model_config)


@pytest.mark.parametrize("network", NETWORKS.values(), ids=list(NETWORKS))
def test_every_network_gives_our_logits(make, network):
    sites = ("feed_forward", "self_attention_query", "self_attention_out", "after_feed_forward")
    model_config = make_config("none", "task", network=network, decoder_sites=sites)
    assert_same_logits(make(model_config), model_config)


@pytest.mark.parametrize("name", GRIDS)
def test_every_kind_of_gates_gives_our_logits(make, name):
    model_config = make_gated(name)
    assert_same_logits(make(model_config), model_config)


def test_every_other_choice_gives_our_logits(make):
    model_config = make_config(
        "generated", "task", norm_input=True, pooled_mlp=False, mlp_activations=("silu", "linear")
    )
    narrow = dataclasses.replace(model_config.decoder_adapter, task_embedding_dim=5)
    model_config = dataclasses.replace(model_config, decoder_adapter=narrow)
    assert_same_logits(make(model_config), model_config)


def test_positions_are_in_our_buckets_however_far_apart(make):
    theirs = make(MODELS["hyperdecoder"])
    positions = np.arange(200)
    for side, bidirectional in (("encoder", True), ("decoder", False)):
        attention = getattr(theirs, side).block[0].layer[0]["SelfAttention"]
        found = attention.position_bias(torch.tensor([0, 150]), torch.tensor(positions))[0]
        buckets = relative_position.bucket(
            jnp.asarray(positions - np.array([[0], [150]])),
            bidirectional=bidirectional,
            num_buckets=32,
            max_distance=128,
        )
        table = attention.relative_attention_bias.weight.detach().numpy().T
        np.testing.assert_array_equal(found.detach().numpy(), table[:, buckets])


@pytest.mark.parametrize("activations", [("relu",), ("gelu", "linear")], ids=["v1.0", "v1.1"])
def test_what_nothing_adapts_is_a_t5_of_transformers(tmp_path, activations):
    plain = make_config(
        "none", "none", mlp_activations=activations, logits_via_embedding=len(activations) == 1
    )
    theirs = load(write(tmp_path, plain), transformers.T5ForConditionalGeneration)
    batch, found = make_batch(), inputs_of(make_batch())
    is_real = (found["input_ids"] > 0).long()
    with torch.no_grad():
        logits = theirs(
            input_ids=found["input_ids"],
            attention_mask=is_real,
            decoder_input_ids=tensor(batch.decoder_input_tokens),
        ).logits
    expected = model.Model(plain).logits(make_params(plain), batch)
    np.testing.assert_allclose(logits.numpy(), expected, atol=ATOL)


# ---------------------------------------------------------------- texts


def generate(theirs, batch, **kw):
    """Their tokens as ours: without the start token, padded behind EOS."""
    arguments = inputs_of(batch) | dict(max_new_tokens=MAX_LEN) | kw
    tokens = theirs.generate(**arguments).numpy()[:, 1:]
    is_behind = np.cumsum(tokens == 1, axis=1) - (tokens == 1) > 0
    return np.pad(np.where(is_behind, 0, tokens), ((0, 0), (0, MAX_LEN - tokens.shape[1])))


@functools.cache
def predict(name, decoding):
    ours = dataclasses.replace(model.Model(MODELS[name]), decoding=decoding)
    found = ours.predict(make_params(MODELS[name], OF_TEXTS), make_batch(), max_len=MAX_LEN)
    return np.asarray(found.tokens[:, 0])


GREEDY, BEAMS = GreedyConfig(), BeamSearchConfig(4, scoring=HuggingFace457Scoring())


@pytest.mark.parametrize("name", MODELS)
def test_texts_are_ours(make, name):
    theirs, batch = make(MODELS[name], OF_TEXTS), make_batch()
    expected = predict(name, GREEDY)
    assert len(np.unique(expected, axis=0)) > 1
    np.testing.assert_array_equal(generate(theirs, batch), expected)
    np.testing.assert_array_equal(generate(theirs, batch, use_cache=False), expected)
    left = move_right(tensor(batch.encoder_input_tokens))
    np.testing.assert_array_equal(generate(theirs, batch, input_ids=left), expected)
    np.testing.assert_array_equal(generate(theirs, batch, num_beams=4), predict(name, BEAMS))


def move_right(rows):
    """The same inputs with their padding in front."""
    lengths = (rows > 0).sum(dim=1)
    shifted = [row.roll(int(length)) for row, length in zip(rows, -lengths, strict=True)]
    return torch.stack(shifted)


def test_samples_are_of_their_own_example(make):
    theirs, batch = make(MODELS["hyperdecoder"], OF_TEXTS), make_batch()
    torch.manual_seed(0)
    cold = dict(do_sample=True, temperature=1e-6, top_k=0)
    found = generate(theirs, batch, num_return_sequences=3, **cold)
    np.testing.assert_array_equal(found, np.repeat(predict("hyperdecoder", GREEDY), 3, axis=0))
    warm = dict(do_sample=True, temperature=2.0, top_k=0)
    found = generate(theirs, batch, num_return_sequences=3, **warm)
    assert len(np.unique(found, axis=0)) > BATCH


@pytest.mark.parametrize("name", MODELS)
def test_padding_changes_nothing_on_either_side_and_of_any_length(make, name):
    theirs, batch = make(MODELS[name]), make_batch()
    expected = logits_of(theirs, batch)
    right = tensor(batch.encoder_input_tokens)
    left = move_right(right)
    assert torch.all(left[:, -1] == types.EOS_ID)
    for padded in (left, *(torch.nn.functional.pad(rows, (2, 1)) for rows in (left, right))):
        for inputs in ({}, {"attention_mask": (padded > 0).long()}):
            logits = logits_of(theirs, batch, input_ids=padded, **inputs)
            np.testing.assert_allclose(logits, expected, atol=ATOL)


def test_masked_tokens_are_padding(make):
    theirs, batch = make(MODELS["HyperGrid, single adapter"]), make_batch()
    tokens = tensor(batch.encoder_input_tokens)
    hidden = torch.where(tokens > 0, tokens, 9)
    found = logits_of(theirs, batch, input_ids=hidden, attention_mask=(tokens > 0).long())
    np.testing.assert_allclose(found, logits_of(theirs, batch), atol=ATOL)


def count_calls(*modules):
    counts = [0] * len(modules)

    def count(i):
        counts[i] += 1

    for i, module in enumerate(modules):
        module.register_forward_hook(lambda *_, i=i: count(i))
    return counts


@pytest.mark.parametrize(
    "decoding", [{}, {"num_beams": 4}, {"do_sample": True, "num_return_sequences": 2}], ids=str
)
def test_the_hypernetwork_runs_once_for_all_steps_and_beams(make, decoding):
    theirs = make(make_gated("of contextual states"))
    counts = count_calls(
        theirs.decoder_adapters.hypernetwork,
        theirs.decoder_hypergrid.wo,
        theirs.decoder.block[1].layer[1]["EncDecAttention"].k,
        theirs.decoder.block[1].layer[0]["SelfAttention"].k,
    )
    found = generate(theirs, make_batch(), min_new_tokens=MAX_LEN, **decoding)
    assert found.shape[1] == MAX_LEN
    num_decoder_layers = theirs.transformer_config.num_decoder_layers
    assert counts == [1, num_decoder_layers, 1, MAX_LEN]


# ---------------------------------------------------------------- files


@pytest.mark.parametrize("name", MODELS)
def test_what_is_loaded_and_saved_is_the_same_file(tmp_path, name):
    file = write(tmp_path, MODELS[name]) / "model.safetensors"
    for again in ("once", "twice"):
        load(file.parent).save_pretrained(tmp_path / again)
        assert (tmp_path / again / file.name).read_bytes() == file.read_bytes()
        file = tmp_path / again / file.name
    found = exported_folder.read(file.parent)
    assert found.config == MODELS[name]
    expected = names.flatten(make_params(MODELS[name]))
    assert {path: array.shape for path, array in found.arrays.items()} == {
        path: array.shape for path, array in expected.items()
    }


def test_a_sharded_folder_opens_with_the_auto_class(tmp_path):
    write(tmp_path, MODELS["hyperdecoder"], max_shard_bytes=2000)
    assert len(list(tmp_path.glob("*.safetensors"))) > 3
    theirs = load(tmp_path, transformers.AutoModelForSeq2SeqLM)
    assert isinstance(theirs, interop.HyperdecoderForConditionalGeneration)
    assert_same_logits(theirs, MODELS["hyperdecoder"])


def test_a_head_stays_its_own_where_transformers_calls_every_t5_tied(tmp_path):
    file = write(tmp_path, MODELS["hyperdecoder"]) / "config.json"
    # So transformers 5 writes it.
    fields = {"tie_word_embeddings": True, "scale_decoder_outputs": False}
    file.write_text(json.dumps(json.loads(file.read_text()) | fields))
    assert_same_logits(load(tmp_path), MODELS["hyperdecoder"])


# ---------------------------------------------------------------- training


def test_every_parameter_of_every_site_gets_a_gradient(make):
    theirs = make(make_gated("of tasks", "generated", "task", **EVERYWHERE)).train()
    torch.manual_seed(0)
    batch = make_batch().replace(task_ids=jnp.arange(BATCH) % 4)
    theirs(**inputs_of(batch), labels=tensor(batch.decoder_target_tokens)).loss.backward()
    for name, parameter in theirs.named_parameters():
        assert torch.isfinite(parameter.grad).all(), name
        assert (parameter.grad != 0).any(), name


def test_the_loss_is_ours_and_dropout_is_for_training(make):
    theirs, batch = make(MODELS["hyperdecoder"]), make_batch()
    ours = model.Model(MODELS["hyperdecoder"], losses.LossConfig(reduction="mean"))
    expected, _ = ours.loss(make_params(MODELS["hyperdecoder"]), batch)
    targets = tensor(batch.decoder_target_tokens)
    labels = torch.where(targets > 0, targets, -100)

    def loss():
        with torch.no_grad():
            return theirs(**inputs_of(batch), labels=labels).loss.item()

    np.testing.assert_allclose(loss(), expected, atol=ATOL)
    theirs.train()
    assert abs(loss() - expected) > 1e-3
    assert loss() != loss()


@pytest.mark.parametrize("name", ["tasks, v1.0", "one for each layer"])
def test_bfloat16_is_close(tmp_path, name):
    per_layer = make_config("none", "generated", network=NETWORKS["one for each layer"])
    folder, batch = write(tmp_path, MODELS.get(name, per_layer)), make_batch()
    theirs = load(folder, dtype=torch.bfloat16)
    # transformers 5.0 keeps T5's `wo` in float32, and with it all whose name has these letters.
    kept = "wo" if transformers.__version__.startswith("5.0.") else "no parameter"
    others = (x for name, x in theirs.named_parameters() if kept not in name)
    assert {parameter.dtype for parameter in others} == {torch.bfloat16}
    with torch.no_grad():
        logits = theirs(
            **inputs_of(batch), decoder_input_ids=tensor(batch.decoder_input_tokens)
        ).logits
    assert logits.dtype == torch.bfloat16
    expected = logits_of(load(folder), batch)
    assert np.mean(np.abs(logits.float().numpy() - expected)) < 0.05 * np.std(expected)
    assert generate(theirs, batch, num_beams=2).shape == (BATCH, MAX_LEN)


def test_nothing_is_left_on_another_device(make):
    theirs, batch = make(MODELS["HyperGrid, single adapter"]).to("meta"), make_batch()
    inputs = tensor(batch.encoder_input_tokens).to("meta")
    logits = theirs(input_ids=inputs, labels=inputs).logits
    assert logits.shape == (*inputs.shape, tiny.VOCAB_SIZE)
    assert logits.device.type == "meta"


STARTS = {
    "written": ("generated", HypernetworkConfig()),
    "written as HyperFormer's": ("task", HyperFormerConfig()),
    "learned": ("manual_specific", HypernetworkConfig()),
}


@pytest.mark.parametrize(("source", "network"), STARTS.values(), ids=list(STARTS))
def test_what_a_folder_lacks_starts_as_in_our_model(tmp_path, source, network):
    sites = ("feed_forward", "self_attention_out", "after_feed_forward")
    plain = make_config("none", "none", emb_dim=64)
    adapted = make_config("none", source, emb_dim=64, network=network, decoder_sites=sites)
    write(tmp_path, plain)
    fields = config.to_dict(adapted)
    description = interop.HyperdecoderConfig(
        **json.loads((tmp_path / "config.json").read_text()),
        **{name: fields[name] for name in exported_folder.MODEL_FIELDS},
    )
    torch.manual_seed(0)  # PyTorch draws another seed in each process; few values spread widely.
    theirs = interop.HyperdecoderForConditionalGeneration.from_pretrained(
        tmp_path, config=description
    )
    ours = adapter_sources.SOURCES[source](adapted, "decoder")
    known = adapter_sources.Condition(jnp.zeros((1, 64)), jnp.zeros(1, int))
    params = jax.jit(lambda rng: ours.init(rng, known)["params"])(jax.random.key(0))
    found = theirs.decoder_adapters.state_dict()
    for path, expected in names.flatten(params).items():
        value = found.pop(path.replace("/", ".")).numpy()
        assert value.shape == expected.shape
        np.testing.assert_allclose(value.std(), expected.std(), rtol=0.3, err_msg=path)
        np.testing.assert_allclose(value.mean(), expected.mean(), atol=expected.std(), err_msg=path)
    assert not found


@pytest.mark.parametrize("gate", config.GATES)
def test_gates_start_as_in_our_model(gate):
    grid = HyperGridConfig(8, 4, "LG", "task_embedding", gate=gate)
    fields = hugging_face.config_to_json(make_config("none", "none", emb_dim=64, mlp_dim=64))
    torch.manual_seed(0)
    theirs = interop.HyperdecoderForConditionalGeneration(
        interop.HyperdecoderConfig(
            **fields, decoder_hypergrid=dataclasses.asdict(grid), num_tasks=4
        )
    ).decoder_hypergrid
    rows, cols = theirs.wo.rows_kernel.detach().numpy(), theirs.wo.cols_vector.detach().numpy()
    if gate == "identity":
        np.testing.assert_array_equal(rows, 0.0)
    else:
        np.testing.assert_allclose(rows.std(), 64**-0.5, rtol=0.1)
    assert 0.3 < cols.std() < 2
    np.testing.assert_allclose(theirs.task_embedding.detach().numpy().std(), 1.0, rtol=0.2)


# ---------------------------------------------------------------- tasks and errors


def test_an_unseen_task_gets_the_mean(make):
    of_mean = AdapterConfig("task", 3, unseen_tasks="mean")
    model_config = make_config("none", decoder_adapter=of_mean, num_trained_tasks=3)
    batch = make_batch()
    batch = batch.replace(task_ids=jnp.array([types.UNSEEN_TASK_ID, 0, 3, 1, -1]))
    assert_same_logits(make(model_config), model_config, batch)


def test_one_task_may_be_that_of_all_examples(make):
    theirs, batch = make(MODELS["tasks, v1.0"]), make_batch()
    expected = logits_of(theirs, batch, task_ids=[2] * BATCH)
    np.testing.assert_array_equal(logits_of(theirs, batch, task_ids=2), expected)
    with pytest.raises(ValueError, match=r"task_ids must .*\[0, 1, 2, 3\].*cola.*; got \[4, 4"):
        logits_of(theirs, batch, task_ids=4)


def test_tasks_that_are_missing_or_unknown_are_refused(make):
    theirs, batch = make(make_config("none", "task")), make_batch()
    must = r"task_ids must give the task of each example, one of \[0, 1, 2, 3\].*\['cola'"
    with pytest.raises(ValueError, match=must + r".*; got None\. Pass task_ids=\[model\.config"):
        theirs.generate(tensor(batch.encoder_input_tokens))
    for wrong in ([0, 1, 2, 3, types.UNSEEN_TASK_ID], [0, 1, 2, 3, 4], [0, 1]):
        with pytest.raises(ValueError, match=must + r".*; got \[0, 1.* for 5 examples\. Pass"):
            theirs.encode(tensor(batch.encoder_input_tokens), task_ids=wrong)


def test_what_a_t5_has_and_this_model_not_is_refused(make):
    theirs, inputs = make(MODELS["hyperdecoder"]), inputs_of(make_batch())
    with pytest.raises(ValueError, match=r"does not support \w+ checkpointing"):
        theirs.gradient_checkpointing_enable()
    refused = r"output_attentions .*must be False.*got True and .*hooks"
    with pytest.raises(ValueError, match=refused):
        theirs.generate(**inputs, output_attentions=True, return_dict_in_generate=True)


def test_what_is_missing_or_of_another_kind_is_named(make):
    theirs, batch = make(MODELS["hyperdecoder"]), make_batch()
    inputs = inputs_of(batch)
    with pytest.raises(ValueError, match=r"input_ids or encoder_outputs must be given; .*inputs"):
        theirs(decoder_input_ids=inputs["input_ids"])
    with pytest.raises(ValueError, match=r"decoder_input_ids or labels must be given; .*targets"):
        theirs(**inputs)
    with pytest.raises(
        TypeError, match=r"must be the EncoderOutput .*; got tuple\. Pass model\.enc"
    ):
        theirs(encoder_outputs=(torch.zeros(1, 2, 8),), decoder_input_ids=inputs["input_ids"])


def test_a_folder_of_flax_s_weights_alone_says_how_to_make_others(tmp_path):
    write(tmp_path, MODELS["hyperdecoder"])
    (tmp_path / "model.safetensors").rename(tmp_path / "flax_model.msgpack")
    message = r"must hold model\.safetensors; .* Flax's weights alone\. .*--format=flax,safetensors"
    for cls in (interop.HyperdecoderForConditionalGeneration, transformers.AutoModelForSeq2SeqLM):
        with pytest.raises(FileNotFoundError, match=message):
            cls.from_pretrained(tmp_path)


def test_transformers_finds_the_arguments_of_forward():
    cls = interop.HyperdecoderForConditionalGeneration
    found = inspect.signature(cls.forward).parameters
    assert {"input_ids", "attention_mask", "labels", "task_ids", "use_cache"} <= set(found)
    # With `**kwargs` the Trainer would leave it to the model to average losses over batches.
    assert inspect.Parameter.VAR_KEYWORD not in {x.kind for x in found.values()}
    prepare = inspect.signature(cls.prepare_inputs_for_generation).parameters
    assert {"input_ids", "kwargs"} <= set(prepare)
    assert {"past_key_values", "cache"} & set(prepare)  # The newer name since 5.24.


def test_an_output_may_be_a_tuple(make):
    theirs, inputs = make(MODELS["hyperdecoder"]), inputs_of(make_batch())
    output = theirs(**inputs, labels=inputs["input_ids"])
    loss, logits, states = theirs(**inputs, labels=inputs["input_ids"], return_dict=False)
    assert torch.equal(loss, output.loss)
    assert torch.equal(logits, output.logits)
    assert torch.equal(states, output.encoder_last_hidden_state)


def test_an_encoding_serves_several_calls(make):
    theirs, batch = make(MODELS["tasks, v1.0"]), make_batch()
    tokens = tensor(batch.decoder_input_tokens)
    with torch.no_grad():
        encoded = theirs.get_encoder()(**inputs_of(batch))
        found = theirs(encoder_outputs=encoded, decoder_input_ids=tokens).logits.numpy()
        cache, steps = None, []
        for i in range(tokens.shape[1]):
            step = theirs(
                encoder_outputs=encoded,
                decoder_input_ids=tokens[:, i : i + 1],
                past_key_values=cache,
            )
            cache = step.past_key_values
            steps.append(step.logits)
    expected = logits_of(theirs, batch)
    np.testing.assert_allclose(found, expected, atol=ATOL)
    np.testing.assert_allclose(torch.cat(steps, dim=1).numpy(), expected, atol=ATOL)
