"""A run on a slice of a TPU pod, under T5X: flags in, the commands from creation to export out.

Nothing is run here: what comes out is shell, to be pasted block by block. A slice has several
machines, its workers. All of them must run the same command and see the same data, so data, weights
and the run's own folder are in a bucket.

Source: Google's pages on Cloud TPU (docs.cloud.google.com/tpu/docs: supported-versions, jax-pods,
queued-resources, spot), read in 2026.
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib.metadata
import shlex
from collections.abc import Iterable, Sequence

from hyperdecoders_jax import t5x_install

# How the type of an accelerator begins -> the system of its machines.
RUNTIMES = {
    "v2": "tpu-ubuntu2204-base",
    "v3": "tpu-ubuntu2204-base",
    "v4": "tpu-ubuntu2204-base",
    "v5litepod": "v2-alpha-tpuv5-lite",
    "v5p": "v2-alpha-tpuv5",
    "v6e": "v2-alpha-tpuv6e",
}
BUCKET = "gs://"
# In a worker's home folder, which is where commands start. Its own Python, 3.10, is too old.
ENVIRONMENT = "hyperdecoders_env"
PYTHON = "3.11"
PROGRAM = f"{ENVIRONMENT}/bin/hyperdecoders"

HEADER = """\
# Nothing has been run: paste one block after the other. The slice's service account must be able to
# write to {model_dir}.
# These commands use the Cloud TPU API, which gets fixes only. For new projects, and for TPU7x at
# all, Google has Compute Engine and GKE; what the workers run is the same there.
"""


def parser() -> argparse.ArgumentParser:
    """The flags of a slice; those of a run are the ones of `hyperdecoders train`."""
    flags = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    group = flags.add_argument_group("slice")
    group.add_argument("--name", required=True, help="of the slice")
    group.add_argument("--zone", required=True, help="such as us-west4-a")
    group.add_argument(
        "--accelerator", required=True, metavar="TYPE", help="such as v5litepod-16, v4-32 or v6e-8"
    )
    group.add_argument(
        "--spot", action="store_true", help="a cheaper slice, which may be taken away"
    )
    group.add_argument(
        "--copy",
        action="append",
        default=[],
        metavar="FILE",
        help="a gin file or module of your own, for the folder that the workers run in; repeatable",
    )
    group.add_argument(
        "--prepare", metavar="NAME", help="a task or mixture whose data are not in the bucket yet"
    )
    group.add_argument(
        "--weights",
        metavar="[FORMAT:]PATH",
        help="on this machine, or a hub id; become the run's INITIAL_CHECKPOINT_PATH",
    )
    return flags


@dataclasses.dataclass(frozen=True)
class Slice:
    """Machines with TPUs under one name.

    >>> print(Slice("glue-1", "us-west4-a").on("all", "tail train.log"))
    gcloud compute tpus tpu-vm ssh glue-1 --zone=us-west4-a --worker=all --command='tail train.log'
    """

    name: str
    zone: str

    def manage(self, verb: str, *flags: str) -> str:
        """Creates, describes or deletes the slice."""
        words = [verb, self.name, f"--zone={self.zone}", *flags]
        return f"gcloud compute tpus queued-resources {shlex.join(words)}"

    def copy(self, file: str) -> str:
        """Puts a file of this machine into the home folder of every worker."""
        words = [file, f"{self.name}:", f"--zone={self.zone}", "--worker=all"]
        return f"gcloud compute tpus tpu-vm scp {shlex.join(words)}"

    def on(self, worker: str, command: str) -> str:
        """Runs a line of shell on one worker, or on all."""
        words = [self.name, f"--zone={self.zone}", f"--worker={worker}"]
        return (
            f"gcloud compute tpus tpu-vm ssh {shlex.join(words)} --command={shlex.quote(command)}"
        )

    def launch(self, command: str, flags: Iterable[str]) -> str:
        """Starts train, eval or infer on all workers.

        What is left of another one, which may hang, would hold the TPU, and is killed first.
        """
        words = [PROGRAM, command, "--runner=t5x", "--multiprocess", *flags]
        return self.on(
            "all",
            "pkill --signal KILL --pidfile run.pid --full hyperdecoders 2> /dev/null; "
            f"nohup {shlex.join(words)} > {command}.log 2>&1 < /dev/null & echo $! > run.pid",
        )


def runtime_version(accelerator: str) -> str:
    """The system of an accelerator's machines.

    >>> runtime_version("v5litepod-16")
    'v2-alpha-tpuv5-lite'

    Raises:
      ValueError: the Cloud TPU API has no such accelerator.
    """
    generation, _, size = accelerator.partition("-")
    if generation not in RUNTIMES or not size.isdecimal():
        raise ValueError(
            f"--accelerator must be one of {', '.join(f'{name}-N' for name in RUNTIMES)}; got "
            f"{accelerator!r}. gcloud compute tpus tpu-vm accelerator-types list --zone=ZONE shows "
            "what a zone has. TPU7x and later are on Compute Engine and GKE alone."
        )
    return RUNTIMES[generation]


def script(args: argparse.Namespace, run_flags: Sequence[str]) -> str:
    """The commands, in numbered blocks that say when to run them.

    Args:
      args: all flags.
      run_flags: those that are the run's, as they were written.

    Raises:
      ValueError: there is no such accelerator, or a folder is not in a bucket.
    """
    for flag in ("model_dir", "tfds_data_dir", "data_dir"):
        folder = getattr(args, flag)
        if not str(folder).startswith(BUCKET) and (folder is not None or flag == "model_dir"):
            raise ValueError(
                f"--{flag} must be in a bucket, which every worker sees; got {folder}. Name it "
                f"--{flag}={BUCKET}BUCKET/FOLDER."
            )
    model_dir = args.model_dir.rstrip("/")
    tpus = Slice(args.name, args.zone)
    run_flags = list(run_flags)
    blocks = {
        "Create the slice; go on when its state is ACTIVE": [
            tpus.manage(
                "create",
                f"--node-id={args.name}",
                f"--accelerator-type={args.accelerator}",
                f"--runtime-version={runtime_version(args.accelerator)}",
                *(["--spot"] if args.spot else []),
            ),
            tpus.manage("describe", "--format=value(state.state)"),
        ],
        "Install, from the repository's folder": _installation(tpus, args.copy),
    }
    if args.prepare is not None:
        folders = [flag for flag in ("tfds_data_dir", "data_dir") if getattr(args, flag)]
        words = [PROGRAM, "tasks", f"--prepare={args.prepare}"]
        words += [f"--{flag}={getattr(args, flag)}" for flag in folders]
        words += [f"--module={module}" for module in args.module]
        blocks["Prepare the data, once for all runs"] = [
            tpus.on("0", f"JAX_PLATFORMS=cpu {shlex.join(words)}")
        ]
    if args.weights is not None:
        folder = f"{args.name}_initial"
        run_flags.append(f"--gin.INITIAL_CHECKPOINT_PATH={model_dir}/initial/checkpoint_0")
        blocks["Convert the weights, on this machine"] = [
            shlex.join(
                ["hyperdecoders", "convert", f"--from={args.weights}", f"--to=t5x:{folder}"]
            ),
            _copy_folder(f"{folder}/checkpoint_0", f"{model_dir}/initial/"),
        ]
    run = model_dir.rpartition("/")[-1]
    blocks |= {
        "Train; the same command continues from the newest checkpoint": [
            tpus.launch("train", run_flags)
        ],
        "Look": [tpus.on("all", "tail --lines=20 train.log")],
        "Evaluate the last checkpoint, after training": [
            tpus.launch("eval", [*run_flags, "--gin.EVAL_SPLIT=test"])
        ],
        "Predict, after that": [tpus.launch("infer", run_flags)],
        "Delete the slice, also after a preemption: then create, install and train again": [
            tpus.manage("delete", "--force", "--quiet")
        ],
        "Export, on this machine (a T5 without adapters also with --to=hugging_face:…)": [
            _copy_folder(model_dir, "."),
            shlex.join(
                ["hyperdecoders", "convert", f"--from=run:{run}", f"--to=adapters:{run}_adapters"]
            ),
        ],
    }
    text = HEADER.format(model_dir=model_dir)
    for number, (title, commands) in enumerate(blocks.items(), 1):
        text += "\n".join([f"\n# {number}. {title}.", *commands, ""])
    return text


def _installation(tpus: Slice, files: Iterable[str]) -> list[str]:
    wheel = f"hyperdecoders_jax-{importlib.metadata.version('hyperdecoders_jax')}-py3-none-any.whl"
    on_workers = [
        "python3 -m pip install --user --upgrade uv",
        f"~/.local/bin/uv venv --clear --seed --python={PYTHON} {ENVIRONMENT}",
        f". {ENVIRONMENT}/bin/activate",
        *t5x_install.commands(f"{wheel}[t5x,tpu]"),
        # The TPU is there for all workers together only.
        "JAX_PLATFORMS=cpu hyperdecoders doctor",
    ]
    return [
        "python -m pip wheel --no-deps --wheel-dir=dist .",
        *(tpus.copy(file) for file in (f"dist/{wheel}", *files)),
        tpus.on("all", " && ".join(on_workers)),
    ]


def _copy_folder(source: str, target: str) -> str:
    return shlex.join(["gcloud", "storage", "cp", "--recursive", source, target])
