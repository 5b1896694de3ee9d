"""A configuration of ours comes back from transformers' `config.json`, and AutoConfig knows it."""

import dataclasses
import json
import subprocess
import sys

import pytest
import transformers

from hyperdecoders_jax import interop, types
from hyperdecoders_jax.data import tokenizer
from hyperdecoders_jax.decoding.decode import GreedyConfig
from hyperdecoders_jax.hub.hyperdecoder_config import HyperdecoderConfig
from hyperdecoders_jax.modeling import config as modeling_config
from hyperdecoders_jax.modeling.config import HyperGridConfig
from hyperdecoders_jax.weights import exported_folder, hugging_face, trained_model
from tests import tiny

TASKS = ["cola", "mnli", "sst2"]
CONFIGS = {
    "adapters": tiny.make_config("manual", "generated"),
    "tasks": tiny.make_config("task", "manual_specific", mlp_activations=("relu",)),
    "tied": tiny.make_config("none", "manual", logits_via_embedding=True),
    "LoRA": tiny.make_config(decoder_sites=("cross_attention_query", "after_feed_forward")),
    "networks": tiny.make_config(network=modeling_config.HyperFormerConfig(6, 5, 4)),
    "gates": tiny.make_config(
        "none", "none", num_trained_tasks=3, encoder_hypergrid=HyperGridConfig(2, 4, "GG")
    ),
}


def fields_of(config):
    """The fields of an exported folder's config.json."""
    description = trained_model.Description(
        model=config,
        decoding=GreedyConfig(),
        backbone=None,
        vocabulary=trained_model.Vocabulary(tokenizer.BYTES_MODEL, 0),
        task_names=tuple(TASKS),
        task_feature_lengths={"inputs": 13, "targets": 6},
        step=3,
    )
    return json.loads(json.dumps(exported_folder.config_to_json(description)))


@pytest.mark.parametrize("name", CONFIGS)
def test_a_saved_configuration_comes_back(name, tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(fields_of(CONFIGS[name])))
    folder = tmp_path
    for copy in ("first", "second"):
        loaded = transformers.AutoConfig.from_pretrained(folder)
        assert type(loaded) is HyperdecoderConfig
        assert loaded.transformer_config == CONFIGS[name]
        assert loaded.task_names == TASKS
        folder = tmp_path / copy
        loaded.save_pretrained(folder)
    first, second = (tmp_path / copy / "config.json" for copy in ("first", "second"))
    assert first.read_bytes() == second.read_bytes()


def test_without_arguments_it_is_a_plain_t5():
    plain = HyperdecoderConfig().transformer_config
    assert plain == hugging_face.config_from_json(transformers.T5Config().to_dict())


def test_tasks_have_the_numbers_of_their_list():
    config = HyperdecoderConfig(**fields_of(CONFIGS["tasks"]))
    assert [config.task_id(task) for task in TASKS] == [0, 1, 2]
    message = r"one of \('cola', 'mnli', 'sst2'\).*; got 'sst3'\. Did you mean 'sst2'"
    with pytest.raises(ValueError, match=message):
        config.task_id("sst3")
    adapter = dataclasses.replace(CONFIGS["tasks"].decoder_adapter, unseen_tasks="mean")
    mean = dataclasses.replace(
        CONFIGS["tasks"], encoder_adapter=adapter, decoder_adapter=adapter
    )  # fmt: skip
    assert HyperdecoderConfig(**fields_of(mean)).task_id("sst3") == types.UNSEEN_TASK_ID


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"decoder_adapter": {"source": "generate"}}, r"must be one of .*; got 'generate'\. Did"),
        ({"encoder_hypergrid": {"rows": 2, "columns": 2}}, r"unknown: \['columns'\].*\['cols'\]"),
        ({"format_version": 2, "made_by": "me"}, r"format_version 1; .* 2, made by me\. Update"),
        ({"pad_token_id": 3}, r"pad_token_id in config.json must be among .*; got 3"),
    ],
)
def test_a_field_that_is_no_good_is_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        HyperdecoderConfig(**fields)


def test_importing_the_package_imports_no_framework():
    code = (
        "import sys, hyperdecoders_jax.interop; "
        "print({'transformers', 'torch', 'flax', 'jax'} & set(sys.modules))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (result.stdout, result.stderr) == ("set()\n", "")


def test_the_package_has_the_class_and_no_name_that_is_not_there():
    assert interop.HyperdecoderConfig is HyperdecoderConfig
    with pytest.raises(AttributeError, match=r"interop' has no attribute 'FlaxHyperdecoder'"):
        interop.FlaxHyperdecoder  # noqa: B018


def test_pytorch_that_is_not_there_is_told(monkeypatch):
    monkeypatch.delitem(sys.modules, "hyperdecoders_jax.hub.torch_hyperdecoder", raising=False)
    monkeypatch.setitem(sys.modules, "torch", None)
    message = r"needs transformers and PyTorch; .*: .*torch.*pip install 'hyper.*\[torch\]'"
    with pytest.raises(ImportError, match=message):
        interop.HyperdecoderForConditionalGeneration  # noqa: B018
