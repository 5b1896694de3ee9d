"""What the README shows is what runs."""

import pathlib
import re

import jax
import jax.numpy as jnp
import pytest

from hyperdecoders_jax import model
from hyperdecoders_jax.modeling import adapter_sources, config
from tests import tiny

README = pathlib.Path(__file__).parents[2] / "README.md"


def code_block(holding):
    blocks = re.findall(r"```python\n(.*?)```", README.read_text(), flags=re.DOTALL)
    (block,) = [block for block in blocks if holding in block]
    return block


def test_the_adapter_source_of_the_readme_trains(monkeypatch):
    names = {**vars(adapter_sources), "jax": jax, "jnp": jnp}
    exec(code_block("class Scaled"), names)
    monkeypatch.setitem(adapter_sources.SOURCES, "scaled", names["Scaled"])
    monkeypatch.setattr(config, "SOURCES", (*config.SOURCES, "scaled"))
    tiny_model = model.Model(tiny.make_config("scaled", "scaled"))
    params = tiny.make_params(tiny_model)
    loss, gradients = jax.value_and_grad(lambda p: tiny_model.loss(p, tiny.make_batch())[0])(params)
    assert jnp.isfinite(loss)
    for side in ("encoder", "decoder"):
        assert jnp.any(gradients[f"{side}_adapters"]["scale"]["kernel"] != 0)


def test_the_task_of_the_readme_runs(tmp_path, monkeypatch):
    seqio = pytest.importorskip("seqio")
    from hyperdecoders_jax.data import vocabulary

    for name in ("train", "dev"):
        (tmp_path / f"{name}.jsonl").write_text('{"text": "Win!", "label": "spam"}\n')
    monkeypatch.chdir(tmp_path)
    vocabulary.set_run_vocabulary(vocabulary.load_vocabulary(vocabulary.DEMO_VOCABULARY_PATH))
    try:
        exec(code_block('"mail"'), {})
        (example,) = seqio.get_mixture_or_task("mail").get_dataset(split="validation")
        assert example["inputs_pretokenized"].numpy() == b"mail: Win!"
        assert example["targets_pretokenized"].numpy() == b"spam"
    finally:
        seqio.TaskRegistry.remove("mail")
