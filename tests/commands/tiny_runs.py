"""Runs that tests share: a `RunConfig`, and the folder of a run with its config.json."""

import dataclasses

from hyperdecoders_jax.config.run_config import RunConfig, StartConfig
from hyperdecoders_jax.data import tokenizer
from hyperdecoders_jax.data.pipeline import PipelineConfig
from hyperdecoders_jax.decoding.sampling import GreedyConfig
from hyperdecoders_jax.evaluation.config import EvaluationConfig
from hyperdecoders_jax.model import Model
from hyperdecoders_jax.weights import names, run_folder, trained_model
from hyperdecoders_jax.weights.run_folder import RunFile
from tests import tiny

LENGTHS = {"inputs": 8, "targets": 4}
# What a run on registered tasks says of its data.
DATA = {
    "mixture": "demo",
    "tasks": {"demo_find": None, "demo_topic": None},
    "batch_size": 4,
    "use_cached": False,
    "eval_split": "validation",
    "eval_batch_size": None,
    "eval_examples": 5,
    "generation": None,
}


def make_config(split="test", model=None, **fields):
    """A run on the demo's tasks, with the vocabulary of bytes and random weights."""
    defaults = dict(
        model=model or Model(tiny.make_config()),
        data=PipelineConfig("demo", LENGTHS, batch_size=4),
        start=StartConfig(None, "bytes"),
        evaluation=EvaluationConfig(split=split),
    )
    return RunConfig(**(defaults | fields))


def write_run(folder, **data):
    """Writes the config.json of a run of random weights, which needs no file beside it."""
    config = tiny.make_config(vocab_size=259)
    config = dataclasses.replace(config, num_tasks=None)
    description = trained_model.Description(
        model=config,
        decoding=GreedyConfig(),
        vocabulary=trained_model.Vocabulary(tokenizer.BYTES_MODEL, 0),
        task_names=("demo_find", "demo_topic"),
        task_feature_lengths=LENGTHS,
    )
    shapes = names.flatten(Model(config).param_shapes())
    trained = tuple(path for path in shapes if "adapters" in path)
    folder.mkdir(parents=True, exist_ok=True)
    described = RunFile(description, trained, None, 3, "float32", {**DATA, **data})
    run_folder.write(folder, described)
    return described
