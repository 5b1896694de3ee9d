"""A comparison from its grids to its tables: settings are chosen, runs made, results written."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from hyperdecoders_jax import errors
from hyperdecoders_jax.study import archive, grids, jobs, report, runs, settings
from hyperdecoders_jax.study.comparison import Comparison, seeded
from hyperdecoders_jax.study.grids import Point
from hyperdecoders_jax.study.results import Results
from hyperdecoders_jax.trained.shared import Shared
from hyperdecoders_jax.training import stop_signals

if TYPE_CHECKING:
    from hyperdecoders_jax.config.run_config import RunConfig

STOPPED = "The comparison was stopped. The same command continues it."


def tell(line: str) -> None:
    """Prints a line beside the tables, which are the standard output."""
    print(line, file=sys.stderr, flush=True)


@stop_signals.ended_by_signals()
def choose(
    methods: Mapping[str, Mapping[Point, tuple[RunConfig, str]]],
    seed: int,
    output: str,
    select_on: str,
) -> dict[str, tuple[Point, str]] | None:
    """The best point of each method's grid, with a line on it; None if a signal came.

    `methods` have, of each point, a run and its gin text. It is trained with `seed`, unless it is
    finished in `output/grid/METHOD/POINT`, and evaluated on the split `select_on`.
    """
    folders = {
        (name, point): f"{output}/grid/{name}/{grids.label(point)}"
        for name, of_method in methods.items()
        for point in of_method
    }
    paths = list(folders.values())
    archive.restore(output, [path.removeprefix(f"{output}/") for path in paths])
    finished = runs.read_finished(paths)
    for path, scores in finished.items():
        if scores["seed"] != seed:
            raise errors.UsageError(
                f"All points of a grid must be trained with the first of --seeds; {path} has the "
                f"seed {scores['seed']}, not {seed}. Begin --seeds with {scores['seed']}, or give "
                "another --output."
            )
    made = {
        (name, point): seeded(run, seed, folders[name, point], select_on)
        for name, of_method in methods.items()
        for point, (run, _) in of_method.items()
    }
    for run in made.values():
        settings.check([run], None)
    settings.check_data(next(iter(made.values())), None, finished)
    shared, chosen = Shared(), {}
    for name, of_method in methods.items():
        values = {}
        for point, (_, text) in of_method.items():
            run = made[name, point]
            if not runs.is_finished(run.model_dir):
                tell(f"\n== {name}, {grids.label(point)}, seed {seed} ==")
                if not runs.make(run, text, None, shared, paths):
                    return None
            values[point] = runs.read(run.model_dir)["chosen_value"]
        best = grids.best(values, run.trainer.best)
        chosen[name] = best, f"{name}: {grids.describe(values, best, select_on)}."
        tell(chosen[name][1])
    return chosen


def finish(
    comparison: Comparison,
    published: Mapping[str, Any] | None = None,
    helpers: Sequence[Any] = (),
) -> Results | None:
    """Makes the runs that are left and writes the tables; None after a signal.

    `published` are a paper's numbers, to stand beside; `helpers` are processes, not started, that
    share the runs.
    """
    try:
        with jobs.helped_by(helpers):
            return _finish(comparison, published, helpers)
    except stop_signals.StopAsked:
        tell(STOPPED)
        return None


def _finish(
    comparison: Comparison, published: Mapping[str, Any] | None, helpers: Sequence[Any]
) -> Results | None:
    _restore(comparison)
    settings.check_finished(comparison)
    finished = runs.read_finished(comparison.folder(*pair) for pair in comparison.pairs)
    settings.check_data(comparison.run(*comparison.pairs[0]), comparison.split, finished)
    num_left, secs = runs.left(comparison)
    where = " in one process" if helpers else ""
    if num_left:  # Archives need no data.
        settings.check_splits(comparison)
    tell(
        f"{len(comparison.pairs)} runs ({len(comparison.methods)} methods x "
        f"{len(comparison.seeds)} seeds), {num_left} to make: about {secs / 60:.0f} min{where}, "
        "a first guess from sizes."
    )
    tell(settings.equal(comparison.methods))
    for line in settings.differences(comparison.methods).values():
        tell(line)
    shared = Shared()
    is_done = runs.make_all(comparison, shared, has_others=bool(helpers))
    if is_done:
        jobs.join(helpers, comparison.output)
    # What a helper that failed has left.
    if not (is_done and runs.make_all(comparison, shared)):
        tell(STOPPED)
        return None
    found, where = report.make(comparison, published)
    print(f"\n{report.tables.text(found)}")
    tell(where)
    return found


def _restore(comparison: Comparison) -> None:
    """Makes folders of the runs that archives alone have."""
    folder = comparison.output
    pairs = {comparison.folder(*x).removeprefix(f"{folder}/"): x for x in comparison.pairs}

    def check(name: str, scores: Mapping[str, Any]) -> None:
        here = settings.of_run(comparison.run(*pairs[name]), comparison.split)
        settings.check_same(scores.get("settings") or {}, here, f"{folder}/{name} of an archive")

    if count := archive.restore(folder, pairs, check):
        tell(f"{count} finished runs are restored from {archive.FILE}: scores and curves alone.")


@stop_signals.ended_by_signals()
def help_with(comparison: Comparison, number: int, num_jobs: int) -> None:
    """Makes, as a process of several, runs that no other one makes."""
    first = number * len(comparison.pairs) // num_jobs
    runs.make_all(comparison, Shared(), first=first, has_others=True)
