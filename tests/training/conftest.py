"""Compiles the tiny programs of these tests without XLA's slow passes, and each only once."""

import jax
import pytest
from jax.experimental import compilation_cache


@pytest.fixture(autouse=True, scope="package")
def quick_compilation(tmp_path_factory):
    options = {
        "jax_disable_most_optimizations": True,
        "jax_compilation_cache_dir": str(tmp_path_factory.mktemp("xla")),
        "jax_persistent_cache_min_compile_time_secs": 0.0,
    }
    before = {name: jax.config.values[name] for name in options}
    for name, value in options.items():
        jax.config.update(name, value)
    yield
    for name, value in before.items():
        jax.config.update(name, value)
    compilation_cache.compilation_cache.reset_cache()
