"""What successive runs of one process have in common: T5's parameters, and data that were read."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hyperdecoders_jax.config.run_config import RunConfig
    from hyperdecoders_jax.data.preflight import TaskReport
    from hyperdecoders_jax.model import Model


class Shared:
    """The last value of each kind, made anew when what it is made of changes.

    >>> shared = Shared()
    >>> shared.get("square", 3, lambda: 9), shared.get("square", 3, lambda: 1 / 0)
    (9, 9)

    Cost: values stay in host memory, T5's parameters in float32 among them.
    """

    def __init__(self):
        self._kept: dict[str, tuple[Any, Any]] = {}

    def get(self, kind: str, made_of: Any, make: Callable[[], Any]) -> Any:
        """The value of a kind; `made_of` is compared by ==."""
        if kind not in self._kept or self._kept[kind][0] != made_of:
            self._kept.pop(kind, None)  # Before the next one takes as much memory.
            self._kept[kind] = (made_of, make())
        return self._kept[kind][1]

    def check_data(self, run: RunConfig, model: Model) -> Mapping[str, TaskReport]:
        """What `preflight` finds in a run's data, whose vocabulary is set."""
        from hyperdecoders_jax.data import preflight

        vocab_size, data = model.config.vocab_size, dataclasses.replace(run.data, seed=0)
        return self.get(
            "preflight",
            (data, vocab_size, run.start.vocabulary),
            lambda: preflight.preflight(run.data, vocab_size=vocab_size),
        )


def order_settings(run: RunConfig, report: Mapping[str, TaskReport]) -> dict[str, Any]:
    """What fixes a run's batches and dropout, for its checkpoints."""
    from hyperdecoders_jax.data import preflight

    return {**preflight.order_settings(run.data, report), "dropout_seed": run.trainer.seed}
