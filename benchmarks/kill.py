"""kill -9 at random moments of a comparison: its tables must equal those of an unbroken one.

    python -m benchmarks.kill --output=FOLDER [--kills=10] [--seed=0] [--jobs=1]

Compares 2 methods x 3 seeds of a tiny model on files of its own, once unbroken; then again, killed
at a random moment and started anew until there were enough kills, and left alone to its end. A
comparison that ends before it is killed counts, too, and the next one begins in another folder.
"""

import argparse
import csv
import json
import os
import pathlib
import random
import re
import signal
import subprocess
import sys
import threading
import time

METHODS = (
    "adapter=single_adapter,DECODER_BOTTLENECK_DIM=2",
    "hyperdecoder=hyperdecoder,DECODER_BOTTLENECK_DIM=2,HYPERNETWORK_BOTTLENECK_DIM=4",
)
COMMON = """
include 'models/demo.gin'
include 'optim/adamw_linear.gin'
include 'decoding/greedy.gin'
include 'mixtures/own_data.gin'
EMB_DIM = 16
NUM_HEADS = 2
HEAD_DIM = 4
MLP_DIM = 24
NUM_ENCODER_LAYERS = 1
NUM_DECODER_LAYERS = 1
ENCODER_BOTTLENECK_DIM = 3
TASK_FEATURE_LENGTHS = {'inputs': 24, 'targets': 4}
INITIAL_CHECKPOINT_PATH = None
LEARNING_RATE = 1e-2
WARMUP_STEPS = 1
TRAIN_STEPS = 24
BATCH_SIZE = 8
EVAL_PERIOD = 8
CHECKPOINT_PERIOD = 4
LOG_PERIOD = 3
"""
TABLES = ("table.txt", "table.md", "table.tex", "table.json", "floors.json")
PICTURES = tuple(f"pictures/{x}.{y}" for x in ("curves", "differences") for y in ("png", "svg"))


def write_data(folder: pathlib.Path) -> list[str]:
    """Writes two small tasks, JSON lines and TSV; returns their flags."""
    words = {"hot": "up", "ice": "no", "sun": "up", "fog": "no"}
    rows = [(f"{word} {i}", label) for i in range(40) for word, label in words.items()]
    flags = []
    for split, part in {"train": rows, "validation": rows[:60], "test": rows[60:]}.items():
        weather, size = folder / f"{split}.jsonl", folder / f"{split}.tsv"
        lines = [json.dumps({"inputs": x, "targets": y}) for x, y in part]
        weather.write_text("\n".join(lines) + "\n")
        with size.open("w", newline="") as file:
            pairs = [(f"size {i}", "big" if i > 20 else "small") for i in range(len(part))]
            csv.writer(file, delimiter="\t").writerows([("inputs", "targets"), *pairs])
        flags += [f"--{split}_file=weather={weather}", f"--{split}_file=size={size}"]
    return flags


class Attempt:
    """One start of the comparison, in a process that `kill` ends as kill -9 does."""

    def __init__(self, flags: list[str], output: pathlib.Path):
        command = [sys.executable, "-m", "hyperdecoders_jax.commands.compare", f"--output={output}"]
        self._process = subprocess.Popen(
            [*command, *flags], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        )
        self.lines, self.has_begun = [], threading.Event()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        for line in self._process.stderr:
            self.lines.append(line.rstrip())
            if " to make: about " in line:
                self.has_begun.set()
        self.has_begun.set()

    def kill_after(self, secs: float) -> bool:
        """Kills it that long after it began to work; False if it ended before."""
        self.has_begun.wait()
        try:
            self.wait(secs)
        except subprocess.TimeoutExpired:
            os.kill(self._process.pid, signal.SIGKILL)
            self._process.wait()
            return True
        return False

    def wait(self, secs: float | None = None) -> None:
        """Waits for its end, which must be a good one."""
        if code := self._process.wait(secs):
            self._reader.join(10)
            raise SystemExit("\n".join([*self.lines[-20:], f"The comparison ended with {code}."]))

    def last_line(self) -> str:
        said = [line for line in self.lines if line.strip() and "WARNING" not in line]
        return said[-1].strip() if said else ""


def results(output: pathlib.Path) -> dict[str, bytes]:
    """All that a comparison found, without times."""
    found = {}
    for name in TABLES:
        text = (output / name).read_text()
        text = re.sub(r"(?m)^.*seconds of steps.*\n", "", text)
        found[name] = re.sub(r'"secs": [\d.]+', "", text).encode()
    found |= {name: (output / name).read_bytes() for name in PICTURES}
    for path in sorted(output.glob("*/seed-*/scores.json")):
        fields = json.loads(path.read_text())
        del fields["secs_per_step"]
        found[str(path.relative_to(output))] = json.dumps(fields).encode()
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=pathlib.Path, required=True)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=1)
    args = parser.parse_args()
    folder = args.output.absolute()
    folder.mkdir(parents=True)  # Of this call alone.
    (folder / "common.gin").write_text(COMMON)
    flags = [f"--gin_file={folder}/common.gin", "--seeds=1-3", f"--jobs={args.jobs}"]
    flags += [*(f"--method={x}" for x in METHODS), *write_data(folder)]

    unbroken = Attempt(flags, folder / "unbroken")
    unbroken.has_begun.wait()
    start = time.perf_counter()
    unbroken.wait()
    secs = time.perf_counter() - start
    wanted = results(folder / "unbroken")
    print(f"Unbroken: {secs:.0f} s after its first line.", flush=True)

    rng, num_kills, num_ends, is_ended = random.Random(args.seed), 0, 0, False
    while num_kills < args.kills or not is_ended:
        output = folder / f"broken-{num_ends + 1}"
        attempt, moment = Attempt(flags, output), rng.uniform(0, secs / 2)
        if num_kills < args.kills and attempt.kill_after(moment):
            num_kills, is_ended = num_kills + 1, False
            count = len(list(output.glob("*/seed-*/scores.json")))
            print(
                f"Kill {num_kills}: {moment:.1f} s after its first line, {count} of 6 runs were "
                f"finished; its last line: {attempt.last_line()}",
                flush=True,
            )
            continue
        attempt.wait()
        num_ends, is_ended, found = num_ends + 1, True, results(output)
        different = [name for name in wanted | found if wanted.get(name) != found.get(name)]
        verdict = f"different: {', '.join(different)}" if different else "all files equal"
        print(f"Ended in {output.name}: {len(found)} files compared, {verdict}.", flush=True)
        if different:
            raise SystemExit(1)


if __name__ == "__main__":
    main()
