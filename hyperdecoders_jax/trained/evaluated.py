"""What a run measured of itself, for its model card."""

import contextlib
from typing import Any

from etils import epath

from hyperdecoders_jax import files
from hyperdecoders_jax.evaluation import predictions
from hyperdecoders_jax.training.run_directory import RunDirectory
from hyperdecoders_jax.weights import run_folder
from hyperdecoders_jax.weights.trained_model import Description

# Of an example's input.
_MOST_CHARACTERS = 200


def find(checkpoint: str, description: Description) -> dict[str, Any]:
    """Fields of `model_card.Export` that a run measured at this step; empty ones if nothing."""
    return {
        "metrics": RunDirectory(checkpoint).evaluated(description.step),
        "example": _find_example(checkpoint, description),
        **_find_scores(checkpoint, description.step),
    }


def _find_scores(checkpoint: str, step: int) -> dict[str, Any]:
    """What a comparison measured of its run."""
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):  # Damaged, or of others.
        found = files.read_json(epath.Path(checkpoint) / run_folder.SCORES_FILE)
        if found["step"] == step:
            scores = {task: row["scores"] for task, row in found["tasks"].items()}
            return {"scored_split": found["settings"]["split"], "scores": scores}
    return {}


def _find_example(checkpoint: str, description: Description) -> tuple[str, str, str] | None:
    """Task, input and prediction of a short example that the run evaluated; None where none is."""
    for task in description.task_names:
        for path in sorted(epath.Path(checkpoint).glob(f"eval*/{task}/{description.step}.jsonl")):
            with contextlib.suppress(ValueError):  # Damaged, or of others: a card can do without.
                for found in predictions.read(path):
                    if len(found.input) <= _MOST_CHARACTERS:
                        return task, found.input, found.prediction
    return None
