"""What the README shows is what runs."""

import json
import pathlib
import re

import gin
import pytest

from hyperdecoders_jax.config import gin_binding, gin_files
from hyperdecoders_jax.data import vocabulary
from hyperdecoders_jax.model import Model
from hyperdecoders_jax.weights import arrays, exported_folder, names, trained_model
from tests import tiny
from tests.modeling import own_source

README = pathlib.Path(__file__).parents[2] / "README.md"


def code_block(holding, language="python"):
    blocks = re.findall(rf"```{language}\n(.*?)```", README.read_text(), flags=re.DOTALL)
    (block,) = [block for block in blocks if holding in block]
    return block


def test_the_adapter_source_of_the_readme_is_the_one_that_is_tested():
    assert code_block('register("mixed")') == pathlib.Path(own_source.__file__).read_text()


def test_the_task_of_the_readme_runs(tmp_path, monkeypatch):
    seqio = pytest.importorskip("seqio")
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


def test_the_mixture_of_the_readme_is_made(tmp_path):
    seqio = pytest.importorskip("seqio")
    from hyperdecoders_jax.data import mixtures
    from hyperdecoders_jax.tasks import glue  # noqa: F401 (it registers the tasks)

    path = tmp_path / "my_mixture.gin"
    path.write_text(code_block("mixing.mixture:", "gin"))
    experiment = "experiments/glue/glue_manual_generated.gin"
    files = ["runs/embedded/train.gin", experiment, str(path)]
    flags = ["MODEL_DIR = '/nowhere'", "INITIAL_CHECKPOINT_PATH = None"]
    try:
        gin_binding.parse(gin_files.read(files, flags))
        macro = gin.query_parameter("MIXTURE_OR_TASK_NAME/gin.macro.value")
        mixture = macro.scoped_configurable_fn()
    finally:
        gin.clear_config()
    names = ("glue_cola_v200", "glue_qnli_v200", "glue_rte_v200")
    assert mixtures.resolve_task_names(mixture) == names
    assert not any(task is seqio.TaskRegistry.get(task.name) for task in mixture.tasks)


def test_the_run_of_the_readme_trains_and_predicts(tmp_path, monkeypatch, capsys):
    config = tiny.make_config("none", "none", vocab_size=384)
    flat = arrays.in_memory(names.flatten(tiny.make_params(Model(config))))
    (tmp_path / "t5").mkdir()
    description = trained_model.Description(config)
    exported_folder.write_weights(tmp_path / "t5", description, flat, ["safetensors"])
    byt5 = {"tokenizer_class": "ByT5Tokenizer", "extra_ids": 125}
    (tmp_path / "t5" / "tokenizer_config.json").write_text(json.dumps(byt5))
    for name in ("mail", "dev"):
        (tmp_path / f"{name}.jsonl").write_text('{"text": "Win!", "label": "spam"}\n' * 4)
    monkeypatch.chdir(tmp_path)
    code = code_block("RunConfig")
    smaller = {"num_train_steps=1000": "num_train_steps=2", "batch_size=32": "batch_size=4"}
    for setting, small in smaller.items():
        assert setting in code
        code = code.replace(setting, small)
    try:
        exec(code, {})
    finally:
        vocabulary.set_run_vocabulary(None)
    assert (tmp_path / "mail_run" / "config.json").exists()
    assert not (tmp_path / "mail_run" / "config.gin").exists()
    assert capsys.readouterr().out.splitlines()[-1].startswith("['")
