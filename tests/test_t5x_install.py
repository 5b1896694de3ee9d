import subprocess
import sys

import pytest

from hyperdecoders_jax import t5x_install

WITHOUT_T5X = """
import importlib.util
find_spec = importlib.util.find_spec
importlib.util.find_spec = lambda name, *rest: None if name in {names} else find_spec(name, *rest)
import hyperdecoders_jax
import {module}
"""


@pytest.mark.parametrize("module", ["hyperdecoders_jax.t5x", "hyperdecoders_jax.t5x.model"])
def test_its_modules_say_how_to_install_t5x_where_it_is_missing(module):
    code = WITHOUT_T5X.format(names=list(t5x_install.SOURCES), module=module)
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd="/", timeout=60
    )
    assert "ImportError: hyperdecoders_jax.t5x needs t5x, airio, jestimator" in result.stderr
    for command in t5x_install.commands():
        assert command in result.stderr


def test_what_is_missing_is_named(monkeypatch):
    there = {"t5x", "jestimator"}
    monkeypatch.setattr("importlib.util.find_spec", lambda name: name if name in there else None)
    with pytest.raises(ImportError, match=r"; airio cannot be imported.*folder run: pip install"):
        t5x_install.check()
