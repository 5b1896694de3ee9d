import importlib.metadata
import importlib.util
import os

import pytest

from hyperdecoders_jax.planning import chips


def test_an_unknown_chip_is_told_with_those_that_are_known():
    message = (
        r"must be named by its chip and shape, such as v5e:2x2, v5p:2x2x1, v6e:2x2; got 'v6x:2x2'\."
        r" Did you mean 'v6e'\? Correct it\."
    )
    with pytest.raises(ValueError, match=message):
        chips.devices("v6x:2x2")


def test_without_the_compiler_it_is_told_what_to_install(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    message = r"needs its compiler, libtpu; it is not installed here\. Run: pip install 'hyper"
    with pytest.raises(ImportError, match=message):
        chips.devices("v5e:2x2")


def test_a_compiler_of_another_jax_is_told(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: True)
    monkeypatch.setattr(importlib.metadata, "version", {"libtpu": "0.0.52"}.get)
    asked = {"jax": ["numpy>=2", 'libtpu==0.0.52.*; extra == "tpu"']}
    monkeypatch.setattr(importlib.metadata, "requires", asked.get)
    chips._check_compiler()  # 0.0.52 is one of 0.0.52.*.
    asked["jax"][1] = 'libtpu==0.0.42.*; extra == "tpu"'
    message = r"that JAX asks for, libtpu 0\.0\.42\.\*; got 0\.0\.52\. Run: pip install 'libtpu=="
    with pytest.raises(ImportError, match=message):
        chips.devices("v5e:2x2")


@pytest.mark.skipif(importlib.util.find_spec("libtpu") is None, reason="needs the TPU compiler")
def test_slices_are_described_and_the_environment_stays_as_it_was():
    before = dict(os.environ)
    found = chips.devices("v5e:2x4")
    assert [device.device_kind for device in found] == ["TPU v5 lite"] * 8
    assert [len(chips.devices(name)) for name in ("v5e:1x1", "v6e:1x1")] == [1, 1]
    with pytest.raises(ValueError, match=r"such as v5e:2x2, .*; got 'v5e:3x3' \(Topology layout"):
        chips.devices("v5e:3x3")
    assert dict(os.environ) == before
