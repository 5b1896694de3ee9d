"""A run without gin: own rows, a T5 of Hugging Face and a `RunConfig` made in Python."""

import dataclasses
import json
import pathlib
import re
import shutil

import gin
import numpy as np
import pytest
import seqio

import hyperdecoders_jax
from hyperdecoders_jax.commands.eval import evaluate
from hyperdecoders_jax.commands.infer import infer
from hyperdecoders_jax.data import vocabulary
from hyperdecoders_jax.data.pipeline import PipelineConfig
from hyperdecoders_jax.decoding.sampling import GreedyConfig
from hyperdecoders_jax.evaluation.config import EvaluationConfig
from hyperdecoders_jax.model import Model
from hyperdecoders_jax.modeling.config import AdapterConfig, HypernetworkConfig
from hyperdecoders_jax.tasks import own_data
from hyperdecoders_jax.training.trainer import TrainerConfig
from hyperdecoders_jax.weights import arrays, formats, hugging_face, names, run_folder
from tests import tiny

NUMBERS = {"cat": "cats", "fox": "foxes", "dog": "dogs", "box": "boxes", "cow": "cows"}
TEXTS = ["plural of cat", "plural of fox"]


@pytest.fixture(autouse=True)
def _refuse_gin(monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError("gin was asked")

    for name in ("parse_config", "parse_config_files_and_bindings", "bind_parameter"):
        monkeypatch.setattr(gin, name, refuse)


@pytest.fixture(scope="module", autouse=True)
def _forget():
    yield
    vocabulary.set_run_vocabulary(None)
    seqio.MixtureRegistry.remove("own_data")
    seqio.TaskRegistry.remove("plural")


@pytest.fixture(scope="module")
def t5(tmp_path_factory):
    """A tiny T5 of Hugging Face with its tokenizer's files."""
    sizes = dict(num_encoder_layers=1, num_decoder_layers=1)
    config = tiny.make_config("none", "none", vocab_size=4100, **sizes)
    params = tiny.make_params(Model(config), scale=0.1)
    flat = arrays.in_memory({path: np.asarray(x) for path, x in names.flatten(params).items()})
    folder = tmp_path_factory.mktemp("start") / "t5"
    hugging_face.write(folder, config, hugging_face.from_ours(flat, config))
    spiece = pathlib.Path(vocabulary.DEMO_VOCABULARY_PATH).read_bytes()
    (folder / "spiece.model").write_bytes(spiece)
    fields = {"tokenizer_class": "T5Tokenizer", "extra_ids": 100, "model_max_length": 512}
    (folder / "tokenizer_config.json").write_text(json.dumps(fields))
    return str(folder)


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    """Two files of rows."""
    folder, files = tmp_path_factory.mktemp("rows"), {}
    for split, count in {"train": 40, "validation": 10}.items():
        examples = [
            {"inputs": f"plural of {one}", "targets": many}
            for one, many in list(NUMBERS.items()) * (count // len(NUMBERS))
        ]
        files[split] = folder / f"{split}.jsonl"
        files[split].write_text("".join(json.dumps(row) + "\n" for row in examples))
    return files


def make_run(t5, rows, model_dir):
    config = dataclasses.replace(
        formats.describe_text(t5).model,
        encoder_adapter=AdapterConfig("manual", bottleneck_dim=3),
        decoder_adapter=AdapterConfig(
            "generated", bottleneck_dim=2, hypernetwork=HypernetworkConfig(bottleneck_dim=4)
        ),
    )
    mixture = own_data.mixture(
        train_files=[f"plural={rows['train']}"],
        validation_files=[f"plural={rows['validation']}"],
    )
    return hyperdecoders_jax.RunConfig(
        model=Model(config, decoding=GreedyConfig(min_len=2)),
        data=PipelineConfig(mixture, {"inputs": 16, "targets": 8}, batch_size=4),
        start=hyperdecoders_jax.StartConfig(initial_checkpoint_path=t5, vocabulary=t5),
        model_dir=str(model_dir),
        trainer=TrainerConfig(
            num_train_steps=3, eval_every_steps=3, checkpoint_every_steps=2, log_every_steps=1
        ),
        evaluation=EvaluationConfig(num_examples=5),
    )


def read_losses(model_dir):
    lines = map(json.loads, (model_dir / "metrics.jsonl").read_text().splitlines())
    return {line["step"]: line["loss"] for line in lines if line["kind"] == "train"}


def test_a_run_that_python_made_is_trained_loaded_evaluated_and_continued(
    t5, rows, tmp_path, capsys
):
    model_dir = tmp_path / "run"
    run = make_run(t5, rows, model_dir)
    assert hyperdecoders_jax.train(run) == 0
    assert re.search(r"^plural +accuracy ", capsys.readouterr().out, re.MULTILINE)
    losses = read_losses(model_dir)
    assert list(losses) == [1, 2, 3]
    # It describes itself, without a program.
    assert not (model_dir / run_folder.SAVED_GIN).exists()
    described = run_folder.read_file(model_dir)
    assert described.initial_checkpoint_path == t5
    assert described.description.model == run.model.for_tasks(["plural"]).config
    assert described.data["tasks"]["plural"]["files"]["train"] == str(rows["train"])
    loaded = hyperdecoders_jax.load(model_dir)
    assert loaded.task_names == ("plural",)
    assert loaded.model.decoding == run.model.decoding
    texts = loaded.predict(TEXTS)
    assert len(texts) == len(TEXTS)
    assert evaluate(run, "best", None) == 0
    metrics = json.loads((model_dir / "eval_validation" / "metrics-3.json").read_text())
    assert metrics.keys() == {"plural"}
    lines = tmp_path / "lines.txt"
    lines.write_text("\n".join(TEXTS))
    capsys.readouterr()
    assert infer(run, "best", None, str(lines)) == 0
    printed = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [record["prediction"] for record in printed] == texts
    # As a kill behind the second step's checkpoint leaves it.
    shutil.rmtree(model_dir / "checkpoints" / "3")
    assert hyperdecoders_jax.train(run) == 0
    assert "continuing from step 2" in capsys.readouterr().err
    assert read_losses(model_dir) == losses


def test_a_run_needs_a_folder_and_steps(t5, rows, tmp_path):
    run = make_run(t5, rows, tmp_path / "run")
    for missing in ({"model_dir": None}, {"trainer": None}):
        with pytest.raises(ValueError, match=r"needs a model_dir and a trainer; got .*None.*Set"):
            hyperdecoders_jax.train(dataclasses.replace(run, **missing))
    assert not (tmp_path / "run").exists()


def test_a_run_that_python_made_is_compared(t5, rows, tmp_path):
    run, output = make_run(t5, rows, tmp_path / "unused"), tmp_path / "compared"
    options = {"split": "validation", "select_on": None}
    assert hyperdecoders_jax.compare({"a": run}, str(output), seeds=(1,), **options) is not None
    assert list(json.loads((output / "table.json").read_text())["methods"]) == ["a"]
