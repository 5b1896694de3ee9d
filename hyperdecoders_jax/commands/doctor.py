"""`hyperdecoders doctor`: versions (by metadata: broken packages, too), devices, conflicts."""

from __future__ import annotations

import argparse
import contextlib
import importlib.metadata
import os
import platform
import re
import shutil
import sys
from collections.abc import Mapping, Sequence

from hyperdecoders_jax import files
from hyperdecoders_jax.commands import accelerators, main
from hyperdecoders_jax.installed import t5x_install

SUMMARY = "print versions, devices, free memory and disk, known conflicts"
TAKES_GIN = False

# What is listed, in order: what all need, what the extra `train` brings, what others bring.
REQUIRED_PACKAGES = (
    "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "gin-config", "sentencepiece",
)  # fmt: skip
TRAIN_PACKAGES = (
    *("tensorflow", "tensorflow-text"),
    *("seqio", "tensorflow-datasets", "tensorboard", "clu"),
)
OPTIONAL_PACKAGES = ("transformers", "safetensors", "torch", "matplotlib", "libtpu")

# The newest releases that the classes of exported models were tried with.
TRIED = {"transformers": "5.24.0", "torch": "2.13.0"}

# Folders that two distributions write into, one over the other's files.
SHARED_FOLDERS = {
    "seqio": ("seqio", "seqio-nightly"),
    "tensorflow_datasets": ("tensorflow-datasets", "tfds-nightly"),
    "tensorflow": (
        *("tensorflow", "tensorflow-cpu", "tensorflow-gpu", "tensorflow-macos"),
        *("intel-tensorflow", "tf-nightly", "tf-nightly-cpu"),
    ),
}


def normalised(name: str) -> str:
    """A distribution's name as the index compares it.

    >>> normalised("TensorFlow_Datasets")
    'tensorflow-datasets'
    """
    return name.lower().replace("_", "-")


def installed_versions() -> dict[str, str]:
    """Normalised name -> version of every installed distribution."""
    found = {}
    for distribution in importlib.metadata.distributions():
        if name := distribution.metadata["Name"]:
            found.setdefault(normalised(name), distribution.version)
    return found


def find_conflicts(versions: Mapping[str, str]) -> list[str]:
    """What of these distributions cannot work together, and what to do about each.

    >>> find_conflicts({"seqio": "0.0.20", "jax": "0.10.2", "jaxlib": "0.10.2"})
    []
    >>> for line in find_conflicts({"seqio": "0.0.20", "seqio-nightly": "0.0.18"}):
    ...     print(line)
    Only one of seqio, seqio-nightly may be installed: they write into one folder, seqio. \
    Run: pip uninstall seqio seqio-nightly && pip install seqio
    """
    conflicts = []
    for folder, names in SHARED_FOLDERS.items():
        present = [name for name in names if name in versions]
        if len(present) > 1:
            conflicts.append(
                f"Only one of {', '.join(present)} may be installed: they write into one folder, "
                f"{folder}. Run: pip uninstall {' '.join(present)} && pip install {names[0]}"
            )
        elif present and "nightly" in present[0] and folder != "tensorflow":
            conflicts.append(
                f"{names[0]} must be installed as a release; {present[0]} {versions[present[0]]} "
                f"stands in its place. Run: pip uninstall {present[0]} && pip install {names[0]}"
            )
    if "t5" in versions:
        conflicts.append(
            f"The package t5 must not be installed; t5 {versions['t5']} is, and it brings "
            f"seqio-nightly and tfds-nightly, which hide the releases. Run: pip uninstall t5"
        )
    for first, second, parts in (("jax", "jaxlib", 3), ("tensorflow", "tensorflow-text", 2)):
        pair = [versions.get(name) for name in (first, second)]
        if None not in pair and pair[0].split(".")[:parts] != pair[1].split(".")[:parts]:
            conflicts.append(
                f"{first} and {second} must be of one version; {pair[0]} and {pair[1]} are "
                f"installed. Run: pip install {second}=={pair[0]}"
                if parts == 3
                else f"{first} and {second} must be of one minor version; {pair[0]} and {pair[1]} "
                f"are installed. Run: pip install --upgrade {first} {second}"
            )
    transformers = versions.get("transformers", "0")
    # The PyTorch class of an exported model works with 5.
    if int(transformers.split(".")[0]) >= 5 and "torch" not in versions:
        conflicts.append(
            f"transformers must be below 5, the first without Flax, or have PyTorch beside it; "
            f"{transformers} is installed. Run: pip install 'transformers<5'"
        )
    return conflicts


def find_untried(versions: Mapping[str, str]) -> list[str]:
    """The installed releases that are newer than any that was tried, and what to do if they fail.

    >>> find_untried({"transformers": "5.24.0", "torch": "2.12.1+cpu"})
    []
    >>> print(*find_untried({"transformers": "6.0.0rc1"}))
    transformers 6.0.0rc1 is newer than 5.24.0, the newest that was tried. If something of it \
    fails, run: pip install 'transformers<=5.24.0'
    """
    return [
        f"{name} {found} is newer than {tried}, the newest that was tried. If something of it "
        f"fails, run: pip install '{name}<={tried}'"
        for name, tried in TRIED.items()
        if (found := versions.get(name)) and _release(found) > _release(tried)
    ]


def _release(version: str) -> tuple[int, ...]:
    return tuple(map(int, re.findall(r"\d+", re.match(r"[\d.]*", version)[0])))


def missing_packages(versions: Mapping[str, str]) -> dict[str, str]:
    """Distributions that must be there and are not -> what brings them.

    Those of the extra `train` must all be there or none; another build of TensorFlow counts.

    >>> missing_packages(dict.fromkeys([*REQUIRED_PACKAGES, *TRAIN_PACKAGES[:-1]], "1.0"))
    {'clu': "'hyperdecoders_jax[train]'"}
    """
    stand_ins = {names[0]: names for names in SHARED_FOLDERS.values()}

    def absent(names):
        candidates = {name: stand_ins.get(name, (name,)) for name in names}
        return [name for name, others in candidates.items() if versions.keys().isdisjoint(others)]

    missing = {name: name for name in absent(REQUIRED_PACKAGES)}
    of_train = absent(TRAIN_PACKAGES)
    if len(of_train) < len(TRAIN_PACKAGES):
        missing |= dict.fromkeys(of_train, "'hyperdecoders_jax[train]'")
    return missing


def device_lines() -> list[str]:
    """One line a device, with its memory where the backend tells."""
    import jax

    lines = []
    for device in jax.devices():
        stats = device.memory_stats() or {}
        limit, used = stats.get("bytes_limit"), stats.get("bytes_in_use", 0)
        memory = f", {_gib(limit - used)} of {_gib(limit)} free" if limit else ""
        lines.append(f"{device.platform} {device.id}: {device.device_kind}{memory}")
    return lines


def free_memory_bytes() -> int | None:
    """Bytes of main memory that a new process may use, or None where the system does not tell."""
    with contextlib.suppress(OSError), open("/proc/meminfo", encoding="ascii") as lines:
        for line in lines:
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    return None


def _gib(num_bytes: int | None) -> str:
    return "unknown" if num_bytes is None else f"{num_bytes / 2**30:.1f} GiB"


def report(folders: Sequence[str] = (".",)) -> int:
    """Prints the report, with folders' free disk space; 1 if something must be repaired, else 0."""
    versions = installed_versions()
    print("Versions")
    lacking = dict.fromkeys(REQUIRED_PACKAGES, "not installed")
    lacking |= dict.fromkeys(TRAIN_PACKAGES, "not installed (extra train)")
    lacking |= dict.fromkeys(OPTIONAL_PACKAGES, "not installed (optional)")
    found = [(name, versions.get(normalised(name), status)) for name, status in lacking.items()]
    python = ("python", f"{platform.python_version()} ({sys.executable})")
    # Not by metadata: a clone that is not installed runs, too, and hides what is installed.
    own = ("hyperdecoders_jax", f"{files.VERSION} ({os.path.dirname(files.__file__)})")
    for name, status in (python, own, *found, *t5x_install.status_lines()):
        print(f"  {name:22} {status}")

    problems = find_conflicts(versions) + t5x_install.problems()
    absent = missing_packages(versions).items()
    problems += [f"{name} must be installed. Run: pip install {source}" for name, source in absent]

    print("Devices")
    try:
        for line in device_lines():
            print(f"  {line}")
        if (unused := accelerators.unused()) is not None:
            if accelerators.is_cpu_chosen():
                print(f"  {unused}")
            else:
                problems.append(unused)
    except Exception as error:  # Any failure of a backend is what the report is for.
        problems.append(
            f"jax must find a device; it found none: {error}. Check JAX_PLATFORMS and drivers."
        )

    print("Free")
    print(f"  memory  {_gib(free_memory_bytes())}")
    for folder in folders:
        print(f"  disk    {_gib(shutil.disk_usage(folder).free)} in {os.path.abspath(folder)}")

    if untried := find_untried(versions):
        print("Not tried")
        for line in untried:
            print(f"  {line}")
    print("Conflicts")
    for problem in problems or ["none"]:
        print(f"  {problem}")
    return 1 if problems else 0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's flags."""
    parser.epilog = "Exits with 1 if a conflict is found."


def run(args: argparse.Namespace, gin_flags: Sequence[tuple[str, str]]) -> int:
    """Runs the command; returns its exit code."""
    return report()


if __name__ == "__main__":
    main.leave(main.main(["doctor", *sys.argv[1:]]))
