"""Pictures of a comparison, PNG and SVG: curves with bands over seeds, and differences."""

from __future__ import annotations

from typing import Any

from etils import epath

from hyperdecoders_jax.analysis import groups
from hyperdecoders_jax.analysis.pictures import plain, points_with_intervals
from hyperdecoders_jax.study.results import Results

FORMATS = ("png", "svg")


def write(folder: epath.PathLike, found: Results) -> list[epath.Path]:
    """Draws curves and differences; returns the files. ImportError without matplotlib."""
    import matplotlib
    from matplotlib import figure

    folder, written = epath.Path(folder), []
    folder.mkdir(parents=True, exist_ok=True)
    draws = {"curves": _draw_curves}
    if any(x.difference for row in found.rows for x in row.cells.values()):
        draws["differences"] = _draw_differences
    # Ids that do not differ from run to run.
    with matplotlib.rc_context({"svg.hashsalt": "hyperdecoders"}):
        for name, draw in draws.items():
            picture = figure.Figure(layout="constrained", dpi=150)
            draw(picture, found)
            for kind in FORMATS:
                path = folder / f"{name}.{kind}"
                metadata = {"Software": None} if kind == "png" else {"Date": None}
                with path.open("wb") as file:
                    picture.savefig(file, format=kind, bbox_inches="tight", metadata=metadata)
                written.append(path)
    return written


def _draw_curves(picture: Any, found: Results) -> None:
    """One panel for each kind of curve; the mean over seeds in a band from least to most."""
    titles = list(
        dict.fromkeys(title for of_method in found.curves.values() for title in of_method)
    )
    picture.set_size_inches(5.0 * max(1, len(titles)), 3.8)
    axes = picture.subplots(1, max(1, len(titles)), squeeze=False)[0]
    for axis, title in zip(axes, titles, strict=False):
        for index, (name, of_method) in enumerate(found.curves.items()):
            if title not in of_method:
                continue
            steps, values = of_method[title]
            look = {"color": groups.COLOURS[index % len(groups.COLOURS)]}
            marker = "o" if len(steps) == 1 else None
            axis.plot(steps, values.mean(axis=0), label=plain(name), marker=marker, **look)
            axis.fill_between(steps, values.min(0), values.max(0), alpha=0.2, linewidth=0, **look)
        axis.set_title(title, fontsize="medium")
        axis.set_xlabel("step")
        axis.grid(alpha=0.4)
        if "loss" in title:
            axis.set_yscale("log")
    picture.legend(
        *axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=len(found.curves)
    )


def _draw_differences(picture: Any, found: Results) -> None:
    """A forest plot: one line for each metric, one colour for each method."""
    names = [name for name in found.methods if name != found.about["baseline"]]
    picture.set_size_inches(7.0, 1.5 + 0.22 * len(names) * len(found.rows))
    axis = picture.subplots()
    for index, name in enumerate(names):
        shift = 0.8 * ((index + 0.5) / len(names) - 0.5)
        drawn = [(i + shift, row.cells[name].difference) for i, row in enumerate(found.rows)]
        drawn = [(height, x) for height, x in drawn if x is not None and x.low == x.low]
        points_with_intervals(
            axis,
            [x for _, x in drawn],
            [x.difference for _, x in drawn],
            [height for height, _ in drawn],
            label=plain(name),
            color=groups.COLOURS[index % len(groups.COLOURS)],
        )
    axis.axvline(0, color=groups.COLOURS[6], linewidth=1)
    labels = [plain(f"{row.task} {row.metric}".strip()) for row in found.rows]
    axis.set_yticks(range(len(labels)), labels)
    axis.invert_yaxis()
    axis.grid(axis="x", alpha=0.4)
    kind = "simultaneous 95 %" if found.about["corrected for"] else "95 %"
    axis.set_xlabel(f"difference from {plain(found.about['baseline'])}, with {kind} interval")
    picture.legend(*axis.get_legend_handles_labels(), loc="outside lower center", ncols=len(names))
