"""Exported models in releases of transformers: equal tokens, and how far logits are from JAX's.

    python -m benchmarks.pytorch --checkpoint=FOLDER --python=PYTHON [--num_texts=64]

Both flags may be given several times. Each Python needs torch and transformers alone: an export
brings its own code (`hyperdecoders export --with_code`). Texts are those that the first checkpoint,
a run's folder, was evaluated on.
"""

import argparse
import contextlib
import dataclasses
import functools
import json
import os
import pathlib
import subprocess
import sys
import tempfile

import jax
import jax.numpy as jnp
import numpy as np

import hyperdecoders_jax
from hyperdecoders_jax.commands import main
from hyperdecoders_jax.decoding.beam_search import BeamSearchConfig, HuggingFace457Scoring
from hyperdecoders_jax.decoding.decode import GreedyConfig

DTYPES = ("float32", "bfloat16", "float16")
MAX_LEN = 16
HEADER = ("model", "transformers", "dtype", "logits", "greedy", "4 beams", "static cache")
# Runs in each of the Pythons; prints cells of rows as JSON.
CHILD = """
import json, sys, torch, transformers
transformers.logging.set_verbosity_error()
if hasattr(transformers.logging, "disable_progress_bar"):
    transformers.logging.disable_progress_bar()
folder, max_len, dtypes = sys.argv[1], int(sys.argv[2]), sys.argv[3].split(",")
given = {name: torch.tensor(x) for name, x in json.load(open(f"{folder}/given.json")).items()}
inputs, wanted = given["inputs"], {name: given[name] for name in ("greedy", "4 beams")}

def rows_of(tokens):  # Without the start token, up to EOS.
    rows = [row[1:] for row in tokens.tolist()]
    return [row[: row.index(1)] if 1 in row else row for row in rows]

def equal(found, wanted):
    return sum(a == b for a, b in zip(found, wanted, strict=True))

for dtype in dtypes:
    model = transformers.AutoModelForSeq2SeqLM.from_pretrained(
        folder, trust_remote_code=True, dtype=getattr(torch, dtype)
    ).eval()
    with torch.no_grad():
        logits = model(inputs, decoder_input_ids=given["decoder_inputs"]).logits.float()
    cells = [f"{(logits - given['logits']).abs().max().item():.1e}"]
    found = {}
    for name, num_beams in (("greedy", 1), ("4 beams", 4)):
        options = dict(num_beams=num_beams, max_new_tokens=max_len)
        if num_beams > 1:
            options |= dict(length_penalty=1.0, early_stopping=False)
        found[name] = rows_of(model.generate(inputs, **options))
        static = rows_of(model.generate(inputs, cache_implementation="static", **options))
        found[f"static {name}"] = equal(static, found[name])
        expected = rows_of(torch.nn.functional.pad(wanted[name], (1, 0)))
        cells.append(f"{equal(found[name], expected)}/{len(inputs)}")
    static = found["static greedy"] + found["static 4 beams"]
    cells.append(f"{static}/{2 * len(inputs)}")
    print(json.dumps([transformers.__version__, dtype, *cells]))
"""


def read_texts(run: str, num_texts: int) -> list[str]:
    """Inputs of a run's evaluation, its tasks in turn."""
    tasks = [
        [json.loads(line)["input"] for line in path.read_text().splitlines()]
        for path in sorted(pathlib.Path(run).glob("eval*/*/*.jsonl"))
    ]
    return [text for texts in zip(*tasks, strict=False) for text in texts][:num_texts]


def export(checkpoint: str, folder: pathlib.Path, texts: list[str]) -> None:
    """Writes an export with its code, and beside it what JAX makes of the texts."""
    line = ["export", f"--checkpoint={checkpoint}", f"--output={folder}", "--format=safetensors"]
    if main.main([*line, "--with_code"]):
        sys.exit(1)
    loaded = hyperdecoders_jax.load(checkpoint)
    rows = loaded.reader.rows([(text, None) for text in texts])
    batch = loaded.reader.batch(rows, len(rows), max(len(row.tokens) for row in rows))
    decodings = {
        "greedy": GreedyConfig(),
        "4 beams": BeamSearchConfig(4, scoring=HuggingFace457Scoring()),
    }
    found = {"inputs": batch.encoder_input_tokens}
    for name, decoding in decodings.items():
        model = dataclasses.replace(loaded.model, decoding=decoding)
        decoded = jax.jit(functools.partial(model.predict, max_len=MAX_LEN))(loaded.params, batch)
        found[name] = decoded.tokens[:, 0]
    starts = jnp.zeros_like(found["greedy"][:, :1])
    found["decoder_inputs"] = jnp.concatenate([starts, found["greedy"][:, :-1]], axis=1)
    batch = dataclasses.replace(batch, decoder_input_tokens=found["decoder_inputs"])
    found["logits"] = jax.jit(loaded.model.logits)(loaded.params, batch)
    values = {name: np.asarray(x).tolist() for name, x in found.items()}
    (folder / "given.json").write_text(json.dumps(values))


def rows_of(python: str, folder: pathlib.Path) -> list[list[str]]:
    """What a Python's release of transformers makes of an export, a row for each dtype."""
    line = [python, "-c", CHILD, str(folder), str(MAX_LEN), ",".join(DTYPES)]
    # Its own cache: releases keep the code of an export there.
    env = os.environ | {"HF_HOME": str(folder / "cache"), "USE_FLAX": "0", "PYTHONPATH": ""}
    result = subprocess.run(line, capture_output=True, text=True, env=env)
    if result.returncode:
        return [["?", "?", result.stderr.strip().rpartition("\n")[2]]]
    return [json.loads(line) for line in result.stdout.splitlines() if line.startswith("[")]


def run() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--checkpoint", action="append", required=True, metavar="FOLDER")
    parser.add_argument("--python", action="append", required=True, metavar="FILE")
    parser.add_argument("--num_texts", type=int, default=64)
    args = parser.parse_args()
    texts = read_texts(args.checkpoint[0], args.num_texts)
    with tempfile.TemporaryDirectory() as made:
        folders = [pathlib.Path(made) / f"model_{i}" for i in range(len(args.checkpoint))]
        for checkpoint, folder in zip(args.checkpoint, folders, strict=True):
            with contextlib.redirect_stdout(sys.stderr):
                export(checkpoint, folder, texts)
        print("| " + " | ".join(HEADER) + " |\n" + "|---" * len(HEADER) + "|")
        for checkpoint, folder in zip(args.checkpoint, folders, strict=True):
            for python in args.python:
                for row in rows_of(python, folder):
                    name = "/".join(pathlib.Path(checkpoint).parts[-2:])
                    print("| " + " | ".join([name, *row]) + " |", flush=True)


if __name__ == "__main__":
    run()
