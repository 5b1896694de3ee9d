"""The PyTorch class as its users' tools use it: half precision, collators, trainers, pickles."""

import copy
import pickle

import numpy as np
import pytest

from hyperdecoders_jax import interop
from tests.hub import test_torch_hyperdecoder as shared

torch = pytest.importorskip("torch", reason="PyTorch is not installed")
transformers = pytest.importorskip("transformers")

pytestmark = pytest.mark.torch

make = shared.make


def make_overflowing():
    """T5s of transformers and ours, whose states outgrow float16."""
    config = transformers.T5Config(
        vocab_size=31, d_model=8, d_kv=6, d_ff=14, num_layers=2, num_heads=2,
        decoder_start_token_id=0, feed_forward_proj="gated-gelu",
    )  # fmt: skip
    torch.manual_seed(0)
    theirs = transformers.T5ForConditionalGeneration(config).eval()
    with torch.no_grad():
        for stack in (theirs.encoder, theirs.decoder):
            for block in stack.block:
                block.layer[-1].DenseReluDense.wo.weight *= 2e4
    fields = config.to_dict() | {"tie_word_embeddings": True}
    del fields["model_type"], fields["architectures"]
    ours = interop.HyperdecoderForConditionalGeneration(interop.HyperdecoderConfig(**fields)).eval()
    missing, _ = ours.load_state_dict(theirs.state_dict(), strict=False)
    assert not missing
    return theirs, ours


def test_infinities_of_float16_are_clamped_as_in_transformers():
    theirs, ours = make_overflowing()
    tokens = shared.tensor(shared.make_batch().encoder_input_tokens)
    inputs = {"input_ids": tokens, "attention_mask": (tokens > 0).long(), "labels": tokens}
    with torch.no_grad():
        wanted, found = (model.half()(**inputs).logits for model in (theirs, ours))
        states = ours.encoder(ours.shared(tokens), tokens > 0, {}, lambda layer, x: {})
    assert torch.isfinite(found).all()
    assert torch.isfinite(states).all()
    assert (found - wanted).abs().float().mean() < 0.01 * wanted.float().std()


@pytest.mark.parametrize("name", shared.MODELS)
def test_half_precision_is_close_with_adapters_and_gates(make, name):
    theirs, batch = make(shared.MODELS[name]), shared.make_batch()
    expected = shared.logits_of(theirs, batch)
    found = shared.logits_of(theirs.half(), batch)
    assert np.mean(np.abs(found - expected)) < 0.02 * np.std(expected)
    assert shared.generate(theirs, batch, num_beams=2).shape == (shared.BATCH, shared.MAX_LEN)


@pytest.mark.parametrize("name", [*shared.MODELS, "HyperFormer"])
def test_a_model_can_be_pickled_and_copied(make, name):
    hyperformer = shared.make_config("manual", "task", network=shared.NETWORKS["HyperFormer"])
    theirs, batch = make(shared.MODELS.get(name, hyperformer)), shared.make_batch()
    expected = shared.logits_of(theirs, batch)
    for again in (pickle.loads(pickle.dumps(theirs)), copy.deepcopy(theirs)):
        np.testing.assert_array_equal(shared.logits_of(again, batch), expected)


def test_labels_become_decoder_inputs_for_losses_outside_the_model(make):
    theirs, batch = make(shared.MODELS["hyperdecoder"]).train(), shared.make_batch()
    targets = shared.tensor(batch.decoder_target_tokens)
    labels = torch.where(targets > 0, targets, -100)
    shifted = theirs.prepare_decoder_input_ids_from_labels(labels=labels)
    np.testing.assert_array_equal(shifted[:, 1:], targets[:, :-1])
    # As the Trainer smooths labels: a batch without them, in training.
    output = theirs(**shared.inputs_of(batch), decoder_input_ids=shifted)
    assert "past_key_values" not in output
    assert "cache" not in output
    smoother = transformers.trainer_pt_utils.LabelSmoother(epsilon=0.1)
    smoother(output, labels).backward()
    assert theirs.shared.weight.grad.abs().sum() > 0


@pytest.mark.parametrize("name", ["past_key_values", "cache"])
def test_a_cache_has_the_name_of_either_release(make, name):
    theirs, batch = make(shared.MODELS["hyperdecoder"]), shared.make_batch()
    tokens = shared.tensor(batch.decoder_input_tokens)
    with torch.no_grad():
        encoded = theirs.encode(**shared.inputs_of(batch))
        first = theirs(encoder_outputs=encoded, decoder_input_ids=tokens[:, :2], use_cache=True)
        held = first["cache" if "cache" in first else "past_key_values"]
        rest = theirs(
            encoder_outputs=encoded, decoder_input_ids=tokens[:, 2:], **{name: held}
        ).logits
    found = torch.cat([first.logits, rest], dim=1).numpy()
    np.testing.assert_allclose(found, shared.logits_of(theirs, batch), atol=shared.ATOL)


@pytest.mark.parametrize("name", shared.MODELS)
@pytest.mark.parametrize("options", [{}, {"num_beams": 3}], ids=["greedy", "beams"])
def test_a_static_cache_gives_the_texts_of_a_dynamic_one(make, name, options):
    theirs, batch = make(shared.MODELS[name], shared.OF_TEXTS), shared.make_batch()
    wanted = shared.generate(theirs, batch, **options)
    found = shared.generate(theirs, batch, cache_implementation="static", **options)
    np.testing.assert_array_equal(found, wanted)


@pytest.mark.parametrize("name", shared.MODELS)
def test_a_step_of_decoding_compiles_as_one_graph(make, name):
    theirs, batch = make(shared.MODELS[name]), shared.make_batch()
    tokens = shared.tensor(batch.decoder_input_tokens)
    encoded = theirs.encode(**shared.inputs_of(batch))
    lengths = tokens.shape[1], encoded.last_hidden_state.shape[1]
    cache = transformers.EncoderDecoderCache(
        *(transformers.StaticCache(config=theirs.config, max_cache_len=x) for x in lengths)
    )
    given = {"encoder_outputs": encoded, "past_key_values": cache}
    # What is captured counts here; machine code of it would need a compiler of C++.
    compiled = torch.compile(theirs.forward, fullgraph=True, backend="eager")
    with torch.no_grad():
        steps = [theirs(decoder_input_ids=tokens[:, :2], **given).logits]
        for i in range(2, tokens.shape[1]):
            steps.append(compiled(decoder_input_ids=tokens[:, i : i + 1], **given).logits)
    found = torch.cat(steps, dim=1).numpy()
    np.testing.assert_allclose(found, shared.logits_of(theirs, batch), atol=shared.ATOL)
