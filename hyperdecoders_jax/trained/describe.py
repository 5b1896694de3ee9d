"""What a run says of itself, and the identity of its checkpoints."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from etils import epath

from hyperdecoders_jax import files
from hyperdecoders_jax.data import mixtures, vocabulary
from hyperdecoders_jax.model import BACKBONE_KEYS, Model
from hyperdecoders_jax.trained import start
from hyperdecoders_jax.training import identity as identity_lib
from hyperdecoders_jax.training.identity import Identity
from hyperdecoders_jax.training.run_directory import RunDirectory
from hyperdecoders_jax.types import Params
from hyperdecoders_jax.weights import fingerprints, names, run_checkpoints, run_folder
from hyperdecoders_jax.weights.run_folder import RunFile
from hyperdecoders_jax.weights.trained_model import Backbone, Description, Vocabulary

if TYPE_CHECKING:
    from hyperdecoders_jax.config.run_config import RunConfig

# Raises ValueError if a run must not begin, from what it describes.
Check = Callable[[RunFile], None]
_ADDRESS = re.compile(r" at 0x[0-9a-f]+")  # In Python's words for an object; other each time.


def describe(
    run: RunConfig,
    model: Model,
    task_names: Sequence[str],
    trained: Params,
    frozen: Params | None = None,
    runner: str = run_folder.OWN_RUNNER,
) -> RunFile:
    """What a run writes into its `config.json`; the run's vocabulary is set.

    `model` has as many tasks as the run, in the order of `task_names`. `trained` are parameters or
    their shapes; `frozen` the others in float32, None where nobody has loaded them (T5X).
    """
    initial, dtype = run.start.initial_checkpoint_path, run.start.frozen_dtype
    given = {key: x for key, x in (frozen or {}).items() if key in BACKBONE_KEYS}
    backbone = None
    if given and initial is not None:
        found = fingerprints.fingerprint(given)
        backbone = Backbone(files.absolute_source(initial), found, dtype)
    description = Description(
        model=model.config,
        decoding=model.decoding,
        backbone=backbone,
        vocabulary=Vocabulary(*vocabulary.content(vocabulary.RUN_VOCABULARY)),
        task_names=tuple(task_names),
        task_feature_lengths=dict(run.data.task_feature_lengths),
    )
    seed, paths = run.start.random_seed, tuple(names.flatten(trained))
    initial = None if initial is None else files.absolute_source(initial)
    return RunFile(description, paths, initial, seed, dtype, describe_data(run), runner)


def write(run: RunConfig, described: RunFile, config_text: str) -> None:
    """Writes `config.json` into the run, and gin's `config_text` for people, unless it is empty."""
    run_folder.write(run.model_dir, described)
    if config_text:
        files.write_text(epath.Path(run.model_dir) / run_folder.SAVED_GIN, config_text)


def describe_data(run: RunConfig) -> dict[str, Any]:
    """What a run reads and evaluates, as plain values; see `RunFile.data`."""
    data, evaluation = run.data, run.evaluation
    provider = mixtures.get_mixture_or_task(data.mixture_or_task_name)
    tasks = mixtures.leaf_tasks(provider)
    generation = {task: list(way) for task, way in (evaluation.generation or {}).items()}
    return {
        "mixture": provider.name,
        # None for data sources that a registered name tells.
        "tasks": {t.name: getattr(t.source, "describe", lambda: None)() for t in tasks},
        "batch_size": data.batch_size,
        "use_cached": data.use_cached,
        "eval_split": evaluation.split,
        "eval_batch_size": evaluation.batch_size,
        "eval_examples": evaluation.num_examples,
        "generation": generation or None,
    }


def recipe(run: RunConfig) -> dict[str, Any]:
    """How a run learns and chooses, as JSON: what may change when it is continued, and is told."""
    config, trainer = run.model.config, plain(run.trainer)
    for name in ("log_every_steps", "checkpoint_every_steps", "keep_last", "profile_steps", "seed"):
        del trainer[name]  # They change no weights, but for the seed, which is compared.
    return {
        "dropout_rate": config.dropout_rate,
        "dtype": config.dtype,
        "compute": dataclasses.asdict(config.compute),
        "frozen_dtype": run.start.frozen_dtype,
        "loss": plain(run.model.loss_config),
        "decoding": plain(run.model.decoding),
        "optimizer": plain(run.optimizer),
        "schedule": plain(run.schedule),
        "trainer": trainer,
        "evaluation": plain(run.evaluation),
    }


def plain(config: Any) -> dict[str, Any]:
    """A configuration as JSON, equal for equal ones; a user's may have any values."""
    fields = dataclasses.asdict(config) if dataclasses.is_dataclass(config) else vars(config)
    text = json.dumps({"type": type(config).__name__, **fields}, default=repr)
    return json.loads(_ADDRESS.sub("", text))


def identity(described: RunFile, frozen: Params) -> Identity:
    """What the checkpoints of a run belong to; `frozen` are its frozen parameters, float32."""
    description = described.description
    return Identity(
        task_names=description.task_names,
        model=identity_lib.describe_model(description.model),
        frozen_source=start.source_of(described.initial_checkpoint_path, described.random_seed),
        frozen_fingerprint=fingerprints.fingerprint(frozen),
        vocabulary_fingerprint=description.vocabulary.fingerprint,
        former_vocabulary_fingerprints=description.vocabulary.fingerprints[1:],
    )


def directory(
    run: RunConfig, identity: Identity, config_text: str, settings: Mapping[str, Any]
) -> RunDirectory:
    """The model directory, with all that its checkpoints say of the run."""
    return RunDirectory(run.model_dir, identity, config_text, settings, recipe(run))


def begun_rows(model_dir: str, examples_per_step: int | None) -> int | None:
    """Rows of a step of the run in `model_dir`; None unless begun with these examples per step."""
    checkpoints = run_checkpoints.of_run(model_dir)
    step = checkpoints.newest_step()
    if step is None or examples_per_step is None:
        return None
    saved = checkpoints.read_run(step).get("settings") or {}
    return saved["batch_size"] if saved.get("examples_per_step") == examples_per_step else None


def check_newest_checkpoint(
    model_dir: str,
    model: Model,
    task_names: Sequence[str] | None,
    settings: Mapping[str, Any] | None = None,
) -> None:
    """ValueError if another run is there: T5X's, or of other model, tasks, vocabulary, settings."""
    if theirs := run_folder.t5x_steps(model_dir):
        raise ValueError(
            f"A run must be continued by its own runner; {model_dir} holds checkpoints of T5X, of "
            f"steps {theirs}. Add --runner=t5x, or name another --model_dir."
        )
    checkpoints = run_checkpoints.of_run(model_dir)
    step = checkpoints.newest_step()
    if step is None:
        return
    known = vocabulary.fingerprints(vocabulary.RUN_VOCABULARY)
    here = Identity(
        task_names=None if task_names is None else tuple(task_names),
        model=identity_lib.describe_model(model.config),
        vocabulary_fingerprint=known[0],
        former_vocabulary_fingerprints=known[1:],
    )
    saved, where = checkpoints.read_run(step), str(checkpoints.directory / str(step))
    identity_lib.check_same(identity_lib.identity_of(saved), here, where)
    identity_lib.check_settings(saved.get("settings"), settings, where)
