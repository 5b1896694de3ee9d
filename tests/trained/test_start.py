import jax
import numpy as np
import pytest

from hyperdecoders_jax.model import BACKBONE_KEYS, Model
from hyperdecoders_jax.trained import start
from hyperdecoders_jax.weights import adapter_folder, backbone, exported_folder, names
from tests import tiny
from tests.trained import test_text_model


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """A model that was trained on the tasks "cola" and "sst2", exported."""
    adapters, folder = (tmp_path_factory.mktemp(name) for name in ("adapters", "exported"))
    test_text_model.write_folder(adapters, "none", "task")
    description, stored = adapter_folder.read(adapters)
    exported_folder.write_weights(folder, description, stored)
    return folder, Model(description.model)


@pytest.mark.parametrize("names", [("sst2", "cola"), ("cola",), ("cola", "rte")])
def test_tasks_keep_the_numbers_that_they_were_trained_with(exported, names):
    folder, model = exported
    start.check_task_order(str(folder), model, ("cola", "sst2"))
    start.check_task_order(str(folder), model, ("cola", "sst2", "rte"))
    start.check_task_order(str(folder), Model(tiny.make_config()), names)
    start.check_task_order(None, model, names)
    with pytest.raises(
        ValueError, match=r"numbers them \('cola', 'sst2'\), and this run \('.*Set TA"
    ):
        start.check_task_order(str(folder), model, names)


def test_without_weights_everything_is_drawn_from_the_seed():
    model = Model(tiny.make_config())
    found = start.open_start(model, None, seed=3)
    assert (found.config, found.description.decoding) == (model.config, model.decoding)
    jax.tree.map(np.testing.assert_array_equal, found.params(), dict(model.init(jax.random.key(3))))
    assert start.source_of(None, 3) == "random weights of seed 3"


def test_what_no_file_holds_is_drawn_as_if_all_were(tmp_path, caplog):
    model = Model(tiny.make_config())
    stored = tiny.make_params(model)
    path = str(tmp_path / "t5.safetensors")
    backbone.save(path, stored, {})
    with caplog.at_level("INFO", logger="absl"):
        found = names.flatten(start.open_start(model, path, seed=3).params())
    drawn, stored = names.flatten(model.init(jax.random.key(3))), names.flatten(stored)
    for name, value in found.items():
        expected = stored if name.split("/")[0] in BACKBONE_KEYS else drawn
        np.testing.assert_array_equal(value, expected[name], err_msg=name)
    assert list(found) == list(names.flatten(model.param_shapes()))
    new = sum(x.size for name, x in drawn.items() if name.split("/")[0] not in BACKBONE_KEYS)
    assert f"Drew {new} new ones: ['decoder_adapters/" in caplog.text
    assert start.source_of(path, 3) == path
