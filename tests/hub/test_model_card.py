"""Model cards say what is known, in a head that the hub reads and a body that people read."""

import dataclasses

import huggingface_hub
import pytest

from hyperdecoders_jax.hub import model_card
from hyperdecoders_jax.modeling.config import HyperFormerConfig, HyperGridConfig
from tests import tiny
from tests.weights import test_adapter_folder

GRID = HyperGridConfig(2, 4, "L2", "task_embedding")


def make(
    encoder="none",
    decoder="none",
    *,
    is_folded=False,
    network=None,
    decoder_hypergrid=None,
    **fields,
):
    trained = tiny.make_config(
        encoder, decoder, network=network, decoder_hypergrid=decoder_hypergrid
    )
    model = dataclasses.replace(trained, decoder_hypergrid=None) if is_folded else trained
    known = dict(name="my_model", formats=("flax",), trained=trained, num_parameters=12345)
    description = test_adapter_folder.describe(model=model)
    return model_card.Export(description=description, **known, **fields)


def head(export):
    return huggingface_hub.ModelCard(model_card.render(export)).data.to_dict()


def test_the_head_is_what_the_hub_reads():
    found = head(
        make("manual", "generated", backbone="google/t5-v1_1-base",
             metrics={"cola": {"matthews": 51.0}, "sst2": {"accuracy": 90.5}})
    )  # fmt: skip
    assert found == {
        "base_model": "google/t5-v1_1-base",
        "library_name": "hyperdecoders_jax",
        "license": "unknown",
        "metrics": ["accuracy", "matthews"],
        "pipeline_tag": "text2text-generation",
        "tags": ["t5", "hyperdecoders"],
    }


def test_a_plain_t5_is_for_transformers_and_says_so():
    export = make(backbone="/home/me/secret/t5.safetensors")
    assert head(export)["library_name"] == "transformers"
    assert "base_model" not in head(export)
    text = model_card.render(export)
    assert "Training began with `t5.safetensors`." in text
    assert "/home/me" not in text
    assert "a plain T5, which `FlaxT5ForConditionalGeneration` of transformers loads" in text
    torch = model_card.render(dataclasses.replace(export, formats=("flax", "safetensors")))
    assert "for x in (AutoTokenizer, AutoModelForSeq2SeqLM)" in torch
    assert "@inproceedings" not in text
    assert "@article{raffel2020t5," in text


def test_the_body_says_what_is_known():
    text = model_card.render(
        make("manual", "generated", num_frozen=12000, mixture="glue",
             metrics={"cola": {"matthews": 51.234}, "sst2": {"accuracy": 90.0}})
    )  # fmt: skip
    for part in (
        "# my_model\n",
        "The encoder has adapters that all examples share. The decoder has adapters that a hyper",
        "for each example, from its encoded text.",
        "Trained on `glue`. Tasks, in their order: `cola`, `sst2`. Inputs are cut after 7 tokens",
        "measured them at step 11, which is exported here:\n\n| task | metric | value |\n",
        "| cola | matthews | 51.23 |\n| sst2 | accuracy | 90.00 |\n",
        "12,345 in all; 12,000 of them are those of the T5 that was adapted, unchanged.",
        "None was chosen yet: choose one",
        'model = hyperdecoders_jax.load("my_model")\n',
        'model.predict(["a text"]))',
        "@inproceedings{ivison2022hyperdecoders,",
    ):
        assert part in text, part


def test_an_example_of_the_run_is_shown_with_its_output():
    example = ("sst2", "a “word”\n", "it's")
    use = model_card.render(make("none", "manual_specific", example=example)).split("## Use")[1]
    assert """model.predict(["a “word”\\n"], task='sst2'))\n# ["it's"]\n""" in use
    assert "pip install hyperdecoders_jax\n" in use


def test_classes_are_named_that_load_the_formats_there_are():
    flax = "`FlaxHyperdecoderForConditionalGeneration`"
    export = make("manual", "generated")
    assert f"{flax} of `hyperdecoders_jax.interop` loads it" in model_card.render(export)
    export = dataclasses.replace(export, formats=("flax", "safetensors"))
    both = f"{flax} and `HyperdecoderForConditionalGeneration` (PyTorch) of `hyperdecoders_jax"
    assert both in model_card.render(export)


def test_what_is_not_known_is_left_out():
    text = model_card.render(make("manual", "generated"))
    assert "## Results" not in text
    assert "Training began" not in text
    assert "12,345 in all.\n" in text


@pytest.mark.parametrize(
    ("export", "part"),
    [
        (make(decoder_hypergrid=GRID), "of 2 × 4 gates (variant L2), which depend on the task"),
        (
            make(decoder_hypergrid=GRID, is_folded=True, folded_task="rte"),
            "by a learned embedding. Here they are part of the kernels, as they are for the task "
            "`rte`.",
        ),
        (
            make(decoder_hypergrid=HyperGridConfig(2, 4, "GG"), is_folded=True),
            "are the same for all examples. Here they are part of the kernels.",
        ),
        (make(decoder_hypergrid=GRID), "@inproceedings{tay2021hypergrid,"),
        (make("task", "task", network=HyperFormerConfig()), "@inproceedings{mahabadi2021"),
        (make("none", "manual_specific"), 'predict(["a text"], task=\'cola\'))'),
    ],
)  # fmt: skip
def test_each_way_to_adapt_is_named_and_cited(export, part):
    assert part in model_card.render(export)


def test_scores_of_a_comparison_have_intervals():
    scores = {
        "cola": {"accuracy": [100.0] * 30 + [0.0] * 10},
        "rte": {"f1": [50.0], "few": [0.0, 100.0], "all": [100.0] * 20},
    }
    text = model_card.render(make(scored_split="test", scores=scores))
    assert "On the split `test`, the same run and step:" in text
    assert "| cola | accuracy | 75.00 [60.98, 89.02] |" in text  # scipy.stats: 60.975, 89.025
    for name, value in (("f1", "50.00"), ("few", "50.00"), ("all", "100.00")):
        assert f"| rte | {name} | {value} |" in text
