"""Parsing of a command line; a flag that a command lacks is told with the one that was meant.

People come with the habits of other trainers, `--learning_rate=1e-4` and `--model-dir`. What is no
flag here is mostly a macro of the gin files, `--gin.LEARNING_RATE=1e-4`.
"""

from __future__ import annotations

import argparse
import os
import re
from collections.abc import Mapping, Sequence

from hyperdecoders_jax import errors

# Names in Hugging Face's trainer and others, and what sets the same here.
SAME = {
    "dataset": "MIXTURE_OR_TASK_NAME",
    "dataset_name": "MIXTURE_OR_TASK_NAME",
    "eval_steps": "EVAL_PERIOD",
    "gradient_accumulation_steps": "NUM_MICROBATCHES",
    "label_smoothing_factor": "LABEL_SMOOTHING",
    "logging_steps": "LOG_PERIOD",
    "lr": "LEARNING_RATE",
    "max_grad_norm": "AdamWConfig.clip_norm",
    "max_steps": "TRAIN_STEPS",
    "model_name_or_path": "--init",
    "num_train_steps": "TRAIN_STEPS",
    "output_dir": "--model_dir",
    "per_device_eval_batch_size": "EVAL_BATCH_SIZE",
    "per_device_train_batch_size": "BATCH_SIZE",
    "save_steps": "CHECKPOINT_PERIOD",
    "save_total_limit": "KEEP_CHECKPOINTS",
    "seed": "RANDOM_SEED",
    "task_name": "MIXTURE_OR_TASK_NAME",
    "tokenizer_name": "--vocabulary",
    "weight_decay": "AdamWConfig.weight_decay",
}
# Those whose values are written otherwise here.
SIMILAR = {
    "bf16": "DTYPE=bfloat16",
    "epochs": "TRAIN_STEPS=…",
    "fp16": "DTYPE=bfloat16",
    "max_seq_length": "TASK_FEATURE_LENGTHS=\"{'inputs': 512, 'targets': 64}\"",
    "max_source_length": "TASK_FEATURE_LENGTHS=\"{'inputs': 512, 'targets': 64}\"",
    "max_target_length": "TASK_FEATURE_LENGTHS=\"{'inputs': 512, 'targets': 64}\"",
    "num_train_epochs": "TRAIN_STEPS=…",
    "warmup_ratio": "WARMUP_STEPS=…",
}


def parse(parser: argparse.ArgumentParser, arguments: Sequence[str]) -> argparse.Namespace:
    """Parses all arguments but gin flags; UsageError for one that the command does not have."""
    args, unknown = parser.parse_known_args(arguments)
    if not unknown:
        return args
    first, *rest = unknown
    if not first.startswith("-"):
        raise errors.UsageError(
            f"A command line must be flags, --name=value; {args.command} got {first!r}. Leave it "
            f"out, or write the flag that it belongs to; see hyperdecoders {args.command} --help."
        )
    name, _, value = first.lstrip("-").partition("=")
    if "=" not in first and rest and not rest[0].startswith("-"):
        value = rest[0]
    near = _nearest(name.replace("-", "_"), value, _own_flags(parser, args.command))
    hint = f" Write {near}." if near else ""
    raise errors.UsageError(
        f"A flag must be one of {args.command}'s; got {first}.{hint} See hyperdecoders "
        f"{args.command} --help."
    )


def _own_flags(parser: argparse.ArgumentParser, command: str) -> Mapping[str, bool]:
    """Flags of a command, and whether each takes a value; macros are `gin.NAME`."""
    from hyperdecoders_jax.commands import main

    subparsers = next(x for x in parser._actions if isinstance(x, argparse._SubParsersAction))
    actions = subparsers.choices[command]._actions
    own = {x.option_strings[-1]: x.nargs != 0 for x in actions if x.option_strings}
    if main.module_of(command).TAKES_GIN:
        own |= {f"--gin.{macro}": True for macro in _macros()}
    return own


def _macros() -> list[str]:
    """Macros that the package's gin files set."""
    from hyperdecoders_jax.config import gin_files

    folder, found = gin_files.package_config_folder(), set()
    for name in gin_files.files_under(folder):
        with open(os.path.join(folder, name), encoding="utf-8") as file:
            found |= set(re.findall(r"^([A-Z][A-Z0-9_]*) = ", file.read(), re.MULTILINE))
    return sorted(found)


def _nearest(name: str, value: str, own: Mapping[str, bool]) -> str | None:
    """The flag that was meant, with its value as it is written here."""
    takes_gin = "--gin.TRAIN_STEPS" in own
    if name in SIMILAR and takes_gin:
        return f"--gin.{SIMILAR[name]}"
    same = SAME.get(name)
    if same is not None and (takes_gin or same in own):
        flag = same if same.startswith("--") else f"--gin.{same}"
        return f"{flag}={value or '…'}"
    spelling: dict[str, str] = {}
    for flag in own:  # A flag of our own comes before the macro that it sets.
        spelling.setdefault(flag.removeprefix("--gin.").lstrip("-").lower(), flag)
    near = errors.nearest(name.lower(), spelling)
    if near is None:
        return None
    flag = spelling[near]
    return f"{flag}={value or '…'}" if own[flag] else flag
