import json
import pathlib

import jax
import numpy as np
import pytest

from tests.parity import check

GOLDENS = pathlib.Path(__file__).parents[1] / "goldens"


@pytest.fixture
def with_optimizations():
    """As users compile, and `python -m tests.parity.check`: the tolerances are of such programs.

    Without, sums are rounded in an order that takes a gradient beyond them on some processors.
    """
    name = "jax_disable_most_optimizations"
    given = jax.config.values[name]
    jax.config.update(name, False)
    yield
    jax.config.update(name, given)


@pytest.mark.parametrize("name", sorted(path.stem for path in GOLDENS.glob("*.npz")))
def test_numbers_equal_the_originals(name, with_optimizations):
    deviations, lacking = check.compare(GOLDENS / f"{name}.npz")
    assert not lacking
    assert len(deviations) > 20
    assert not [deviation for deviation in deviations if not deviation.is_within]


def test_check_exits_with_1_beyond_tolerance(tmp_path, capsys):
    golden = dict(np.load(GOLDENS / "none_none.npz"))
    golden["out.loss"] = golden["out.loss"] + np.float32(1e-4)
    np.savez(tmp_path / "off.npz", **golden)
    assert check.main([str(GOLDENS / "none_none.npz")]) == 0
    assert check.main([str(tmp_path / "off.npz")]) == 1
    assert "BEYOND TOLERANCE" in capsys.readouterr().out


def test_check_goes_on_without_a_key_and_tells_it_at_the_end(tmp_path, capsys):
    golden = dict(np.load(GOLDENS / "none_none.npz"))
    del golden["out.beam4"], golden["out.logits"]
    np.savez(tmp_path / "less.npz", **golden)
    del golden["meta"]
    np.savez(tmp_path / "bare.npz", **golden)
    assert check.main([str(tmp_path / "bare.npz"), str(tmp_path / "less.npz")]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert any(line.startswith("  greedy tokens that differ") for line in lines)
    told = [line for line in lines if line.startswith("NOT COMPARED")]
    assert ["meta" in told[0], "out.logits" in told[1], "out.beam4" in told[2]] == [True] * 3
    assert lines[-1] == "all within tolerance"


def test_a_state_of_another_configuration_is_refused():
    golden = np.load(GOLDENS / "manual_generated.npz")
    state = {k[2:]: golden[k] for k in golden.files if k.startswith("w.")}
    config = check.config_from_meta(json.loads(bytes(golden["meta"])))
    del state["decoder.param_gen.decoder.linear1.bias"]
    state["decoder.mlp.0.weight"] = np.zeros((16, 16))
    with pytest.raises(ValueError, match=r"missing: .*linear1\.bias.*unexpected: .*mlp\.0"):
        check.params_from_state(state, config)
