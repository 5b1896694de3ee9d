"""Instance-specific adaptation of T5 for many tasks at once, in JAX."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from hyperdecoders_jax.installed import train_extra

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    # Of `__getattr__`, for type checkers; `as` tells them that these names are public.
    from hyperdecoders_jax.config.run_config import RunConfig as RunConfig
    from hyperdecoders_jax.config.run_config import StartConfig as StartConfig
    from hyperdecoders_jax.study.results import Results
    from hyperdecoders_jax.trained.text_model import TextModel

_HERE = os.path.dirname(os.path.abspath(__file__))
_AROUND = os.path.dirname(_HERE)
# setup.py installs tasks/ and gin_configs/ inside the package; in a clone they lie beside it.
if not os.path.isdir(os.path.join(_HERE, "tasks")) and os.path.isfile(f"{_AROUND}/setup.py"):
    __path__.append(_AROUND)
# `python -m hyperdecoders_jax.train` is commands/train.py. Last: tasks/ comes before tasks.py.
__path__.append(os.path.join(_HERE, "commands"))


def load(
    path: str | os.PathLike, backbone: str | None = None, step: str | None = None
) -> TextModel:
    """Loads a trained model that predicts text; see `text_model.load`."""
    # Imported here, so that importing the package costs nothing.
    from hyperdecoders_jax.trained import text_model

    return text_model.load(path, backbone, step)


def train(run: RunConfig) -> int:
    """Trains a run that Python made; see `RunConfig`, and `commands.train.train`."""
    train_extra.check()
    from hyperdecoders_jax.commands import train as command

    return command.train(run)


def compare(
    methods: Mapping[str, RunConfig], output: str, seeds: Sequence[int] = (1, 2, 3), **options: Any
) -> Results | None:
    """Trains methods with several seeds, and tabulates them; see `commands.compare.compare`."""
    train_extra.check()
    from hyperdecoders_jax.commands import compare as command

    return command.compare(methods, output, seeds, **options)


if not TYPE_CHECKING:  # To type checkers every name would exist.

    def __getattr__(name: str) -> Any:
        """`RunConfig` and the other parts of a run, imported when they are asked for."""
        if name not in ("RunConfig", "StartConfig"):
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        train_extra.check()
        from hyperdecoders_jax.config import run_config

        return getattr(run_config, name)
