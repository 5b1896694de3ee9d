"""Draws the figures of the pages as SVG: `python docs/figures/make.py`.

Each has a panel of its own and follows the reader's light or dark mode.
"""

import pathlib
from collections.abc import Sequence

FOLDER = pathlib.Path(__file__).parent
# Class → its colour in light and in dark mode.
COLOURS = {
    "panel": ("#ffffff", "#14181f"),
    "ink": ("#1d2430", "#e6eaf0"),
    "muted": ("#5d6878", "#9aa6b6"),
    "frozen": ("#dfe4ec", "#2c3441"),
    "line": ("#b3bdca", "#4a5566"),
    "trained": ("#7a5bd6", "#9b83ec"),
    "first": ("#d9711c", "#ef9446"),
    "second": ("#0f8a7e", "#2cb9aa"),
    "third": ("#2f6fd0", "#6aa2f5"),
    "fourth": ("#b8376f", "#e4729f"),
}
EXAMPLES = ("first", "second", "third", "fourth")


def style() -> str:
    """CSS classes of fills and strokes, in both modes."""
    modes = []
    for mode in (0, 1):
        rules = "".join(
            f".{name}{{fill:{colours[mode]}}}.s-{name}{{stroke:{colours[mode]}}}"
            for name, colours in COLOURS.items()
        )
        modes.append(rules)
    fonts = "text{font:14px system-ui,-apple-system,'Segoe UI',Helvetica,Arial,sans-serif}"
    kinds = ".small{font-size:12px}.bold{font-weight:600}.mono{font-family:ui-monospace,monospace}"
    lines = ".arrow{fill:none;stroke-width:1.6}.on{fill:#fff}"
    dark = f"@media(prefers-color-scheme:dark){{{modes[1]}.on{{fill:#10141a}}}}"
    return f"<style>{fonts}{kinds}{lines}{modes[0]}{dark}</style>"


def box(x: float, y: float, w: float, h: float, kind: str, radius: float = 6) -> str:
    """A filled rectangle."""
    return f'<rect x="{x}" y="{y}" width="{w}" height="{h}" rx="{radius}" class="{kind}"/>'


def text(x: float, y: float, words: str, kind: str = "ink", anchor: str = "middle") -> str:
    """A line of text."""
    return f'<text x="{x}" y="{y}" text-anchor="{anchor}" class="{kind}">{words}</text>'


def arrow(path: str, kind: str = "muted") -> str:
    """A line with a head, along the commands of an SVG path."""
    return f'<path d="{path}" class="arrow s-{kind}" marker-end="url(#head-{kind})"/>'


def figure(width: int, height: int, title: str, parts: Sequence[str]) -> str:
    """A whole SVG."""
    kinds = ("muted", *EXAMPLES)
    heads = "".join(
        f'<marker id="head-{kind}" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" '
        f'markerHeight="7" orient="auto"><path d="M0 0L8 4L0 8z" class="{kind}"/></marker>'
        for kind in kinds
    )
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img">',
        f"<title>{title}</title>",
        style(),
        f"<defs>{heads}</defs>",
        box(0, 0, width, height, "panel", 10),
        *parts,
        "</svg>",
    ]
    return "\n".join(lines) + "\n"


def method() -> str:
    """Two examples: one hypernetwork, one frozen T5, two decoders."""
    parts = [
        box(196, 62, 118, 232, "frozen"),
        text(255, 52, "encoder", "ink bold"),
        *(box(208, 80 + 44 * i, 94, 14, "line", 3) for i in range(5)),
        *(box(208, 97 + 44 * i, 94, 7, "trained", 3) for i in range(5)),
        box(524, 118, 122, 120, "trained"),
        text(585, 183, "hypernetwork", "on bold"),
        text(352, 52, "states", "ink bold"),
        text(466, 52, "condition", "ink bold"),
        text(789, 52, "decoder", "ink bold"),
    ]
    words = (("inflect past:", "walk", "walked"), ("relation:", "hot | cold", "antonym"))
    for i, (first, second, output) in enumerate(words):
        kind, y = EXAMPLES[i], 112 + 132 * i
        parts += [
            text(88, y - 4, first, f"mono {kind} bold"),
            text(88, y + 15, second, f"mono {kind} bold"),
            arrow(f"M158 {y}H190", kind),
            arrow(f"M318 {y}H334", kind),
            *(box(338 + 15 * j, y - 9, 12, 18, kind, 2) for j in range(4)),
            arrow(f"M402 {y}H440", kind),
            text(419, y - 8, "mean", "small muted"),
            f'<circle cx="466" cy="{y}" r="17" class="{kind}"/>',
            arrow(f"M486 {y}L518 {155 + 46 * i}", kind),
            arrow(f"M650 {155 + 46 * i}L714 {y}", kind),
            box(720, y - 50, 138, 100, "frozen"),
            *(box(732, y - 38 + 30 * j, 114, 12, "line", 3) for j in range(3)),
            *(box(732, y - 24 + 30 * j, 114, 9, kind, 3) for j in range(3)),
            arrow(f"M862 {y}H888", kind),
            text(896, y + 5, output, f"mono {kind} bold", "start"),
        ]
        edge = 26 if i == 0 else 330
        parts.append(
            f'<path d="M389 {y + (12 if i else -12)}V{edge}H846V{y + (52 if i else -52)}" '
            f'class="arrow s-{kind}" stroke-dasharray="4 4" marker-end="url(#head-{kind})"/>'
        )
    # The words interrupt the dashed line.
    parts += [
        box(470, 16, 200, 20, "panel", 0),
        text(570, 31, "keys and values of cross-attention", "small muted"),
        *legend(364, (("line", "frozen T5"), ("trained", "trained, shared by all examples"))),
        *legend(364, (("first", ""), ("second", "generated for one example")), 490),
    ]
    title = "One hypernetwork generates other decoder adapters for each example"
    return figure(980, 386, title, parts)


def legend(y: float, entries: Sequence[tuple[str, str]], x: float = 40) -> list[str]:
    """Squares with their meanings, side by side."""
    parts = []
    for kind, meaning in entries:
        parts += [box(x, y - 11, 14, 14, kind, 3), text(x + 21, y + 1, meaning, "muted", "start")]
        x += 50 + 7.2 * len(meaning) if meaning else 18
    return parts


def sources_and_sites() -> str:
    """Five sources on the left; on the right a decoder layer with its sites."""
    sources = (
        ("none", "plain T5"),
        ("manual", "learned: one set for all"),
        ("manual_specific", "learned: one set a task"),
        ("task", "hypernetwork, from the task"),
        ("generated", "hypernetwork, from the example"),
    )
    parts = [text(156, 36, "source: who makes adapters", "ink bold")]
    for i, (name, meaning) in enumerate(sources):
        y = 56 + 56 * i
        kind = ("frozen", "trained", "trained", "trained", "first")[i]
        parts += [
            box(24, y, 264, 46, kind),
            text(156, y + 19, name, f"mono bold {'ink' if i == 0 else 'on'}"),
            text(156, y + 37, meaning, f"small {'ink' if i == 0 else 'on'}"),
        ]
    parts += [
        arrow("M292 194H366"),
        text(330, 182, "adapters", "small muted"),
        text(640, 36, "site: where they are applied (a decoder layer)", "ink bold"),
    ]
    for i, (block, names) in enumerate(
        (
            ("self-attention", ("query", "key", "value", "out")),
            ("cross-attention", ("query", "key", "value", "out")),
            ("feed-forward", ()),
        )
    ):
        y = 56 + 98 * i
        parts += [box(380, y, 300, 78, "frozen"), text(530, y + 22, block, "ink bold")]
        for j, name in enumerate(names):
            parts += [
                box(394 + 70 * j, y + 34, 62, 30, "second", 4),
                text(425 + 70 * j, y + 54, name, "small on"),
            ]
        if i < 2:
            parts.append(arrow(f"M530 {y + 80}V{y + 94}"))
    parts += [
        text(698, 104, "LoRA: a low-rank change", "small muted", "start"),
        text(698, 120, "of a projection", "small muted", "start"),
        box(380, 338, 300, 26, "second", 4),
        text(530, 356, "after_feed_forward", "small mono on"),
        box(394, 288, 130, 30, "line", 4),
        text(459, 308, "frozen", "small ink"),
        box(536, 288, 130, 30, "second", 4),
        text(601, 308, "feed_forward", "small mono on"),
        text(698, 300, "a bottleneck beside the", "small muted", "start"),
        text(698, 316, "block (the paper’s)", "small muted", "start"),
        text(698, 348, "a bottleneck behind it", "small muted", "start"),
        text(698, 364, "(HyperFormer)", "small muted", "start"),
    ]
    return figure(880, 386, "Sources make adapters, sites take them", parts)


def hypergrid() -> str:
    """A kernel in blocks, each multiplied by a row's and a column's gate."""
    rows, cols = (0.95, 0.35, 0.7, 0.15), (0.3, 0.9, 0.55, 0.8, 0.2, 0.65)
    parts = [
        text(104, 150, "state of", "ink"),
        text(104, 168, "the example", "ink"),
        arrow("M160 158H206", "first"),
        text(104, 190, "local: made", "small muted"),
        text(104, 206, "for each example", "small muted"),
        text(404, 30, "global: learned once", "small muted"),
        text(404, 344, "feed-forward kernel, in blocks", "ink"),
        text(404, 362, "gate of a block = sigmoid(row × column)", "small muted"),
    ]

    def shade(x, y, w, h, kind, strength):
        filled = box(x, y, w, h, kind, 4).replace("/>", f' fill-opacity="{strength:.2f}"/>')
        return box(x, y, w, h, "frozen", 4) + filled

    parts += [shade(214, 84 + 60 * i, 34, 52, "first", row) for i, row in enumerate(rows)]
    parts += [shade(262 + 48 * j, 42, 40, 30, "trained", col) for j, col in enumerate(cols)]
    parts += [
        shade(262 + 48 * j, 84 + 60 * i, 40, 52, "second", (row * col) ** 0.7)
        for i, row in enumerate(rows)
        for j, col in enumerate(cols)
    ]
    return figure(600, 380, "HyperGrid gates blocks of the feed-forward kernel (variant LG)", parts)


def packing() -> str:
    """Four examples in rows of their own, and in one row."""
    lengths, width, unit = (120, 200, 90, 160), 600, 0
    parts = [text(30, 34, "an example in each row: most of it is padding", "ink bold", "start")]
    for i, length in enumerate(lengths):
        y = 48 + 34 * i
        parts += [
            box(30, y, width, 26, "frozen", 4),
            box(30, y, length, 26, EXAMPLES[i], 4),
            text(30 + length / 2, y + 18, f"example {i + 1}", "small on"),
        ]
    parts.append(
        text(30, 214, "packed: each segment has a decoder of its own", "ink bold", "start")
    )
    parts.append(box(30, 228, width, 26, "frozen", 4))
    for i, length in enumerate(lengths):
        x = 30 + unit
        unit += length + 2
        middle = x + length / 2
        parts += [
            box(x, 228, length, 26, EXAMPLES[i], 4),
            text(middle, 246, f"example {i + 1}", "small on"),
            arrow(f"M{middle} 258V282", EXAMPLES[i]),
            box(middle - 38, 288, 76, 44, "frozen"),
            *(box(middle - 30, 296 + 15 * j, 60, 5, "line", 2) for j in range(2)),
            *(box(middle - 30, 303 + 15 * j, 60, 5, EXAMPLES[i], 2) for j in range(2)),
        ]
    parts.append(
        text(
            30,
            358,
            "Attention, adapters, gates and the loss stay inside a segment.",
            "muted",
            "start",
        )
    )
    return figure(660, 376, "Packed rows hold several examples", parts)


FIGURES = {
    "method": method,
    "sources_and_sites": sources_and_sites,
    "hypergrid": hypergrid,
    "packing": packing,
}


if __name__ == "__main__":
    for name, draw in FIGURES.items():
        FOLDER.joinpath(f"{name}.svg").write_text(draw(), encoding="utf-8")
