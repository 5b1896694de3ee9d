"""Settings of every test run, and the rule that a run may skip nothing but what it cannot have."""

import os
import shutil
import sys
import tempfile

import pytest

# Before any test imports jax: CPU unless the caller says otherwise, and full precision, so that
# tolerances mean the same on every machine.
os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("JAX_DEFAULT_MATMUL_PRECISION", "highest")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")

# Tests compile the same tiny programs again and again; one folder, new for each session, keeps them
# for all workers (which inherit the variable) and subprocesses.
_COMPILED = None
if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
    _COMPILED = tempfile.mkdtemp(prefix="hyperdecoders_jax_compiled_")
    os.environ["JAX_COMPILATION_CACHE_DIR"] = _COMPILED
    os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
    os.environ["JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES"] = "-1"

# A reason to skip must name one of these; anything else hides a test that nobody runs.
ALLOWED_SKIPS = ("T5X", "PyTorch", "GPU", "GLUE's data", "browser")


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


@pytest.fixture
def quick_compilation():
    """For tests whose time goes into compiling, and that are not about speed."""
    import jax

    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)


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
