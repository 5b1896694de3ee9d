"""Pictures (PNG) of an analysis: its maps, ablations, probes and variances."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from etils import epath
from jaxtyping import Float

from hyperdecoders_jax.analysis import groups
from hyperdecoders_jax.analysis.results import Ablation, Probe, Study, Variance

NAME_CHARS = 50
LEGEND_MARK = 7
NUM_ROUNDS = 8


def write(
    folder: epath.PathLike,
    found: Study,
    maps: Mapping[tuple[str, str], Float[np.ndarray, "examples 2"]],
) -> list[epath.Path]:
    """Draws the maps for each colouring and each table that has rows; returns the files.

    Without rows an earlier picture is removed; without matplotlib an ImportError is raised.
    """
    try:
        from matplotlib import figure
    except ImportError as error:
        raise ImportError(
            f"Pictures need matplotlib; importing it failed: {error}. Run: pip install "
            "'hyperdecoders_jax[plots]'"
        ) from error
    pictures = {
        f"maps by {name}": (_draw_maps, (maps, name, members))
        for name, members in groups.of(found.examples).items()
    }
    tables = {"ablations": found.ablations, "probes": found.probes, "variance": found.variances}
    draws = {"ablations": _draw_ablations, "probes": _draw_probes, "variance": _draw_variances}
    pictures |= {name: (draws[name], (table,)) for name, table in tables.items() if table}
    for name in tables.keys() - pictures.keys():
        _file(folder, name).unlink(missing_ok=True)
    files = []
    for name, (draw, arguments) in pictures.items():
        # Not pyplot's, which would open a window on a desktop.
        picture = figure.Figure(layout="constrained", dpi=150)
        draw(picture, *arguments)
        files.append(_file(folder, name))
        with files[-1].open("wb") as file:
            # "tight" enlarges the picture for names that are longer than its margin. Without
            # "Software" the bytes do not depend on matplotlib's version.
            picture.savefig(file, format="png", bbox_inches="tight", metadata={"Software": None})
    return files


def _file(folder: epath.PathLike, name: str) -> epath.Path:
    return epath.Path(folder) / f"{name.replace(' ', '_')}.png"


def plain(text: str) -> str:
    r"""Cuts and escapes a user's name: matplotlib hides "_…" and reads formulas between dollars.

    >>> plain("_$5")
    ' _\\$5'
    """
    text = text if len(text) <= NAME_CHARS else f"{text[: NAME_CHARS - 1]}…"
    return f"{' ' if text.startswith('_') else ''}{text}".replace("$", r"\$")


def _draw_maps(picture: Any, maps: Mapping[tuple[str, str], Any], name: str, members) -> None:
    """One row for each projection, one column for each kind of vector."""
    features = list(dict.fromkeys(key[0] for key in maps))
    projections = list(dict.fromkeys(key[1] for key in maps))
    picture.set_size_inches(4.0 * len(features), 3.7 * len(projections) + 1)
    axes = picture.subplots(len(projections), len(features), squeeze=False)
    shown = groups.frequent(members)
    index = {group: i for i, group in enumerate(shown)}
    # Groups that are not shown by name are all "other", the last one.
    looks = np.array([index.get(group, len(shown) - 1) for group in members])
    shapes = list(groups.SHAPES)
    area = 14 if len(members) < 2000 else 4  # Square points.
    points = {"s": area, "linewidths": 0, "alpha": 0.8}
    for (vectors, projection), positions in maps.items():
        axis = axes[projections.index(projection), features.index(vectors)]
        # In rounds, so that no group covers the others by being drawn last.
        for part in np.array_split(np.random.default_rng(0).permutation(len(looks)), NUM_ROUNDS):
            handles = [
                axis.scatter(
                    *positions[part[looks[part] == look]].T,
                    color=groups.COLOURS[look % len(groups.COLOURS)],
                    marker=shapes[look // len(groups.COLOURS)],
                    **points,
                )
                for look in range(len(shown))
            ]
        num_shown = int(np.isfinite(positions).all(axis=1).sum())
        axis.set_title(f"{vectors}, {num_shown:,} examples")
        axis.set(xlabel=f"{projection} 1 (no unit)", ylabel=f"{projection} 2 (no unit)")
        axis.set_aspect("equal", adjustable="datalim")
    ncols = max(1, 2 * len(features)) if max(map(len, shown)) < 20 else len(features)
    look = {"ncols": ncols, "title": name, "markerscale": LEGEND_MARK / area**0.5}
    names = [plain(group) for group in shown]
    legend = picture.legend(handles, names, loc="outside lower center", **look)
    for handle in legend.legend_handles:
        handle.set_alpha(1)  # Points are transparent where they overlap, their legend is not.


def _draw_ablations(picture: Any, ablations: Sequence[Ablation]) -> None:
    """One panel for each condition, one line for each task and metric."""
    conditions = list(dict.fromkeys(row.condition for row in ablations if row.condition != "own"))
    lines = list(dict.fromkeys((row.task, row.metric) for row in ablations))
    picture.set_size_inches(2.5 + 2.3 * len(conditions), 1.2 + 0.3 * len(lines))
    axes = picture.subplots(1, max(1, len(conditions)), sharex=True, sharey=True, squeeze=False)[0]
    # One empty panel if there are no other conditions than the own ones.
    for axis, condition in zip(axes, conditions, strict=False):
        rows = [row for row in ablations if row.condition == condition]
        heights = [lines.index((row.task, row.metric)) for row in rows]
        differences = [row.difference for row in rows]
        points_with_intervals(axis, rows, differences, heights, color=groups.COLOURS[0])
        axis.axvline(0, color=groups.COLOURS[6], linewidth=1)
        axis.set_title(condition, fontsize="medium")
        axis.grid(axis="x", alpha=0.4)
    axes[0].set_yticks(range(len(lines)), [plain(f"{task} ({metric})") for task, metric in lines])
    axes[0].invert_yaxis()
    picture.supxlabel("difference from own conditions, in the metric's unit, with 95 % interval")


def _draw_probes(picture: Any, probes: Sequence[Probe]) -> None:
    """One panel for each method, one line for each grouping, one colour for each vector."""
    methods = list(dict.fromkeys(row.method for row in probes))
    features = list(dict.fromkeys(row.features for row in probes))
    lines = list(dict.fromkeys((row.grouping, row.task) for row in probes))
    picture.set_size_inches(2.5 + 3.4 * len(methods), 1.5 + 0.22 * len(features) * len(lines))
    axes = picture.subplots(1, len(methods), sharey=True, squeeze=False)[0]
    for axis, method in zip(axes, methods, strict=True):
        for i, name in enumerate(features):
            rows = [row for row in probes if row.method == method and row.features == name]
            # Vectors of one grouping are drawn side by side within its line.
            shift = 0.8 * ((i + 0.5) / len(features) - 0.5)
            heights = [lines.index((row.grouping, row.task)) + shift for row in rows]
            look = {
                "color": groups.COLOURS[i % len(groups.COLOURS)],
                "marker": list(groups.SHAPES)[i % len(groups.SHAPES)],
            }
            scores, shuffled = ([x.score for x in rows], [x.shuffled for x in rows])
            points_with_intervals(axis, rows, scores, heights, label=name, **look)
            label = "groups shuffled" if i == len(features) - 1 else None
            axis.scatter(shuffled, heights, color="black", marker="|", label=label)
        axis.set_title(method, fontsize="medium")
        axis.set_xlabel("score (-1 to 1)" if method == "silhouette" else "accuracy (%)")
        axis.grid(axis="x", alpha=0.4)
    names = [plain(f"label within {task}" if task else grouping) for grouping, task in lines]
    axes[0].set_yticks(range(len(lines)), names)
    axes[0].invert_yaxis()
    handles, title = axes[0].get_legend_handles_labels(), "vectors, with 95 % interval"
    picture.legend(*handles, loc="outside lower center", ncols=len(features) + 1, title=title)


def points_with_intervals(axis: Any, rows, values, heights, **look) -> None:
    """Draws values with the intervals of their rows, `low` and `high`, one above the other."""
    # Intervals are percentiles of resamples: the value may be outside, lengths must not be < 0.
    below = [max(0.0, x - row.low) for x, row in zip(values, rows, strict=True)]
    above = [max(0.0, row.high - x) for x, row in zip(values, rows, strict=True)]
    look = {"marker": "o", "markersize": 4, "linestyle": "", **look}
    axis.errorbar(values, heights, xerr=[below, above], **look)


def _draw_variances(picture: Any, variances: Sequence[Variance]) -> None:
    """One panel for each side, one bar for each layer."""
    sides = list(dict.fromkeys(row.side for row in variances))
    picture.set_size_inches(5.0 * len(sides), 4.0)
    axes = picture.subplots(1, len(sides), sharey=True, squeeze=False)[0]
    for axis, side in zip(axes, sides, strict=True):
        rows = [row for row in variances if row.side == side]
        layers = [row.layer for row in rows]
        below = np.zeros(len(rows))
        percentages = 100 * np.transpose([row.shares for row in rows])
        for (name, colour), shares in zip(groups.SHARES.items(), percentages, strict=True):
            axis.bar(layers, shares, bottom=below, color=colour, label=name)
            below += shares
        axis.set_title(side)
        axis.set(xlabel="layer", ylabel="share of the variance (%)", ylim=(0, 100))
        axis.set_xticks(layers[:: 1 + len(layers) // 13])  # At most 13 labels fit.
    handles = axes[0].get_legend_handles_labels()
    picture.legend(*handles, loc="outside lower center", ncols=len(groups.SHARES))
