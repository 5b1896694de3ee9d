"""Analyses: a trained model and a mixture in; what adapts its examples, measured and pictured, out.

    hyperdecoders analyze --checkpoint=my_run --output=my_analysis

`analyze` is bound by gin_configs/runs/embedded/analyze.gin. It writes `examples.parquet`, a row for
each example, `results.json` and `tables.txt`, the numbers, `page.html`, which shows all of it, and
pictures.
"""

from __future__ import annotations

import functools
import importlib.util
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING

from hyperdecoders_jax.commands import cli

if TYPE_CHECKING:
    from hyperdecoders_jax.decoding.decode import Generation
    from hyperdecoders_jax.trained.preparation import TrainedConfig

# The extra `plots`.
PLOTTING = ("matplotlib", "plotly")


def analyze(
    *,
    trained: TrainedConfig,
    mixture_or_task_name: str,
    task_feature_lengths: Mapping[str, int],
    split: str | None,
    batch_size: int,
    eval_batch_size: int | None,
    num_examples: int | None,
    generation: Generation | None,
    output_dir: str,
    use_cached: bool = False,
    config_text: str = "",
) -> int:
    """Writes an analysis of a checkpoint on every task of a mixture; returns the exit code.

    Args:
      trained: the run, and which of its checkpoints.
      mixture_or_task_name: what is analysed: the run's mixture, or any of its tasks.
      task_feature_lengths: tokens of inputs and targets.
      split: "validation", "test", …
      batch_size: examples of one training step.
      eval_batch_size: examples of one step here; None: as many as of a training step.
      num_examples: of each task, from the beginning; None: all.
      generation: of tasks whose texts are decoded otherwise: (most tokens, beams).
      output_dir: gets the files.
      use_cached: reads text from SeqIO's caches, not from the data.
      config_text: the whole configuration; not needed here.

    Raises:
      ImportError: the extra `plots` is not installed.
      ValueError: something in all this does not fit together.
    """
    del config_text
    check_plotting()
    if split is None:
        raise ValueError(
            "An analysis needs a split; got EVAL_SPLIT = None, with which the run was trained. "
            "Name it with --gin.EVAL_SPLIT=validation, or files of your own with "
            "--validation_file=FILE or --test_file=FILE."
        )
    import jax

    from hyperdecoders_jax import files
    from hyperdecoders_jax.analysis import report, study
    from hyperdecoders_jax.analysis.subject import Subject
    from hyperdecoders_jax.data.pipeline import PipelineConfig
    from hyperdecoders_jax.evaluation import evaluator
    from hyperdecoders_jax.evaluation.config import EvaluationConfig
    from hyperdecoders_jax.trained import preparation

    if jax.process_count() > 1:
        raise ValueError(
            f"An analysis must run in one process, which sees all examples; got "
            f"{jax.process_count()}. Start it on one host."
        )
    batch_size = eval_batch_size or batch_size
    max_len = task_feature_lengths["targets"]
    files.check_writable(output_dir, "folder of an analysis", "--output")
    preparation.check_decoding(trained.model, max_len, generation)
    tasks = evaluator.Evaluator(
        PipelineConfig(mixture_or_task_name, task_feature_lengths, use_cached=use_cached),
        EvaluationConfig(split, batch_size, num_examples),
        preparation.task_names_of(trained),
        accepts_unseen_tasks=trained.model.config.accepts_unseen_tasks,
    )
    preparation.use_vocabulary(trained.vocabulary, trained.initial_checkpoint_path)
    tasks.rehearse()
    placed = preparation.place_trained(trained, batch_size)
    subject = Subject(
        placed.model,
        placed.params,
        placed.partitioner,
        placed.step,
        max_len=max_len,
        generation=generation or {},
        seed=trained.random_seed,
    )
    tell = functools.partial(print, file=sys.stderr, flush=True)
    found = study.run(subject, tasks, output_dir, batch_size, tell)
    tell("Drawing …")
    about = {
        "mixture": getattr(mixture_or_task_name, "name", mixture_or_task_name),
        "split": split,
        "checkpoint": trained.model_dir or trained.initial_checkpoint_path,
        "examples of each task": num_examples or "all",
        "seed": trained.random_seed,
    }
    report.write(output_dir, found, about)
    print(report.text(found, about))
    tell(f"{found.num_examples:,} examples; {output_dir}/page.html shows them.")
    return 0


def check_plotting() -> None:
    """Checks that pictures can be made, before anything is loaded.

    Raises:
      ImportError: a package is missing.
    """
    missing = [name for name in PLOTTING if importlib.util.find_spec(name) is None]
    if missing:
        raise ImportError(
            f"An analysis draws with {' and '.join(PLOTTING)}; missing: {', '.join(missing)}. "
            "Install them: pip install 'hyperdecoders_jax[plots]'"
        )


if __name__ == "__main__":
    sys.exit(cli.main(["analyze", *sys.argv[1:]]))
