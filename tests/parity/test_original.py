import json
import pathlib

import numpy as np
import pytest

from tests.parity import check

GOLDENS = pathlib.Path(__file__).parents[1] / "goldens"


@pytest.mark.parametrize("name", sorted(path.stem for path in GOLDENS.glob("*.npz")))
def test_numbers_equal_the_originals(name):
    deviations = check.compare(GOLDENS / f"{name}.npz")
    assert len(deviations) > 20
    assert not [deviation for deviation in deviations if not deviation.is_within]


def test_check_exits_with_1_beyond_tolerance(tmp_path, capsys):
    golden = dict(np.load(GOLDENS / "none_none.npz"))
    golden["out.loss"] = golden["out.loss"] + np.float32(1e-4)
    np.savez(tmp_path / "off.npz", **golden)
    assert check.main([str(GOLDENS / "none_none.npz")]) == 0
    assert check.main([str(tmp_path / "off.npz")]) == 1
    assert "BEYOND TOLERANCE" in capsys.readouterr().out


def test_a_state_of_another_configuration_is_refused():
    golden = np.load(GOLDENS / "manual_generated.npz")
    state = {k[2:]: golden[k] for k in golden.files if k.startswith("w.")}
    config = check.config_from_meta(json.loads(bytes(golden["meta"])))
    del state["decoder.param_gen.decoder.linear1.bias"]
    state["decoder.mlp.0.weight"] = np.zeros((16, 16))
    with pytest.raises(ValueError, match=r"missing: .*linear1\.bias.*unexpected: .*mlp\.0"):
        check.params_from_state(state, config)
