"""The model's code in an export: what it holds, and the same numbers without this package."""

import ast
import json
import subprocess
import sys

import numpy as np
import pytest

from hyperdecoders_jax import errors
from hyperdecoders_jax.hub import remote_code
from tests import tiny
from tests.modeling import own_source  # noqa: F401 (registers "mixed")

# Python of a user of an export: transformers has no Flax, and nothing of ours can be imported.
WITHOUT_US = """
import json, os, sys
os.environ["USE_FLAX"] = "0"
import numpy as np, torch
from transformers import AutoModelForSeq2SeqLM
sys.modules |= dict.fromkeys(("hyperdecoders_jax", "jax", "jaxtyping", "etils", "flax"))
for folder in sys.argv[1:]:
    model = AutoModelForSeq2SeqLM.from_pretrained(folder, trust_remote_code=True)
    given = {name: torch.tensor(x) for name, x in json.load(open(f"{folder}/given.json")).items()}
    tokens = model.generate(given["input_ids"], task_ids=given["task_ids"], num_beams=3,
                            num_return_sequences=1, max_new_tokens=6)
    with torch.no_grad():
        logits = model(**given).logits.numpy()
    np.savez(f"{folder}/found.npz", logits=logits, tokens=tokens.numpy())
    model.save_pretrained(f"{folder}/saved")
"""


def test_the_file_needs_pytorch_and_transformers_alone():
    tree = ast.parse(remote_code.render())
    found = {
        alias.name.partition(".")[0]
        for node in ast.walk(tree)
        if isinstance(node, ast.Import | ast.ImportFrom)
        for alias in ([ast.alias(node.module)] if isinstance(node, ast.ImportFrom) else node.names)
    }
    assert found - sys.stdlib_module_names == {"numpy", "torch", "transformers"}
    bound = []
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            bound.append(node.name)
        for target in getattr(node, "targets", [getattr(node, "target", None)]):
            bound += [x.id for x in ast.walk(target) if isinstance(x, ast.Name)] if target else []
        if isinstance(node, ast.Import | ast.ImportFrom):
            bound += [alias.asname or alias.name for alias in node.names]
    assert len(bound) == len(set(bound))
    assert {x.partition(".")[2] for x in remote_code.AUTO_MAP.values()} <= set(bound)


def test_what_a_file_without_this_package_cannot_have_is_refused(monkeypatch):
    libraries = remote_code._LIBRARIES
    monkeypatch.setattr(remote_code, "_LIBRARIES", libraries - {"torch"})
    with pytest.raises(ValueError, match=r"must import numpy, transformers .*of torch"):
        remote_code.render()
    with pytest.raises(
        ValueError, match=r"must be one statement a name; m has X\['a'\] = 1 in line"
    ):
        remote_code._refuse("m", ast.parse("X['a'] = 1").body[0])
    function = ast.parse("def f(make): return make").body[0]
    with pytest.raises(ValueError, match="must not have the name of what is renamed"):
        list(remote_code._positions(function, {"make"}))


def test_an_export_that_cannot_use_the_code_is_told():
    adapted, plain = tiny.make_config("manual", "generated"), tiny.make_config("none", "none")
    with pytest.raises(errors.UsageError, match=r"needs --format=safetensors; got --format=flax"):
        remote_code.check(adapted, ["flax"])
    with pytest.raises(errors.UsageError, match="a plain T5, whose code transformers has"):
        remote_code.check(plain, ["safetensors"])
    own = tiny.make_config("none", "mixed")
    with pytest.raises(errors.UsageError, match="this model's is 'mixed'"):
        remote_code.check(own, ["safetensors"])
    remote_code.check(adapted, ["flax", "safetensors"])


@pytest.mark.torch
def test_models_are_the_same_without_this_package(tmp_path):
    pytest.importorskip("torch", reason="PyTorch is not installed")
    pytest.importorskip("transformers")
    from tests.hub import test_torch_hyperdecoder as shared

    folders, given = {}, {}
    batch = shared.make_batch()
    for number, (name, config) in enumerate(shared.MODELS.items()):
        (folder := tmp_path / f"{number}").mkdir()
        folders[name] = folder
        fields = {"auto_map": remote_code.AUTO_MAP}
        shared.write(folder, config, shared.OF_TEXTS, other_fields=fields)
        (folder / remote_code.FILE).write_text(remote_code.render(), encoding="utf-8")
        given = shared.inputs_of(batch)
        given["decoder_input_ids"] = shared.tensor(batch.decoder_input_tokens)
        text = json.dumps({key: value.tolist() for key, value in given.items()})
        (folder / "given.json").write_text(text)
    line = [sys.executable, "-c", WITHOUT_US, *map(str, folders.values())]
    subprocess.run(line, check=True, cwd=tmp_path, env={"HF_HOME": str(tmp_path / "cache")})
    for folder in folders.values():
        ours, found = shared.load(folder), np.load(folder / "found.npz")
        np.testing.assert_array_equal(found["logits"], shared.logits_of(ours, batch))
        tokens = ours.generate(
            given["input_ids"], task_ids=given["task_ids"], num_beams=3, max_new_tokens=6
        )
        np.testing.assert_array_equal(found["tokens"], tokens)
        # transformers saves the code with a model that has it.
        again = shared.logits_of(shared.load(folder / "saved"), batch)
        np.testing.assert_array_equal(found["logits"], again)
        assert (folder / "saved" / remote_code.FILE).exists()
        # Classes of this package save no code, and none is named.
        ours.save_pretrained(folder / "ours")
        assert "auto_map" not in json.loads((folder / "ours/config.json").read_text())
