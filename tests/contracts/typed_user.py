"""What a user of the library writes; mypy checks it in `test_types`, and nothing runs it."""

import dataclasses
from typing import assert_type

import jax
import jax.numpy as jnp

import hyperdecoders_jax
from hyperdecoders_jax import RunConfig, StartConfig
from hyperdecoders_jax.data.pipeline import PipelineConfig
from hyperdecoders_jax.decoding.decoded import Decoded
from hyperdecoders_jax.model import Model
from hyperdecoders_jax.modeling import adapter_sources
from hyperdecoders_jax.modeling.config import AdapterConfig, TransformerConfig
from hyperdecoders_jax.study.results import Results
from hyperdecoders_jax.trained.text_model import ScoredText, TextModel
from hyperdecoders_jax.training.optimizer import AdamWConfig
from hyperdecoders_jax.training.schedules import LinearConfig
from hyperdecoders_jax.training.trainer import TrainerConfig
from hyperdecoders_jax.types import Adapters, Batch
from hyperdecoders_jax.weights import formats
from hyperdecoders_jax.weights.trained_model import Description, TrainedModel


def predict() -> None:
    model = hyperdecoders_jax.load("words", backbone=None, step="best")
    assert_type(model, TextModel)
    assert_type(model.predict(["inflect past: walk"], task=None, batch_size=8), list[str])
    assert_type(model.predict_scored([("walk", "inflect"), ("go", None)]), list[ScoredText])
    assert_type(model.task_names, tuple[str, ...])
    assert_type(model.model.config, TransformerConfig)


def train() -> None:
    t5 = formats.describe_text("t5")
    assert_type(t5, Description)
    adapted = dataclasses.replace(
        t5.model, decoder_adapter=AdapterConfig("generated", bottleneck_dim=16)
    )
    run = RunConfig(
        model=Model(adapted, decoding=t5.decoding),
        data=PipelineConfig("my_mixture", {"inputs": 64, "targets": 8}, batch_size=32),
        start=StartConfig("t5", vocabulary="t5"),
        optimizer=AdamWConfig(),
        schedule=LinearConfig(learning_rate=1e-3, warmup_steps=100),
        trainer=TrainerConfig(num_train_steps=1000),
        model_dir="my_run",
    )
    assert_type(hyperdecoders_jax.train(run), int)
    found = hyperdecoders_jax.compare({"mine": run}, "out", seeds=[1, 2], split="test")
    assert_type(found, Results | None)


def compute(model: Model, rng: jax.Array) -> None:
    tokens = jnp.zeros((3, 5), jnp.int32)
    batch = Batch(tokens, tokens, tokens, tokens, jnp.zeros(3, jnp.int32))
    params = model.init(rng)
    loss, metrics = model.loss(params, batch, dropout_rng=rng)
    assert_type(loss, jax.Array)
    assert_type(metrics, dict[str, jax.Array])
    assert_type(model.predict(params, batch, max_len=4), Decoded)


def open_weights() -> None:
    trained = formats.read("words", formats.RUN, step="last")
    assert_type(trained, TrainedModel)
    assert_type(trained.config, TransformerConfig)


@dataclasses.dataclass(frozen=True)
class MixedOptions:
    num_sets: int = 4


@adapter_sources.register("typed_user")
class Mixed(adapter_sources.AdapterSource):
    options_class = MixedOptions

    def sets(self) -> Adapters:
        return self.learn(4)


def register() -> None:
    assert_type(Mixed.sets(Mixed.__new__(Mixed)), Adapters)
