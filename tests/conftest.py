"""Settings of every test run, and the rule that a run may skip nothing but what it cannot have."""

import gc
import importlib.util
import mmap
import os
import pathlib
import shutil
import sys
import tempfile
from collections.abc import Sequence

import hypothesis
import pytest

from tests import warm_python

# A busy machine is slow, not wrong.
hypothesis.settings.register_profile("no_deadline", deadline=None)
hypothesis.settings.load_profile("no_deadline")

# Tracing makes millions of small objects that live on in caches: a tenth of the time would go into
# looking at them for garbage.
gc.set_threshold(100_000, 20, 20)


def pytest_collection_finish():
    """What was imported stays; nobody need look at its millions of objects again."""
    gc.collect()
    gc.freeze()


# Before any test imports jax: CPU unless the caller says otherwise, and full precision, so that
# tolerances mean the same on every machine.
os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.pop("COMPILATION_CACHE_DIR", None)  # See _COMPILED.
os.environ.setdefault("JAX_DEFAULT_MATMUL_PRECISION", "highest")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")

# Most of the suite's time would go into compiling tiny programs, which run for microseconds. These
# make compiling four times faster; they change XLA's code, not our programs. What the code is like
# with XLA's optimizations is measured by benchmarks/, `make demo` and
# `python -m tests.parity.check`, which set none of them.
os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")
# To write into each program which lines of Python made it takes time, and no test reads them.
os.environ.setdefault("JAX_TRACEBACK_IN_LOCATIONS_LIMIT", "0")
FAST_COMPILING = {
    "xla_cpu_use_fusion_emitters": "false",
    "xla_cpu_parallel_codegen_split_count": "1",  # Each worker has its core.
}


def _known_xla_flags(names: Sequence[str]) -> list[str]:
    """The flags that jaxlib knows: one that it does not know ends the process."""
    spec = importlib.util.find_spec("jaxlib")
    known = []
    for path in pathlib.Path(spec.submodule_search_locations[0]).glob("libjax_common*"):
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as text:
            # A flag's name ends with a zero; later releases keep the names of flags that are gone.
            known += [name for name in names if text.find(name.encode() + b"\0") >= 0]
    return known


_given = os.environ.get("XLA_FLAGS", "")
for _name in _known_xla_flags([name for name in FAST_COMPILING if name not in _given]):
    _given = f"{_given} --{_name}={FAST_COMPILING[_name]}".strip()
os.environ["XLA_FLAGS"] = _given

# The same programs are compiled by many tests; one folder, new for each session, keeps them for all
# workers (which inherit the variable) and subprocesses.
_COMPILED = None
if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
    _COMPILED = tempfile.mkdtemp(prefix="hyperdecoders_jax_compiled_")
    os.environ["JAX_COMPILATION_CACHE_DIR"] = _COMPILED
    os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
    os.environ["JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES"] = "-1"

# One for all workers, which inherit where it is.
_WARM_PYTHON = None
if warm_python.SERVER not in os.environ:
    _WARM_FOLDER = tempfile.mkdtemp(prefix="hyperdecoders_jax_")
    _WARM_PYTHON = warm_python.start_server(_WARM_FOLDER)

# A reason to skip must name one of these; anything else hides a test that nobody runs.
ALLOWED_SKIPS = ("T5X", "PyTorch", "GPU", "GLUE's data", "browser", "TPU compiler")


def allowed(reason: str) -> bool:
    """Whether a skip for this reason is one that a machine cannot help."""
    words = reason.lower().replace("torch", "pytorch").replace("pypytorch", "pytorch")
    return any(name.lower() in words for name in ALLOWED_SKIPS)


def forbidden_skips(skipped) -> list[str]:
    """`test: reason` of each report whose reason is not allowed."""
    lines = []
    for report in skipped:
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        reason = reason.removeprefix("Skipped: ")
        if not allowed(reason):
            lines.append(f"{report.nodeid}: {reason}")
    return lines


def pytest_terminal_summary(terminalreporter):
    lines = forbidden_skips(terminalreporter.stats.get("skipped", []))
    if lines:
        terminalreporter.section("skips that are not allowed", red=True)
        terminalreporter.write_line(
            f"A test may skip only for a missing {', '.join(ALLOWED_SKIPS)} (named in the reason); "
            "these skip for something else. Install what they need, or make them pass without it."
        )
        for line in lines:
            terminalreporter.write_line(f"  {line}")


def pytest_sessionfinish(session, exitstatus):
    reporter = session.config.pluginmanager.getplugin("terminalreporter")
    if reporter and exitstatus == 0 and forbidden_skips(reporter.stats.get("skipped", [])):
        session.exitstatus = 1


# Each of their tests trains, or starts processes, so they go first: with `--dist loadfile` a long
# file that begins last would leave the other workers idle.
SLOW_FILES = (
    "tests/commands/test_train.py",
    "tests/training/test_many_devices.py",
    "tests/t5x/test_runs.py",
    "tests/t5x/test_devices.py",
    "tests/commands/test_export.py",
    "tests/commands/test_own_data.py",
    "tests/commands/test_main.py",
    "tests/commands/test_t5x_run.py",
    "tests/commands/test_analyze.py",
    "tests/commands/test_convert.py",
    "tests/contracts/test_learning.py",
    "tests/contracts/test_hypergrid.py",
    "tests/contracts/test_gin.py",
    "tests/trained/test_text_model.py",
    "tests/analysis/test_page.py",
    "tests/training/test_trainer.py",
)


def pytest_collection_modifyitems(items):
    rank = {file: number for number, file in enumerate(SLOW_FILES)}
    items.sort(key=lambda item: rank.get(item.nodeid.split("::")[0], len(rank)))


@pytest.fixture
def forget_configuration():
    """What gin and the vocabulary were set to by a test's commands is not there for the next."""
    yield
    if gin := sys.modules.get("gin"):
        gin.clear_config()
    if vocabulary := sys.modules.get("hyperdecoders_jax.data.vocabulary"):
        vocabulary.set_run_vocabulary(None)


@pytest.fixture(autouse=True, scope="module")
def unset_run_vocabulary():
    """What a module's tests set is not there for the next module's in the same process."""
    yield
    vocabulary = sys.modules.get("hyperdecoders_jax.data.vocabulary")
    if vocabulary is not None:
        vocabulary.set_run_vocabulary(None)


def pytest_unconfigure():
    if _COMPILED is not None:
        shutil.rmtree(_COMPILED, ignore_errors=True)
    if _WARM_PYTHON is not None:
        _WARM_PYTHON.communicate()
        shutil.rmtree(_WARM_FOLDER, ignore_errors=True)
