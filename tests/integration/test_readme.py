"""Every Python and gin block of README.md and docs/ runs; test_docs.py checks their shell."""

import json
import pathlib
import re
from unittest import mock

import gin
import pytest

import hyperdecoders_jax
from hyperdecoders_jax.commands import compare, main
from hyperdecoders_jax.config import gin_binding, gin_files
from hyperdecoders_jax.data import vocabulary
from hyperdecoders_jax.model import Model
from hyperdecoders_jax.weights import arrays, exported_folder, names, trained_model
from tests import tiny
from tests.modeling import own_source

ROOT = pathlib.Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "tasks/README.md", *sorted(ROOT.glob("docs/*.md"))]
# What each tested block holds and no other does, by its language.
TESTED = {
    "python": {
        'register("mixed")',
        "seqio.TaskRegistry.add",
        "hyperdecoders_jax.RunConfig(",
        "hyperdecoders_jax.compare(",
        'load("words")',
        'load("demo_adapters")',
        "FlaxHyperdecoderForConditionalGeneration",
        "import HyperdecoderForConditionalGeneration",
        "trust_remote_code=True",
    },
    # The second: tests/commands/test_own_source.py.
    "gin": {"mixing.mixture:", "my_adapters.MixedOptions"},
}


def blocks_of(language):
    """Each block of that language, once, though several pages may show it."""
    texts = [page.read_text(encoding="utf-8") for page in PAGES]
    pattern = rf"^```{language}\n(.*?)^```"
    return list(dict.fromkeys(x for text in texts for x in re.findall(pattern, text, re.S | re.M)))


def code_block(holding, language="python"):
    assert holding in TESTED[language]
    (block,) = [block for block in blocks_of(language) if holding in block]
    return block


def test_every_block_is_tested_here():
    languages = {
        language
        for page in PAGES
        for language in re.findall(r"^ *```(\w+)$", page.read_text(encoding="utf-8"), re.M)
    }
    assert languages - {"sh", "bibtex"} == set(TESTED)
    for language, tested in TESTED.items():
        for block in blocks_of(language):
            assert len([holding for holding in tested if holding in block]) == 1, block


def test_the_adapter_source_of_the_readme_is_the_one_that_is_tested():
    assert code_block('register("mixed")') == pathlib.Path(own_source.__file__).read_text()


def test_the_task_of_the_readme_runs(tmp_path, monkeypatch):
    seqio = pytest.importorskip("seqio")
    for name in ("train", "dev"):
        (tmp_path / f"{name}.jsonl").write_text('{"text": "Win!", "label": "spam"}\n')
    monkeypatch.chdir(tmp_path)
    vocabulary.set_run_vocabulary(vocabulary.load_vocabulary(vocabulary.DEMO_VOCABULARY_PATH))
    try:
        exec(code_block("seqio.TaskRegistry.add"), {})
        (example,) = seqio.get_mixture_or_task("mail").get_dataset(split="validation")
        assert example["inputs_pretokenized"].numpy() == b"mail: Win!"
        assert example["targets_pretokenized"].numpy() == b"spam"
    finally:
        seqio.TaskRegistry.remove("mail")


def test_the_comparison_of_the_pages_is_a_call(monkeypatch):
    called = mock.create_autospec(compare.compare)
    monkeypatch.setattr(compare, "compare", called)
    names = {"hyperdecoders_jax": hyperdecoders_jax, "run": "a", "other": "b"}
    exec(code_block("hyperdecoders_jax.compare("), names)
    methods = {"adapter": "a", "hyperdecoder": "b"}
    called.assert_called_once_with(methods, "my_comparison", (1, 2, 3))


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


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A folder with `mail_run`, which the block with RunConfig trained."""
    folder = tmp_path_factory.mktemp("readme")
    sizes = dict(num_encoder_layers=1, num_decoder_layers=1)
    config = tiny.make_config("none", "none", vocab_size=384, **sizes)
    flat = arrays.in_memory(names.flatten(tiny.make_params(Model(config))))
    (folder / "t5").mkdir()
    description = trained_model.Description(config)
    exported_folder.write_weights(folder / "t5", description, flat, ["safetensors"])
    byt5 = {"tokenizer_class": "ByT5Tokenizer", "extra_ids": 125}
    (folder / "t5" / "tokenizer_config.json").write_text(json.dumps(byt5))
    for name in ("mail", "dev"):
        (folder / f"{name}.jsonl").write_text('{"text": "Win!", "label": "spam"}\n' * 4)
    code = code_block("hyperdecoders_jax.RunConfig(")
    smaller = {"num_train_steps=1000": "num_train_steps=2", "batch_size=32": "batch_size=4"}
    for setting, small in smaller.items():
        assert setting in code
        code = code.replace(setting, small)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        try:
            exec(code, {})
        finally:
            vocabulary.set_run_vocabulary(None)
    return folder


def test_the_run_of_the_readme_trains_and_predicts(trained):
    assert (trained / "mail_run" / "config.json").exists()
    assert not (trained / "mail_run" / "config.gin").exists()


@pytest.mark.parametrize("name", ["words", "demo_adapters"])
def test_a_folder_is_loaded_and_predicts(name, trained, monkeypatch, capsys):
    monkeypatch.chdir(trained)
    if name == "demo_adapters":
        convert = ["convert", "--from=run:mail_run", f"--to=adapters:{name}"]
        assert main.main(convert) == 0
    else:
        (trained / name).symlink_to("mail_run")
    exec(code_block(f'load("{name}")'), {})
    assert capsys.readouterr().out.splitlines()[-1].startswith("['")


@pytest.fixture(scope="module")
def exported(trained):
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(trained)  # The run names its T5 from there.
        flags = ["--checkpoint=mail_run", "--output=demo_export", "--format=flax,safetensors"]
        assert main.main(["export", *flags, "--with_code"]) == 0
    return trained


@pytest.mark.parametrize(
    "holding",
    [
        "FlaxHyperdecoderForConditionalGeneration",
        pytest.param("import HyperdecoderForConditionalGeneration", marks=pytest.mark.torch),
        pytest.param("trust_remote_code=True", marks=pytest.mark.torch),
    ],
)
def test_an_export_is_loaded_and_predicts(holding, exported, monkeypatch, capsys):
    if "Flax" not in holding:
        pytest.importorskip("torch")
        # Where transformers puts the code that comes with a model.
        cache = "transformers.dynamic_module_utils.HF_MODULES_CACHE"
        monkeypatch.setattr(cache, str(exported / "modules"))
    monkeypatch.chdir(exported)
    exec(code_block(holding), {})
    assert capsys.readouterr().out.splitlines()[-1].startswith("['")
