"""Seconds, peak memory and file sizes of an analysis of synthetic examples.

    python -m benchmarks.analysis --num_examples=20000

The model is a Hyperdecoder with random weights: vectors as wide as T5 large's, but few layers.
Inputs are random letters. Memory is the process's peak so far; importing JAX and TensorFlow takes
about 1 GB of it.
"""

from __future__ import annotations

import argparse
import resource
import tempfile
import time

import jax
import jax.numpy as jnp
import numpy as np
import seqio
import tensorflow as tf
from etils import epath

from hyperdecoders_jax.analysis import report, study
from hyperdecoders_jax.analysis.subject import Subject
from hyperdecoders_jax.data import text_table
from hyperdecoders_jax.data.pipeline import PipelineConfig
from hyperdecoders_jax.evaluation import evaluator
from hyperdecoders_jax.evaluation.config import EvaluationConfig
from hyperdecoders_jax.model import Model
from hyperdecoders_jax.modeling.config import AdapterConfig, HypernetworkConfig, TransformerConfig
from hyperdecoders_jax.training import partitioning

NUM_TASKS = 8
INPUT_CHARS = 300
LENGTHS = {"inputs": 32, "targets": 4}
LABELS = ("no", "yes")


def make_tasks(num_examples: int, batch_size: int) -> evaluator.Evaluator:
    """`NUM_TASKS` tasks of equal size, `num_examples` in all, in one evaluator."""
    vocabulary = seqio.ByteVocabulary()
    feature = seqio.Feature(vocabulary)
    tasks = []
    for number in range(NUM_TASKS):
        rng = np.random.default_rng(number)
        letters = rng.integers(97, 123, (num_examples // NUM_TASKS, INPUT_CHARS), np.uint8)
        texts = {
            "inputs": [bytes(row) for row in letters],
            "targets": rng.choice(LABELS, len(letters)),
        }
        source = seqio.FunctionDataSource(
            lambda split, shuffle_files, seed=None, texts=texts: tf.data.Dataset.from_tensor_slices(
                texts
            ),
            splits=["validation"],
        )
        tasks.append(
            seqio.Task(
                f"synthetic_{number}",
                source,
                output_features={"inputs": feature, "targets": feature},
                preprocessors=[seqio.preprocessors.tokenize, seqio.preprocessors.append_eos],
                metric_fns=[exact_match],
            )
        )
    mixture = seqio.Mixture("synthetic", tasks, default_rate=1)
    names = [task.name for task in tasks]
    data = PipelineConfig(mixture, LENGTHS, batch_size=batch_size)
    return evaluator.Evaluator(data, EvaluationConfig(), names)


def exact_match(targets, predictions):
    matches = [a == b for a, b in zip(targets, predictions, strict=True)]
    return {"exact_match": 100 * np.mean(matches)}


def make_subject(emb_dim: int) -> Subject:
    """A small Hyperdecoder with random weights, ready to be studied."""
    network = HypernetworkConfig(bottleneck_dim=64, layer_embedding_dim=10)
    config = TransformerConfig(
        vocab_size=seqio.ByteVocabulary().vocab_size,
        emb_dim=emb_dim,
        num_heads=2,
        head_dim=32,
        mlp_dim=128,
        num_encoder_layers=1,
        num_decoder_layers=2,
        decoder_adapter=AdapterConfig("generated", 16, hypernetwork=network),
        num_tasks=NUM_TASKS,
    )
    model = Model(config)
    rng = np.random.default_rng(0)
    params = jax.tree.map(
        lambda x: jnp.asarray(rng.normal(scale=0.05, size=x.shape), x.dtype), model.param_shapes()
    )
    return Subject(model, params, partitioning.make_partitioner(), 0, LENGTHS["targets"])


def peak_gb() -> str:
    # Linux counts kibibytes. The peak never falls, so a row holds all stages before it, too.
    return f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9:.2f}"


def main() -> None:
    """Prints a row for each stage and one for each file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--num_examples", type=int, default=20_000)
    parser.add_argument("--emb_dim", type=int, default=1024)
    parser.add_argument("--batch_size", type=int, default=64)
    args = parser.parse_args()
    rows = [("stage", "seconds", "peak memory (GB)")]

    def add(stage: str, start: float) -> None:
        rows.append((stage, f"{time.perf_counter() - start:.0f}", peak_gb()))

    tasks, subject = make_tasks(args.num_examples, args.batch_size), make_subject(args.emb_dim)
    rows.append(("begin", "-", peak_gb()))
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        found = study.run(subject, tasks, folder, args.batch_size)
        add("study", start)
        start = time.perf_counter()
        report.write(folder, found, {"mixture": "synthetic", "split": "validation"})
        add("report", start)
        files = [
            (file.name, f"{file.stat().length / 1e6:.1f}")
            for file in sorted(epath.Path(folder).iterdir())
            if file.is_file()
        ]
    print(text_table.align(rows))
    print(text_table.align([("file", "MB"), *files]))


if __name__ == "__main__":
    main()
