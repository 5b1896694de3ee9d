"""Adapter folders come back as they were written; damaged ones and those of others are refused."""

import dataclasses
import json

import numpy as np
import pytest

from hyperdecoders_jax import model
from hyperdecoders_jax.data import tokenizer
from hyperdecoders_jax.decoding.beam_search import BeamSearchConfig, T5XScoring
from hyperdecoders_jax.decoding.sampling import GreedyConfig, SamplingConfig
from hyperdecoders_jax.weights import adapter_folder, arrays, trained_model
from tests import tiny

ARRAYS = {"encoder_adapters/feed_forward/up_bias": np.arange(6, dtype=np.float32).reshape(2, 3)}


def describe(**fields):
    defaults = dict(
        model=tiny.make_config("manual", "generated"),
        decoding=GreedyConfig(min_len=2),
        backbone=trained_model.Backbone("weights/t5", "0123456789abcdef", "bfloat16"),
        vocabulary=trained_model.Vocabulary(b"the bytes of a model", 3),
        task_names=("cola", "sst2"),
        task_feature_lengths={"inputs": 7, "targets": 5},
        step=11,
    )
    return trained_model.Description(**(defaults | fields))


def write(folder, **fields):
    description = describe(**fields)
    adapter_folder.write(folder, description, arrays.in_memory(ARRAYS))
    return description


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"decoding": BeamSearchConfig(num_beams=3, scoring=T5XScoring(alpha=0.3))},
        {"decoding": SamplingConfig(temperature=0.5, top_k=3)},
        {"backbone": None},
        {"vocabulary": trained_model.Vocabulary(tokenizer.BYTES_MODEL, 125)},
    ],
    ids=lambda fields: next(iter(fields), "default"),
)
def test_what_is_written_comes_back(tmp_path, fields):
    assert not adapter_folder.is_adapter_folder(tmp_path)
    written = write(tmp_path, **fields)
    assert adapter_folder.is_adapter_folder(tmp_path)
    description, stored = adapter_folder.read(tmp_path)
    assert description == written
    assert set(stored) == set(ARRAYS)
    for name, array in ARRAYS.items():
        np.testing.assert_array_equal(stored[name].read(), array)


def test_a_folder_holds_three_files(tmp_path):
    write(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "adapters.safetensors", "config.json", "spiece.model"
    ]  # fmt: skip
    fields = json.loads((tmp_path / "config.json").read_text())
    assert fields["backbone"]["source"] == "weights/t5"
    assert fields["made_by"].startswith("hyperdecoders_jax ")


@pytest.mark.parametrize(
    "sizes",
    [
        dict(num_encoder_layers=256, num_decoder_layers=256),
        dict(num_encoder_layers=40, num_decoder_layers=40, emb_dim=100_000, mlp_dim=100_000),
    ],
    ids=["deep", "wide"],
)
def test_claimed_sizes_are_refused_before_their_layers_are_traced(tmp_path, sizes, monkeypatch):
    """Tracing 512 layers takes 12 s of a processor."""
    traced, trace = [], model.Model.init_variables

    def record(self, rng):
        traced.append((self.config.num_encoder_layers, self.config.num_decoder_layers))
        return trace(self, rng)

    model_config = dataclasses.replace(tiny.make_config("manual", "generated"), **sizes)
    write(tmp_path, model=model_config)
    monkeypatch.setattr(model.Model, "init_variables", record)
    with pytest.raises(
        ValueError, match=r"must hold exactly the parameters .* missing: decoder_ad"
    ):
        adapter_folder.read_whole(str(tmp_path), None, None)
    assert set(traced) <= {(1, 1)}


def edit(folder, **fields):
    file = folder / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | fields))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"format": "another"}, r"must say format 'hyperdecoders_jax adapters'; it belongs to"),
        ({"version": 2}, r"must be of version 1; .*config.json is of 2, made by hyper.*Update"),
        ({"task_names": None}, r"task_names in .*json must be a list of texts; got None"),
        ({"task_names": [*"abcde"]}, r"num_tasks in .* the 5 of task_names; got 4\. Write"),
        ({"task_feature_lengths": {"inputs": 0, "targets": 5}}, r"inputs in .*1 to 65,536.*got 0"),
        ({"decoding": {"type": "Greedyconfig"}}, r"one of .*Did you mean 'GreedyConfig'\? A later"),
        ({"model": {"sizes": 3}}, r"The fields of a TransformerConfig must be among .*'sizes'"),
        (
            {"vocabulary": {"file": "spiece.model", "num_sentinels": 4, "fingerprint": "9876"}},
            r"must be the vocabulary .* of fingerprint 9876; it has \w+\. Copy the folder again",
        ),
    ],
)  # fmt: skip
def test_a_config_that_does_not_fit_is_refused(tmp_path, fields, message):
    write(tmp_path, model=tiny.make_config("task", "generated"), task_names=tuple("abcd"))
    edit(tmp_path, **fields)
    with pytest.raises(ValueError, match=message):
        adapter_folder.read(tmp_path)


def test_missing_and_damaged_files_are_named(tmp_path):
    with pytest.raises(ValueError, match=r"must hold config.json; there is no .*--to=adapters:"):
        adapter_folder.read(tmp_path)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(ValueError, match=r"config.json must be JSON: .* Copy the folder"):
        adapter_folder.read(tmp_path)
    assert not adapter_folder.is_adapter_folder(tmp_path)
    write(tmp_path)
    file = tmp_path / "adapters.safetensors"
    file.write_bytes(file.read_bytes()[:-5])
    with pytest.raises(ValueError, match=r"adapters.safetensors is not: "):
        adapter_folder.read(tmp_path)
    (tmp_path / "spiece.model").rename(tmp_path / "kept")
    with pytest.raises(FileNotFoundError, match=r"must hold spiece.model; there is none in .*agai"):
        adapter_folder.read(tmp_path)
    (tmp_path / "kept").rename(tmp_path / "spiece.model")
    file.unlink()
    with pytest.raises(FileNotFoundError, match=r"there is nothing at .*adapters.safetensors"):
        adapter_folder.read(tmp_path)


def test_an_edited_model_is_refused(tmp_path):
    """Its arrays would fit, and its predictions would be others."""
    write(tmp_path)
    fields = json.loads((tmp_path / "config.json").read_text())["model"]
    fields["encoder_adapter"]["norm_input"] = True
    edit(tmp_path, model=fields)
    with pytest.raises(ValueError, match=r"these fields differ: encoder_adapter\. Undo the edit"):
        adapter_folder.read(tmp_path)
