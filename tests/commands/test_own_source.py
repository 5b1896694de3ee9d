"""An adapter source of one's own: registering it from a module is all that a run needs."""

import json
import os
import pathlib
import re
import shutil
import subprocess
import sys

import pytest

import hyperdecoders_jax
from hyperdecoders_jax.commands import main
from hyperdecoders_jax.modeling import adapter_sources, source_registry
from hyperdecoders_jax.weights import adapter_folder
from tests import warm_python
from tests.commands import test_train
from tests.modeling import own_source

MODULE = f"--module={own_source.__name__}"
SOURCE = "--gin.decoder/AdapterConfig.source=mixed"
TEXTS = ["topic: a pear", "topic: a kind of dog", "topic: walking"]


pytestmark = pytest.mark.usefixtures("forget_configuration")


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("mixed")
    arguments = test_train.train_arguments(folder / "run", TRAIN_STEPS=2)
    assert main.main([*arguments, MODULE, SOURCE]) == 0
    return folder


def convert(source, target):
    return main.main(["convert", f"--from={source}", f"--to={target}", MODULE])


def test_it_trains_and_its_adapters_are_loaded(trained):
    assert convert(f"run:{trained}/run", f"adapters:{trained}/adapters") == 0
    description, arrays = adapter_folder.read(trained / "adapters")
    assert description.model.decoder_adapter.options == own_source.MixedOptions()
    assert arrays["decoder_adapters/weights/kernel"].shape == (16, 4)
    of_run = hyperdecoders_jax.load(trained / "run")
    assert of_run.predict(TEXTS) == hyperdecoders_jax.load(trained / "adapters").predict(TEXTS)


def test_it_is_exported_and_loaded_again(trained):
    exported = trained / "exported"
    flags = [f"--checkpoint={trained}/run", f"--output={exported}", MODULE]
    assert main.main(["export", *flags]) == 0
    card = (exported / "README.md").read_text()
    assert "The decoder has adapters of the source `mixed`, which its own module registers." in card
    assert hyperdecoders_jax.load(exported).predict(TEXTS) == hyperdecoders_jax.load(
        trained / "run"
    ).predict(TEXTS)


def test_it_is_evaluated_and_predicts_lines(trained, capsys):
    assert main.main(["eval", f"--model_dir={trained}/run", MODULE]) == 0
    lines = trained / "lines.txt"
    lines.write_text("\n".join(TEXTS))
    capsys.readouterr()
    flags = [f"--checkpoint={trained}/run", f"--input={lines}", MODULE]
    assert main.main(["infer", *flags]) == 0
    assert len(capsys.readouterr().out.splitlines()) == len(TEXTS)


def test_the_originals_format_has_no_room_for_it(trained, capsys):
    assert convert(f"run:{trained}/run", f"original:{trained}/original") == 2
    assert "The original has the adapter sources ('none'," in capsys.readouterr().err


def test_a_folder_whose_source_is_not_registered_says_what_to_import(trained, monkeypatch):
    if not (trained / "adapters").exists():
        assert convert(f"run:{trained}/run", f"adapters:{trained}/adapters") == 0
    names = {name: x for name, x in source_registry._TRAITS.items() if name != "mixed"}
    monkeypatch.setattr(source_registry, "_TRAITS", names)
    with pytest.raises(ValueError, match=r"got 'mixed'\. .* the module that registers it is impor"):
        hyperdecoders_jax.load(trained / "adapters")


def test_a_gin_file_imports_its_module(tmp_path):
    # In a process of its own: here the name is registered by a module of another name.
    shutil.copy(own_source.__file__, tmp_path / "my_adapters.py")
    page = pathlib.Path(__file__).parents[2] / "docs" / "methods.md"
    (block,) = re.findall(r"```gin\n(.*?)```", page.read_text("utf-8"), re.S)
    (tmp_path / "mixed.gin").write_text(f"include 'experiments/demo_hyperdecoder.gin'\n{block}")
    flags = ["--gin_file=mixed.gin", "--gin.INITIAL_CHECKPOINT_PATH=None"]
    root = pathlib.Path(hyperdecoders_jax.__file__).parents[1]
    found = subprocess.run(
        [*warm_python.COMMAND, "-m", "hyperdecoders_jax.commands.main", "params", *flags],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": f"{root}"},
        capture_output=True,
        text=True,
    )
    assert found.returncode == 0, found.stderr
    assert "decoder_adapters" in found.stdout


@pytest.mark.t5x
def test_t5x_trains_it(tmp_path):
    pytest.importorskip("t5x")
    shutil.copy(own_source.__file__, tmp_path / "my_adapters.py")
    arguments = test_train.train_arguments(
        tmp_path / "run", TRAIN_STEPS=2, EVAL_PERIOD=2, CHECKPOINT_PERIOD=2
    )
    arguments += [SOURCE, "--runner=t5x", "--module=my_adapters"]
    found = subprocess.run(
        [sys.executable, "-m", "hyperdecoders_jax.commands.main", *arguments],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        capture_output=True,
        text=True,
    )
    assert found.returncode == 0, found.stderr[-3000:]
    assert convert(f"run:{tmp_path}/run", f"adapters:{tmp_path}/adapters") == 0
    fields = json.loads((tmp_path / "adapters/config.json").read_text())
    assert fields["model"]["decoder_adapter"]["options"] == {"num_sets": 4}
    assert len(hyperdecoders_jax.load(tmp_path / "adapters").predict(TEXTS)) == len(TEXTS)


def test_it_is_registered_once():
    assert adapter_sources.SOURCES["mixed"] is own_source.Mixed
