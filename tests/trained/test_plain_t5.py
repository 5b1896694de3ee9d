"""T5s with their tokenizer, which no run of ours made; and what is refused. test_text_model.py has
whole runs."""

import functools
import json

import gin
import jax
import numpy as np
import pytest

import hyperdecoders_jax
from hyperdecoders_jax.config import gin_binding, gin_files
from hyperdecoders_jax.data import tokenizer
from hyperdecoders_jax.decoding.beam_search import BeamSearchConfig, HuggingFaceScoring
from hyperdecoders_jax.decoding.sampling import GreedyConfig, SamplingConfig
from hyperdecoders_jax.hub import tokenizer_files
from hyperdecoders_jax.model import Model
from hyperdecoders_jax.modeling.config import AdapterConfig
from hyperdecoders_jax.trained import start
from hyperdecoders_jax.weights import (
    arrays,
    conversion,
    exported_folder,
    formats,
    names,
    trained_model,
)
from tests import tiny
from tests.data import test_tokenizer_json
from tests.trained import test_text_model

SIZES = dict(vocab_size=259, num_encoder_layers=1, num_decoder_layers=2)


def write_json(folder, name, **fields):
    (folder / name).write_text(json.dumps(fields))


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """A plain T5 of bytes."""
    folder = tmp_path_factory.mktemp("t5")
    config = tiny.make_config("none", "none", **SIZES)
    description = trained_model.Description(
        config, GreedyConfig(), None, trained_model.Vocabulary(tokenizer.BYTES_MODEL, 0), (),
        {"inputs": 13, "targets": 6}, 0,
    )  # fmt: skip
    flat = arrays.in_memory(names.flatten(tiny.make_params(Model(config))))
    exported_folder.write_weights(folder, description, flat)
    return folder


@pytest.fixture
def t5(written, tmp_path):
    """The same, with nothing beside its weights yet."""
    for file in written.iterdir():
        (tmp_path / file.name).symlink_to(file)
    return tmp_path


def test_a_plain_t5_reads_and_writes_as_its_files_say(t5):
    write_json(t5, "tokenizer_config.json", tokenizer_class="ByT5Tokenizer", extra_ids=0,
               model_max_length=13)  # fmt: skip
    write_json(t5, "generation_config.json", max_new_tokens=6, num_beams=2, length_penalty=0.5)
    loaded = hyperdecoders_jax.load(t5)
    assert loaded.task_feature_lengths == {"inputs": 13, "targets": 6}
    model = Model(
        tiny.make_config("none", "none", **SIZES, num_tasks=None),
        decoding=BeamSearchConfig(num_beams=2, scoring=HuggingFaceScoring(length_penalty=0.5)),
    )
    assert loaded.model.decoding == model.decoding
    row = loaded.reader.row("abc")
    predict = jax.jit(functools.partial(model.predict, max_len=6))
    decoded = predict(loaded.params, loaded.reader.batch([row], 1, 8))
    (expected,) = loaded.reader.texts([row], decoded)
    assert loaded.predict(["abc"]) == [expected.text]
    (scored,) = loaded.predict_scored([("abc", "any task")])
    assert scored.text == expected.text
    assert scored.log_likelihood == pytest.approx(expected.log_likelihood, rel=1e-5)


def test_a_run_that_starts_from_a_plain_t5_takes_what_its_files_say(t5):
    write_json(t5, "tokenizer_config.json", tokenizer_class="ByT5Tokenizer", model_max_length=13)
    expected = {
        "is_plain": True,
        "emb_dim": 8,
        "encoder_adapter": AdapterConfig(),
        "decoding": GreedyConfig(),
        "task_feature_lengths": {"inputs": 13, "targets": 20},
        "task_names": None,
    }
    for name, value in expected.items():
        with gin.config_scope(name):
            assert start.field(str(t5)) == value


@pytest.mark.parametrize(
    ("adapters", "is_backbone_trained"), [([], True), (["adapters/hyperdecoder.gin"], False)]
)
def test_a_plain_t5_is_trained_unless_an_experiment_adapts_it(t5, adapters, is_backbone_trained):
    write_json(t5, "tokenizer_config.json", tokenizer_class="ByT5Tokenizer")
    files = ["runs/embedded/train.gin", "runs/init.gin", *adapters, "optim/adamw_linear.gin"]
    macros = {"INITIAL_CHECKPOINT_PATH": str(t5), "MODEL_DIR": "x", "TRAIN_STEPS": 1}
    bindings = [f"{name} = {value!r}" for name, value in macros.items()]
    gin_binding.parse(gin_files.read(files, bindings))
    config = test_text_model.value_of("MODEL").config
    assert (config.emb_dim, config.decoder_adapter.source) == (
        8,
        "generated" if adapters else "none",
    )
    assert test_text_model.value_of("TRAINABLE").backbone == is_backbone_trained
    gin.clear_config()


@pytest.mark.parametrize(
    ("generation", "decoding", "targets"),
    [
        (None, GreedyConfig(), 20),
        ({"max_length": 9, "min_length": 2}, GreedyConfig(min_len=2), 8),
        ({"max_new_tokens": 9, "num_beams": 3, "early_stopping": True},
         BeamSearchConfig(3, scoring=HuggingFaceScoring(early_stopping=True)), 9),
        ({"do_sample": True, "top_p": 0.5}, SamplingConfig(top_k=50, top_p=0.5), 20),
    ],
)  # fmt: skip
def test_what_nobody_says_is_as_in_transformers(t5, generation, decoding, targets):
    write_json(t5, "tokenizer_config.json", tokenizer_class="ByT5Tokenizer", model_max_length=1e30)
    if generation is not None:
        write_json(t5, "generation_config.json", **generation)
    description = formats.read_text(str(t5)).description
    assert description.decoding == decoding
    assert description.task_feature_lengths == {"inputs": 512, "targets": targets}
    assert description.vocabulary == trained_model.Vocabulary(tokenizer.BYTES_MODEL, 125)


@pytest.mark.parametrize(("length", "tokens"), [(None, 512), (13, 13), (1e30, 512), (24.0, 24)])
def test_a_tokenizer_s_length_may_be_unset(t5, length, tokens):
    fields = {"tokenizer_class": "ByT5Tokenizer", "model_max_length": length}
    write_json(t5, "tokenizer_config.json", **fields)
    description = formats.read_text(str(t5)).description
    assert description.task_feature_lengths["inputs"] == tokens


@pytest.mark.parametrize("length", [0, -1, "512", [512], True])
def test_a_tokenizer_s_length_is_a_number(t5, length):
    fields = {"tokenizer_class": "ByT5Tokenizer", "model_max_length": length}
    write_json(t5, "tokenizer_config.json", **fields)
    with pytest.raises(ValueError, match=r"model_max_length in .*tokenizer_config.json must be"):
        formats.read_text(str(t5))


def test_what_is_not_done_here_is_told(t5, caplog):
    write_json(t5, "tokenizer_config.json", tokenizer_class="ByT5Tokenizer")
    write_json(t5, "generation_config.json", no_repeat_ngram_size=3)
    with caplog.at_level("WARNING", logger="absl"):
        formats.read_text(str(t5))
    [record] = caplog.records
    assert "Not done here: no_repeat_ngram_size=3." in record.getMessage()
    caplog.clear()
    # So transformers 5 writes every T5's.
    written = dict(
        _from_model_config=True,
        output_attentions=False,
        output_hidden_states=False,
        eos_token_id=[1],
        decoder_start_token_id=0,
        transformers_version="5.24.0",
    )
    write_json(t5, "generation_config.json", **written)
    with caplog.at_level("WARNING", logger="absl"):
        formats.read_text(str(t5))
    assert not caplog.records


def test_a_tokenizer_json_is_the_vocabulary_where_it_is_alone(t5):
    model = test_tokenizer_json.make_model().SerializeToString()
    tokenizer_files.write(t5, trained_model.Vocabulary(model, 7), max_len=13)
    (t5 / "spiece.model").unlink()
    with_extra_ids = json.loads((t5 / "tokenizer_config.json").read_text()) | {"extra_ids": 99}
    write_json(t5, "tokenizer_config.json", **with_extra_ids)
    found = formats.read_text(str(t5)).description.vocabulary
    ours, theirs = (tokenizer.make(x, 7) for x in (model, found.model))
    assert found.num_sentinels == 7
    assert ours.encode("a <extra_id_6> ﬁne  dog") == theirs.encode("a <extra_id_6> ﬁne  dog")


@pytest.mark.parametrize("file", ["generation_config.json", "tokenizer_config.json"])
def test_a_file_that_is_not_json_is_told(t5, file):
    (t5 / file).write_text("{")
    with pytest.raises(ValueError, match=rf"{file} must be JSON: .*Copy or download it again"):
        formats.read_text(str(t5))


def test_a_t5_without_its_vocabulary_is_refused(t5):
    message = (
        r"must come with its vocabulary; .* no spiece\.model and no tokenizer\.json\. Copy one"
    )
    with pytest.raises(FileNotFoundError, match=message):
        hyperdecoders_jax.load(t5)


def test_weights_that_are_no_text_model_are_refused(t5, tmp_path):
    weights = formats.read(str(t5))
    formats.FORMATS["safetensors"].write(tmp_path / "t5.safetensors", weights)
    message = r"must be a training run, an adapter folder or an exported folder; .* safetensors"
    with pytest.raises(ValueError, match=message):
        hyperdecoders_jax.load(tmp_path / "t5.safetensors")


@pytest.mark.parametrize(
    ("flag", "message"),
    [
        ({"step": "3"}, r"Only a training run has a step to choose; .* format hugging_face"),
        ({"backbone": "t5"}, r"Only an adapter folder has a backbone to choose; .* 't5'"),
    ],
)
def test_what_a_folder_does_not_have_cannot_be_chosen(t5, flag, message):
    with pytest.raises(ValueError, match=message):
        hyperdecoders_jax.load(t5, **flag)


def test_bfloat16_of_a_file_is_computed_with_as_float32(t5, tmp_path):
    weights = conversion.cast(formats.read(str(t5)), "bfloat16")
    formats.FORMATS["hugging_face"].write(tmp_path / "half", weights)
    write_json(tmp_path / "half", "tokenizer_config.json", tokenizer_class="ByT5Tokenizer")
    half = hyperdecoders_jax.load(tmp_path / "half").params
    assert {x.dtype for x in jax.tree.leaves(half)} == {np.dtype(np.float32)}
    params = formats.read_text(str(tmp_path / "half")).as_predicted().params()
    jax.tree.map(np.testing.assert_array_equal, params, half)
