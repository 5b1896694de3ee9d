"""The command `export`: folders that transformers loads, or an error and nothing of a folder."""

import ast
import dataclasses
import json
import pathlib
import resource
import signal
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from etils import epath
from safetensors import numpy as safetensors_numpy

from hyperdecoders_jax import files
from hyperdecoders_jax.commands import export, main
from hyperdecoders_jax.decoding.beam_search import BeamSearchConfig, T5XScoring
from hyperdecoders_jax.decoding.sampling import GreedyConfig
from hyperdecoders_jax.hub import remote_code
from hyperdecoders_jax.model import Model
from hyperdecoders_jax.modeling.config import HyperGridConfig
from hyperdecoders_jax.trained import text_model
from hyperdecoders_jax.weights import (
    adapter_folder,
    arrays,
    conversion,
    formats,
    names,
    trained_model,
)
from tests import tiny, warm_python
from tests.weights import test_conversion

DEMO_VOCABULARY = pathlib.Path(
    files.resolve("package://tasks/demo_data/demo.spiece.model")
).read_bytes()
# The demo's pieces and their sentinels, and a few rows more.
SIZES = dict(vocab_size=4016, mlp_dim=12, num_encoder_layers=1, num_decoder_layers=2)
LENGTHS = {"inputs": 9, "targets": 6}
TASKS = ("cola", "mrpc", "rte", "stsb")
FILES = [
    "README.md",
    "config.json",
    "flax_model.msgpack",
    "generation_config.json",
    "special_tokens_map.json",
    "spiece.model",
    "tokenizer.json",
    "tokenizer_config.json",
]
SHARED_GATES = dict(
    encoder_hypergrid=HyperGridConfig(2, 4, "GG"),
    decoder_hypergrid=HyperGridConfig(4, 2, "GG", kernels="both"),
)
GATES_OF_TASKS = dict(decoder_hypergrid=HyperGridConfig(2, 4, "L2", "task_embedding"))
GATES_OF_EXAMPLES = dict(decoder_hypergrid=HyperGridConfig(2, 4, "L2", "pooled"))


def write_trained(folder, encoder="none", decoder="none", decoding=None, **kw):
    """An adapter folder that holds a whole model, of numbers that bfloat16 rounds."""
    config = tiny.make_config(encoder, decoder, **SIZES, **kw)
    model = Model(config if config.reads_tasks else dataclasses.replace(config, num_tasks=None))
    flat = names.flatten(tiny.make_params(model))
    description = trained_model.Description(
        model=model.config,
        decoding=decoding or GreedyConfig(),
        backbone=None,
        vocabulary=trained_model.Vocabulary(DEMO_VOCABULARY, 7),
        task_names=TASKS if model.config.reads_tasks else (),
        task_feature_lengths=LENGTHS,
        step=11,
    )
    folder.mkdir()
    stored = arrays.in_memory({path: np.asarray(x) for path, x in flat.items()})
    adapter_folder.write(folder, description, stored)
    return folder


def run_export(checkpoint, output, *flags):
    return main.main(["export", f"--checkpoint={checkpoint}", f"--output={output}", *flags])


def names_in(folder):
    return sorted(path.name for path in folder.iterdir())


def test_adapted_models_come_back_as_they_were(tmp_path, capsys):
    source = write_trained(tmp_path / "trained", "manual", "task", **SHARED_GATES)
    assert run_export(source, tmp_path / "new/out", "--format=flax,safetensors") == 0
    assert names_in(tmp_path / "new/out") == sorted([*FILES, "model.safetensors"])
    out = capsys.readouterr().out
    assert f"Read {source}, step 11.\nloaded" in out
    assert "a Hyperdecoder for FlaxHyperdecoderForConditionalGeneration and HyperdecoderFor" in out
    before, after = (text_model.load(folder) for folder in (source, tmp_path / "new/out"))
    assert after.model == before.model
    for path, x in names.flatten(before.params).items():
        np.testing.assert_array_equal(x, names.flatten(after.params)[path], err_msg=path)
    assert after.task_names == before.task_names
    assert after.task_feature_lengths == before.task_feature_lengths
    text = "a pear <extra_id_3>."
    assert after.tokenizer.encode(text) == before.tokenizer.encode(text)
    # Once more, it is the same folder.
    (tmp_path / "new/out/README.md").rename(tmp_path / "card")
    assert run_export(tmp_path / "new/out", tmp_path / "again") == 0
    for name in set(FILES) - {"README.md"}:
        again = (tmp_path / "again" / name).read_bytes()
        assert again == (tmp_path / "new/out" / name).read_bytes(), name


PLAIN_FLAX = """
import json, logging, os, sys
os.environ.update(USE_TF="0", USE_TORCH="0")  # They take time to import.
import jax, jax.numpy as jnp, numpy as np, transformers
jax.config.update("jax_disable_most_optimizations", True)
from transformers.models.t5 import modeling_flax_t5
class Numpy:  # What jax 0.10 took away: jnp.clip's a_max.
    def __getattr__(self, name): return getattr(jnp, name)
    def clip(self, x, a_min=None, a_max=None): return jnp.clip(x, a_min, a_max)
modeling_flax_t5.jnp = Numpy()
said = []
handler = logging.Handler()
handler.emit = lambda record: said.append(record.getMessage())
transformers.logging.get_logger().addHandler(handler)
model = transformers.FlaxT5ForConditionalGeneration.from_pretrained(sys.argv[1])
tokenizer = transformers.AutoTokenizer.from_pretrained(sys.argv[1])
inputs = tokenizer(json.loads(sys.argv[2]), padding=True, return_tensors="np")
decoder_input_ids = np.array([[0, 5, 9]] * 2)
logits = jax.jit(lambda **x: model(**x).logits)(**inputs, decoder_input_ids=decoder_input_ids)
np.savez(sys.argv[3], logits=logits, **inputs)
assert not [text for text in said if "weights" in text], said
assert not [name for name in sys.modules if name.startswith("hyperdecoders_jax")]
"""


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    """A trained T5 with gates that all examples share, and its export."""
    folder = tmp_path_factory.mktemp("plain")
    source = write_trained(folder / "trained", **SHARED_GATES)
    assert run_export(source, folder / "out", "--format=flax,safetensors") == 0
    return source, folder / "out"


TEXTS = ["a pear .", "it walked past a tree"]


def our_logits(source, input_ids):
    loaded = text_model.load(source)
    batch = dataclasses.replace(
        tiny.make_batch(batch=2),
        encoder_input_tokens=jnp.asarray(input_ids),
        decoder_input_tokens=jnp.array([[0, 5, 9]] * 2),
    )
    return jax.jit(loaded.model.logits)(loaded.params, batch)


def test_a_plain_t5_needs_no_code_of_ours(plain, tmp_path):
    source, out = plain
    config = json.loads((out / "config.json").read_text())
    assert config["model_type"] == "t5"
    arguments = [str(out), json.dumps(TEXTS), str(tmp_path / "theirs.npz")]
    subprocess.run([*warm_python.COMMAND, "-c", PLAIN_FLAX, *arguments], check=True, cwd="/")
    theirs = np.load(tmp_path / "theirs.npz")
    ours = our_logits(source, theirs["input_ids"])
    np.testing.assert_allclose(theirs["logits"], ours, atol=1e-5)


IN_PYTORCH = """
import json, os, pathlib, sys
os.environ.update(USE_TF="0", USE_FLAX="0")  # They take time to import.
import numpy as np, torch, transformers
model, info = transformers.T5ForConditionalGeneration.from_pretrained(
    sys.argv[1], output_loading_info=True
)
assert not [info[k] for k in ("missing_keys", "unexpected_keys", "mismatched_keys") if info[k]]
tokenizer = transformers.AutoTokenizer.from_pretrained(sys.argv[1])
inputs = tokenizer(json.loads(sys.argv[2]), padding=True, return_tensors="pt")
with torch.no_grad():
    logits = model(**inputs, decoder_input_ids=torch.tensor([[0, 5, 9]] * 2)).logits
np.savez(sys.argv[3], logits=logits, **inputs)
exec(pathlib.Path(sys.argv[4]).read_text(), {})
assert not [name for name in sys.modules if name.startswith("hyperdecoders_jax")]
"""


@pytest.mark.torch
def test_a_plain_t5_and_a_card_s_code_need_no_code_of_ours_in_pytorch(plain, tmp_path):
    pytest.importorskip("torch", reason="PyTorch is not installed")
    source, out = plain
    # One process for both: its imports cost more than either.
    adapted = write_trained(tmp_path / "trained", "manual", "manual_specific")
    assert run_export(adapted, tmp_path / "my_model", "--format=safetensors", "--with_code") == 0
    _, _, card = (tmp_path / "my_model/README.md").read_text().partition("transformers alone")
    (tmp_path / "card.py").write_text(card.split("```python\n")[1].split("```")[0])
    arguments = [str(out), json.dumps(TEXTS), "theirs.npz", "card.py"]
    result = subprocess.run(
        [sys.executable, "-c", IN_PYTORCH, *arguments],
        capture_output=True, text=True, cwd=tmp_path, env={"HF_HOME": str(tmp_path)},
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    theirs = np.load(tmp_path / "theirs.npz")
    ours = our_logits(source, theirs["input_ids"])
    np.testing.assert_allclose(theirs["logits"], ours, atol=1e-5)
    (text,) = ast.literal_eval(result.stdout)
    assert isinstance(text, str)


def test_gates_are_folded_where_a_plain_t5_comes_of_it(plain, tmp_path, capsys):
    source, out = plain
    trained = formats.read_text(str(source))
    test_conversion.assert_same(formats.read(str(out)), conversion.fold_gates(trained))
    assert run_export(source, tmp_path / "kept", "--no-fold") == 0
    kept = formats.read_text(str(tmp_path / "kept"))
    assert kept.description.model == trained.config
    source = write_trained(tmp_path / "of_tasks", **GATES_OF_TASKS)
    assert run_export(source, tmp_path / "all") == 0
    assert formats.read_text(str(tmp_path / "all")).description.task_names == TASKS
    assert run_export(source, tmp_path / "one", "--fold", "--task=rte") == 0
    assert "folded into the kernels that they scale, for rte" in capsys.readouterr().out
    trained = formats.read_text(str(source))
    folded = conversion.fold_gates(trained, "rte")
    test_conversion.assert_same(formats.read(str(tmp_path / "one")), folded)


def test_weights_may_be_half_as_large(gated, tmp_path):
    flags = ["--dtype=bfloat16", "--format=safetensors"]
    assert run_export(gated, tmp_path / "out", *flags) == 0
    found = safetensors_numpy.load_file(tmp_path / "out/model.safetensors")
    assert {str(x.dtype) for x in found.values()} == {"bfloat16"}


def test_scores_that_a_plain_t5_cannot_have_are_told(tmp_path, capsys):
    beams = BeamSearchConfig(2, scoring=T5XScoring(0.8))
    source = write_trained(tmp_path / "trained", decoding=beams)
    assert run_export(source, tmp_path / "out") == 0
    told = "Texts may differ: the run scored beams by T5XScoring(alpha=0.8), which transformers"
    assert told in capsys.readouterr().out


def test_lengths_and_decoding_come_back_with_a_plain_t5(plain):
    before, after = (formats.read_text(str(folder)).description for folder in plain)
    assert after.decoding == before.decoding == GreedyConfig()
    assert after.task_feature_lengths == before.task_feature_lengths


def test_the_card_runs_as_written(tmp_path, capsys, monkeypatch):
    source = write_trained(tmp_path / "trained", "manual", "manual_specific")
    assert run_export(source, tmp_path / "my_model") == 0
    card = (tmp_path / "my_model/README.md").read_text()
    monkeypatch.chdir(tmp_path)
    capsys.readouterr()
    exec(card.split("```python\n")[1].split("```")[0], {})
    (text,) = ast.literal_eval(capsys.readouterr().out)
    assert isinstance(text, str)


def test_code_for_pytorch_comes_along(tmp_path, monkeypatch):
    source = write_trained(tmp_path / "trained", "manual", "manual_specific")
    out = tmp_path / "my_model"
    assert run_export(source, out, "--format=safetensors", "--with_code") == 0
    assert names_in(out) == sorted(
        {*FILES, "model.safetensors", remote_code.FILE} - {"flax_model.msgpack"}
    )
    assert json.loads((out / "config.json").read_text())["auto_map"] == remote_code.AUTO_MAP
    assert text_model.load(out).model == text_model.load(source).model
    _, _, card = (out / "README.md").read_text().partition("With PyTorch and transformers alone")
    code = card.split("```python\n")[1].split("```")[0]
    assert "trust_remote_code=True" in code
    assert "task_ids=[model.config.task_id('cola')]" in code
    compile(code, "card", "exec")


def test_what_a_user_has_in_a_clone_stays(plain, tmp_path, capsys):
    source, _ = plain
    out = tmp_path / "out"
    (out / ".git").mkdir(parents=True)
    (out / ".git/config").write_text("[core]")
    (out / ".gitattributes").write_text("*.msgpack filter=lfs")
    (out / "README.md").write_text("My own words.")
    assert run_export(source, out) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("Wrote a plain T5 for FlaxT5For")
    assert "Left README.md as it was.\n" in printed
    assert names_in(out) == sorted([".git", ".gitattributes", *FILES])
    assert (out / "README.md").read_text() == "My own words."
    assert (out / ".git/config").read_text() == "[core]"
    assert names_in(tmp_path) == ["out"]


# What is refused, or cannot be finished; nothing is written, and nothing of a user's is lost.


def test_a_folder_with_other_files_is_refused(plain, tmp_path, capsys):
    source, out = plain
    before = {name: (out / name).read_bytes() for name in names_in(out)}
    assert run_export(source, out) == 2
    assert "--output must name a place where nothing is; there is something" in (
        capsys.readouterr().err
    )
    assert {name: (out / name).read_bytes() for name in names_in(out)} == before
    (tmp_path / "file").write_text("mine")
    assert run_export(source, tmp_path / "file") == 2
    assert (tmp_path / "file").read_text() == "mine"


def test_files_that_cannot_join_a_user_s_say_why(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out/README.md").write_text("mine")
    message = r"must be able to join those in .*/out; one could not: .*\. Mend its rights, or name"

    def fill():
        with export.filled(epath.Path(tmp_path / "out")) as folder:
            (folder / "config.json").write_text("{}")
            (folder / "spiece.model").write_text("")
            (tmp_path / "out/config.json").mkdir()  # As somebody else may do meanwhile.

    with pytest.raises(OSError, match=message):
        fill()
    assert names_in(tmp_path) == ["out"]
    assert names_in(tmp_path / "out") == ["README.md", "config.json"]


def test_a_place_below_a_file_is_refused(plain, tmp_path, capsys):
    (tmp_path / "file").write_text("mine")
    assert run_export(plain[0], tmp_path / "file/out") == 2
    assert "file/out could not be made: [Errno " in capsys.readouterr().err
    assert names_in(tmp_path) == ["file"]


@pytest.mark.parametrize("has_card", [False, True])
def test_a_full_disk_leaves_nothing(plain, tmp_path, capsys, has_card):
    source, _ = plain
    out = tmp_path / "out"
    if has_card:
        out.mkdir()
        (out / "README.md").write_text("My own words.")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, limits[1]))
    try:
        code = run_export(source, out)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert code == 2
    assert "could not be made: [Errno 27] File too large" in capsys.readouterr().err
    assert names_in(tmp_path) == (["out"] if has_card else [])
    assert not has_card or names_in(out) == ["README.md"]


KILLED = """
import resource, signal, sys
import jax
jax.config.update("jax_enable_compilation_cache", False)  # Its files would be too large, too.
signal.signal(signal.SIGXFSZ, signal.SIG_DFL)  # The kernel ends the process in the middle.
resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, 60_000))
from hyperdecoders_jax.commands import main
main.main(sys.argv[1:])
"""


def test_a_process_that_is_killed_leaves_no_model(plain, tmp_path):
    source, _ = plain
    out = tmp_path / "out"
    out.mkdir()
    (out / "README.md").write_text("My own words.")
    arguments = ["export", f"--checkpoint={source}", f"--output={out}"]
    killed = subprocess.run([*warm_python.COMMAND, "-c", KILLED, *arguments])
    assert killed.returncode == -signal.SIGXFSZ
    assert names_in(out) == ["README.md"]
    left = [path for path in tmp_path.iterdir() if path != out]
    assert [path.name[0] for path in left] == ["."]
    assert (left[0] / "flax_model.msgpack").exists()
    assert not (left[0] / "config.json").exists()
    assert run_export(source, out) == 0
    assert names_in(out) == FILES
    assert names_in(tmp_path) == ["out"]


@pytest.mark.parametrize("num_moved", [0, 2, len(FILES) - 1])
def test_one_that_is_killed_among_a_user_s_files_is_taken_back(plain, tmp_path, capsys, num_moved):
    source, whole = plain
    out = tmp_path / "out"
    out.mkdir()
    (out / "README.md").write_text("My own words.")
    names = [name for name in FILES if name not in ("README.md", "config.json")] + ["config.json"]
    left = tmp_path / f".unfinished-{2**22 + 1}-.out-export"  # No process has this number.
    left.mkdir()
    (left / ".names.json").write_text(json.dumps(names))
    for number, name in enumerate(names):
        ((out if number < num_moved else left) / name).write_bytes(b"of before")
    if num_moved < len(names):
        assert run_export(source, out) == 0
        assert names_in(out) == FILES
        for name in names:
            assert (out / name).read_bytes() == (whole / name).read_bytes()
    else:  # It is complete.
        assert run_export(source, out) == 2
        assert "there is something at" in capsys.readouterr().err
        assert names_in(out) == FILES
    assert names_in(tmp_path) == ["out"]
    assert (out / "README.md").read_text() == "My own words."


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--format=pytorch"], "--format must be one or several of ('flax', 'safetensors')"),
        (["--format=flax,safetensor"], "Did you mean 'safetensors'?"),
        (["--dtype=float16"], "must be one of ('float32', 'bfloat16'); got 'float16'"),
        (["--task=rte"], "--task must go with --fold, and names the task whose gates are folded"),
        (["--fold"], "The decoder's gates read 'pooled', states of each example, so that no"),
        (["--with_code"], "needs --format=safetensors; got --format=flax. Add safetensors."),
        (["--step=3"], "Only a training run has a step to choose"),
    ],
)
def test_a_command_that_cannot_be_meant_is_refused(gated, tmp_path, capsys, flags, message):
    assert run_export(gated, tmp_path / "new/out", *flags) == 2
    assert message in capsys.readouterr().err
    assert not names_in(tmp_path)


@pytest.fixture(scope="module")
def gated(tmp_path_factory):
    """A trained T5 with gates of each example."""
    return write_trained(tmp_path_factory.mktemp("gated") / "trained", **GATES_OF_EXAMPLES)
