"""Accelerators that a machine has, whether or not JAX can use them."""

from __future__ import annotations

import glob
import os
import sys

# Google's number among makers of PCI devices, and its TPUs among its devices (v3 to 7x).
_GOOGLE = "0x1ae0"
_TPUS = ("0x0027", "0x0056", "0x005e", "0x0062", "0x0063", "0x006f", "0x0076")
_TPU_DEVICES = "dev/accel[0-9]*"  # `dev/accel/` is of NPUs.
_TPU_VARIABLES = ("TPU_ACCELERATOR_TYPE", "TPU_WORKER_ID", "TPU_NAME")  # Of a TPU VM or a pod.
# Containers without a GPU see its driver under proc/, and each WSL2 has a dev/dxg.
_GPU_DEVICES = "dev/nvidia[0-9]*"


def find(root: str = "/") -> dict[str, str]:
    """Kind of accelerator, "TPU" or "GPU", to the sign that this machine has one."""
    found = {}
    for vendor in glob.glob(os.path.join(root, "sys/bus/pci/devices/*/vendor")):
        folder = os.path.dirname(vendor)
        ids = tuple(_read(os.path.join(folder, name)) for name in ("vendor", "device"))
        if ids[0] == _GOOGLE and ids[1] in _TPUS:
            found["TPU"] = f"PCI device {os.path.basename(folder)}"
    for kind, pattern in (("TPU", _TPU_DEVICES), ("GPU", _GPU_DEVICES)):
        for path in sorted(glob.glob(os.path.join(root, pattern)))[:1]:
            found.setdefault(kind, path)
    for name in _TPU_VARIABLES:
        if os.environ.get(name):
            found.setdefault("TPU", f"${name}")
    return found


def is_cpu_chosen() -> bool:
    """Whether the user told JAX to compute on the CPU, or hid the GPUs of a machine without TPU."""
    is_hidden = _is_gpu_hidden() and "TPU" not in find()
    return is_hidden or os.environ.get("JAX_PLATFORMS") == "cpu"


def unused(root: str = "/") -> str | None:
    """What to tell where a machine has an accelerator and JAX computes on the CPU; else None."""
    import jax

    found = find(root)
    if not found or jax.default_backend() != "cpu":
        return None
    kind, sign = next(iter(found.items()))
    if os.environ.get("JAX_PLATFORMS") == "cpu":
        how = "JAX_PLATFORMS=cpu says so: unset it"
    elif kind == "GPU" and _is_gpu_hidden():
        how = "CUDA_VISIBLE_DEVICES hides it: unset it"
    elif kind == "TPU":
        how = "Run: pip install -U 'jax[tpu]'; and end other processes that hold the TPU"
    else:
        how = "Run: pip install -U 'jax[cuda12]'; and see that nvidia-smi lists the GPU"
    return (
        f"jax must compute on this machine's {kind}; it found none that it can use and computes on "
        f"the CPU, though there is {sign}. {how}."
    )


def warn_if_unused() -> None:
    """Prints a warning between lines, so that nobody overlooks it, where JAX uses the CPU alone."""
    if (told := unused()) is not None:
        line = "!" * 88
        print(f"{line}\nWARNING: {told}\n{line}", file=sys.stderr, flush=True)


def _is_gpu_hidden() -> bool:
    return os.environ.get("CUDA_VISIBLE_DEVICES") in ("", "-1")


def _read(path: str) -> str:
    try:
        with open(path, encoding="ascii") as file:
            return file.read().strip()
    except OSError:
        return ""
