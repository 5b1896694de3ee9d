"""Text for a terminal about the lengths of a task's or a mixture's examples, and what to set.

What is read are the first examples of each task; those of a mixture count as often as it draws
them. Padding and packing are tried with the lengths that are recommended.
"""

import math

import numpy as np
import seqio

from hyperdecoders_jax import types
from hyperdecoders_jax.data import mixtures, packing, reading, task_listing, text_table
from hyperdecoders_jax.data.pipeline import PipelineConfig

# Of each task; its lengths hardly change with more.
NUM_READ = 2000
# Recommended inputs end here: attention takes the square, and T5 was trained with no more.
MOST_INPUTS = 512
# TPUs compute tiles of 128 positions, and pad what is shorter.
_ROW_MULTIPLE = 128
_MULTIPLE = 8
_NUM_DRAWN = 4000
_PERCENTILES = (50, 90, 99)
_BAR_WIDTH = 40

Lengths = dict[str, np.ndarray]  # Of each example, by feature.


def report(name: str, vocabulary_path: str | None = None, split: str | None = None) -> str:
    """Histogram, shares of padding and what to set, of a task or mixture."""
    provider = mixtures.get_mixture_or_task(name)
    called = task_listing.use_vocabulary(vocabulary_path)
    split = split or "train"
    tasks = mixtures.leaf_tasks(provider, split)
    rates = mixtures.mixing_rates(provider, tasks)
    read = {task.name: _read(task, split) for task in tasks if rates[task.name] > 0}
    drawn = _draw(read, rates)
    lines = [
        f"{name}, split {split}, tokens with EOS of the first {NUM_READ:,} examples of each task; "
        f"vocabulary: {called}.",
        "",
    ]
    header = ("inputs, targets of", "mean", *(f"{p} %" for p in _PERCENTILES), "longest")
    of_all = {"as mixed": drawn} if len(read) > 1 else {}
    rows = [(task, *_summarize(lengths)) for task, lengths in (read | of_all).items()]
    lines += [text_table.align([header, *rows]), "", "inputs as mixed:", *_histogram(drawn), ""]
    return "\n".join([*lines, *_advice(read, drawn)])


def _read(task: seqio.Task, split: str) -> Lengths:
    # Nothing is cut here: lengths are counted before.
    config = PipelineConfig(
        task, {"inputs": 1, "targets": 1}, split, shuffle=False, truncate_targets=True
    )
    shard = seqio.ShardInfo(index=0, num_shards=1)
    chunks = list(reading.read_rows(task, config, shard, 0, num_examples=NUM_READ))
    return {
        feature: np.concatenate([chunk[f"{feature}_len"] for chunk in chunks])
        for feature in types.FEATURES
    }


def _draw(read: dict[str, Lengths], rates: dict[str, float]) -> Lengths:
    """Lengths of examples in the order of training: a fixed draw."""
    rng = np.random.default_rng(0)
    names = list(read)
    choices = rng.choice(len(names), _NUM_DRAWN, p=[rates[name] for name in names])
    indices = rng.random(_NUM_DRAWN)
    drawn = {feature: np.zeros(_NUM_DRAWN, int) for feature in types.FEATURES}
    for number, name in enumerate(names):
        is_own = choices == number
        for feature, lengths in read[name].items():
            drawn[feature][is_own] = lengths[(indices[is_own] * len(lengths)).astype(int)]
    return drawn


def _summarize(lengths: Lengths) -> list[str]:
    def pair(number):
        return ", ".join(f"{number(lengths[feature]):.0f}" for feature in types.FEATURES)

    percentiles = [pair(lambda x, p=p: np.percentile(x, p)) for p in _PERCENTILES]
    return [pair(np.mean), *percentiles, pair(np.max)]


def _histogram(drawn: Lengths) -> list[str]:
    """A line for each range of inputs' lengths: 1 to 8, to 16, to 32 and so on."""
    edges = [0, *(2**i for i in range(3, math.ceil(math.log2(max(9, drawn["inputs"].max()))) + 1))]
    counts, _ = np.histogram(drawn["inputs"], bins=[edge + 0.5 for edge in edges])
    shares = counts / len(drawn["inputs"])
    return [
        f"{low + 1:>6} to {high:<6} {share:6.1%} {'#' * round(share * _BAR_WIDTH)}".rstrip()
        for low, high, share in zip(edges, edges[1:], shares, strict=False)
    ]


def _round_up(number: float, multiple: int) -> int:
    return math.ceil(number / multiple) * multiple


def _advice(read: dict[str, Lengths], drawn: Lengths) -> list[str]:
    longest = {
        feature: max(int(of_task[feature].max()) for of_task in read.values())
        for feature in types.FEATURES
    }
    lengths = {feature: _round_up(number, _MULTIPLE) for feature, number in longest.items()}
    lengths["inputs"] = min(lengths["inputs"], MOST_INPUTS)
    kept = {f: np.minimum(drawn[f], lengths[f]) for f in types.FEATURES}
    num_real = np.mean(sum(kept.values()))
    is_cut = np.mean(drawn["inputs"] > lengths["inputs"])
    cut = f"; inputs of {is_cut:.1%} are cut" if is_cut else ""
    row = {"inputs": _round_up(lengths["inputs"], _ROW_MULTIPLE)}
    max_segments = max(2, round(1.2 * row["inputs"] / np.mean(kept["inputs"])))
    wanted = max(lengths["targets"], 1.1 * max_segments * np.mean(kept["targets"]))
    row["targets"] = _round_up(wanted, _MULTIPLE)
    fill, per_row = _try_packing(kept, row, max_segments)
    return [
        f"An example a row: TASK_FEATURE_LENGTHS = {lengths}",
        f"  {1 - num_real / sum(lengths.values()):.0%} of the tokens are padding{cut}.",
        f"Packed: PACK = True, ROW_LENGTHS = {row}, MAX_SEGMENTS = {max_segments}",
        f"  {1 - fill:.0%} are padding, {per_row:.1f} examples a row; a row has "
        f"{sum(row.values()) / per_row / sum(lengths.values()):.2f} of the tokens an example has "
        "without packing.",
    ]


def _try_packing(kept: Lengths, row: dict[str, int], max_segments: int) -> tuple[float, float]:
    """The share of real tokens, and examples a row, of packing the drawn lengths."""
    order = iter(zip(*kept.values(), strict=True))

    def draw():
        inputs, targets = next(order)
        return packing.Example(np.empty(max(inputs, 1)), np.empty(targets), 0)

    num_rows = max(1, _NUM_DRAWN // (4 * max_segments))
    packer = packing.Packer(row, num_rows, max_segments)
    rows = [row for _ in range(2) for row in packer.next_rows(draw)]
    num_tokens = sum(len(x.inputs) + len(x.targets) for examples in rows for x in examples)
    return num_tokens / (len(rows) * sum(row.values())), sum(map(len, rows)) / len(rows)
