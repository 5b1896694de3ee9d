"""What the JSON of a folder says is checked before anything is made of it, and told by its name.

Sizes that no model has would take hours or all memory; none of them may get as far as that.
"""

import json
import os
import shutil

import jaxtyping
import pytest

from hyperdecoders_jax.data import tokenizer
from hyperdecoders_jax.decoding import beam_search, sampling
from hyperdecoders_jax.weights import (
    adapter_folder,
    exported_folder,
    formats,
    run_folder,
    trained_model,
)
from tests.formats import test_formats
from tests.weights import test_adapter_folder, test_conversion

BYTES = trained_model.Vocabulary(tokenizer.BYTES_MODEL, 125)
KINDS = ("adapters", "exported", "run")
NO_COUNT = (10**10, -1, 0, "x", None, 1.5, True, [3])


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A plain T5, and what describes itself: an adapter folder, an exported folder, a run."""
    folder = tmp_path_factory.mktemp("made")
    plain = test_conversion.make(vocab_size=384)
    adapted = test_conversion.make("manual_specific", "generated")
    described = test_adapter_folder.describe(model=adapted.config, vocabulary=BYTES, backbone=None)
    for name in ("t5", "adapters", "exported", "run"):
        (folder / name).mkdir()
    t5 = test_adapter_folder.describe(model=plain.config, vocabulary=BYTES)
    exported_folder.write_weights(folder / "t5", t5, plain.arrays)
    for name, fields in {
        "generation_config.json": {"max_length": 9},
        "tokenizer_config.json": {"tokenizer_class": "ByT5Tokenizer"},
    }.items():
        (folder / "t5" / name).write_text(json.dumps(fields))
    exported_folder.write_weights(folder / "exported", described, adapted.arrays)
    adapter_folder.write(folder / "adapters", described, adapted.arrays)
    run = run_folder.RunFile(described, ("a",), None, 0, "float32", {})
    run_folder.write(folder / "run", run)
    return folder


@pytest.fixture(autouse=True)
def _no_types_are_checked():
    """As outside of tests, where values of other types reach the checks."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


@pytest.fixture
def folder(made, tmp_path):
    return shutil.copytree(made, tmp_path / "made")


def edit(file, name, value):
    """Replaces a field, whose name may have dots."""
    fields = json.loads(file.read_text())
    *owners, last = name.split(".")
    owner = fields
    for part in owners:
        owner = owner[part]
    owner[last] = value
    file.write_text(json.dumps(fields))


def read(folder):
    if folder.name == "run":  # There is no checkpoint.
        return run_folder.read_file(folder)
    return formats.read_text(str(folder))


def refused(folder, file, name, value, match=None):
    read(folder)
    edit(folder / file, name, value)
    with pytest.raises(ValueError, match=match or name.rpartition(".")[2]) as caught:
        read(folder)
    text = str(caught.value)
    assert file in text or match == _MISSING
    assert " gin" not in text
    assert text.endswith(".")


_MISSING = "missing: .* more; unexpected: none"
SIZES = ("d_model", "d_ff", "d_kv", "num_heads", "num_layers", "vocab_size")


@pytest.mark.parametrize("value", [10**15, *NO_COUNT])
@pytest.mark.parametrize("name", [*SIZES, "relative_attention_num_buckets"])
def test_sizes_of_a_t5_are_sizes(folder, name, value):
    refused(folder / "t5", "config.json", name, value)


@pytest.mark.parametrize("name", ["num_layers", "num_decoder_layers"])
def test_many_layers_are_missed_in_the_file_without_tracing_them(folder, name):
    refused(folder / "t5", "config.json", name, 250, match=_MISSING)


@pytest.mark.parametrize(
    ("name", "value"), [("eos_token_id", [1, 2]), ("pad_token_id", 7), ("dropout_rate", "x")]
)
def test_tokens_and_rates_of_a_t5_are_those_that_it_has(folder, name, value):
    refused(folder / "t5", "config.json", name, value)


@pytest.mark.parametrize("value", [10**12, *(x for x in NO_COUNT if x is not None)])
@pytest.mark.parametrize("name", ["max_length", "max_new_tokens", "num_beams", "min_length"])
def test_generation_has_lengths_and_beams(folder, name, value):
    if (name, value) not in (("min_length", 0), ("num_beams", True)):
        match = "num_beams|min_len|max_length|max_new_tokens|TypeError"
        refused(folder / "t5", "generation_config.json", name, value, match)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("extra_ids", 10**9), ("extra_ids", -1), ("extra_ids", "x"),
        ("model_max_length", 10**10), ("model_max_length", 0), ("model_max_length", "x"),
    ],
)  # fmt: skip
def test_a_tokenizer_has_sentinels_and_a_length(folder, name, value):
    refused(folder / "t5", "tokenizer_config.json", name, value)


def test_a_tokenizer_may_leave_its_length_open(folder):
    for value in (None, 1e30, int(1e30)):
        edit(folder / "t5" / "tokenizer_config.json", "model_max_length", value)
        assert read(folder / "t5").description.task_feature_lengths["inputs"] == 512


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("task_feature_lengths.inputs", value) for value in NO_COUNT),
        ("task_feature_lengths.targets", 10**10),
        *(("vocabulary.num_sentinels", value) for value in (10**9, -1, "x", None)),
        *(("step", value) for value in (-1, "x", 10**30)),
        *(("decoding", {"type": "BeamSearchConfig", "num_beams": x}) for x in (10**9, 0, "x")),
        ("decoding", {"type": "GreedyConfig", "min_len": 6}),
        *(("task_names", value) for value in ("ab", [1, 2], None)),
    ],
    ids=str,
)
def test_a_description_has_counts(folder, kind, name, value):
    match = "num_beams|TypeError" if "num_beams" in str(value) else "min_len|" + name.split(".")[-1]
    refused(folder / kind, "config.json", name, value, match)


@pytest.mark.parametrize("kind", ["adapters", "run"])
@pytest.mark.parametrize("value", [10**15, *NO_COUNT])
@pytest.mark.parametrize("name", ["num_encoder_layers", "vocab_size", "num_tasks"])
def test_a_described_model_has_sizes(folder, kind, name, value):
    match = name if value is not None else "num_tasks|" + name
    refused(folder / kind, "config.json", f"model.{name}", value, match)


def test_an_exported_adapter_has_sizes(folder):
    refused(folder / "exported", "config.json", "decoder_adapter.bottleneck_dim", 10**12)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("start.random_seed", 10**30),
        ("start.random_seed", "x"),
        ("start.frozen_dtype", "float99"),
        ("start.initial_checkpoint_path", 3),
        ("start.trained", "abc"),
        ("runner", "another"),
    ],
)
def test_a_run_says_how_it_started(folder, name, value):
    refused(folder / "run", "config.json", name, value)


def test_a_run_of_other_sizes_than_its_checkpoints_is_refused_untraced(tmp_path):
    run = shutil.copytree(test_formats.HERE / "before_versions" / "run", tmp_path / "run")
    shutil.copy(test_formats.HERE / "version_1" / "config.json", run)
    edit(run / "config.json", "model.num_decoder_layers", 250)
    with pytest.raises(ValueError, match=r"num_decoder_layers is \d+ there and 250 here"):
        formats.read(str(run))


@pytest.mark.parametrize("kind", ["t5", *KINDS])
@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[" * 100_000 + "]" * 100_000, "must be JSON"),
        ('{"a":' * 100_000 + "1" + "}" * 100_000, "must be JSON"),
        ("[1]", "must be a JSON object of fields; got list"),
        ('{"model_type": "t5", "model_type": "mt5"}', "holds the field 'model_type' twice"),
        ("\x00\xff", "must be JSON"),
    ],
    ids=["lists", "objects", "list", "twice", "bytes"],
)
def test_json_is_a_flat_enough_object(folder, kind, text, message):
    (folder / kind / "config.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(ValueError, match=rf"config\.json .*{message}|config\.json {message}"):
        formats.read_text(str(folder / kind))


@pytest.mark.parametrize(
    ("kind", "file"),
    [
        *((kind, "config.json") for kind in ("t5", *KINDS)),
        *(("t5", x) for x in ("generation_config.json", "tokenizer_config.json", "spiece.model")),
        *(("t5", "flax_model.msgpack"), ("t5", "model.safetensors"), ("t5", "pytorch_model.bin")),
        *(("adapters", "adapters.safetensors"), ("exported", "flax_model.msgpack")),
        *(("t5", "model.safetensors.index.json"), ("t5", "adapter_config.json")),
    ],
)
@pytest.mark.parametrize("special", ["pipe", "/dev/zero", "folder"])
def test_special_files_are_refused(folder, kind, file, special):
    if (file, special) == ("adapters.safetensors", "folder"):
        return  # It is a folder of weights, and holds none.
    if file == "pytorch_model.bin":
        pytest.importorskip("torch", reason="PyTorch is not installed")
        (folder / kind / "flax_model.msgpack").unlink()
    path = folder / kind / file
    path.unlink(missing_ok=True)
    if special == "pipe":
        os.mkfifo(path)
    elif special == "folder":
        path.mkdir()
    else:
        path.symlink_to(special)
    with pytest.raises(ValueError, match=r"A file must be a regular one; \S+ is a .*\. \w+ .*\."):
        formats.read_text(str(folder / kind))


@pytest.mark.parametrize("layout", ["t5x", "t5x_orbax"])
def test_special_files_in_a_checkpoint_are_refused(tmp_path, layout):
    path = tmp_path / "weights"
    formats.FORMATS[layout].write(path, test_conversion.make())
    chunk = next(file for file in path.rglob("*") if file.is_file() and "d" in file.parent.name)
    chunk.unlink()
    os.mkfifo(chunk)
    with pytest.raises(ValueError, match=r"A file must be a regular one; \S+ is a pipe"):
        formats.read(str(path))


def test_a_pipe_or_device_is_no_weights(tmp_path):
    os.mkfifo(tmp_path / "x.safetensors")
    for path in (tmp_path / "x.safetensors", "/dev/zero"):
        with pytest.raises(
            ValueError, match=r"must be a regular one; \S+ is a pipe, socket or dev"
        ):
            formats.read(str(path))


@pytest.mark.parametrize(
    ("path", "hint"),
    [
        ("hf://google/t5-v1_1-base", " Did you mean 'google/t5-v1_1-base'?"),
        ("https://huggingface.co/google/t5-v1_1-base", " Did you mean 'google/t5-v1_1-base'?"),
        ("https://example.com/t5/model.safetensors", ""),
        ("s3://bucket/t5", ""),
        ("https://", ""),
    ],
)
def test_addresses_that_are_not_read_are_told(path, hint):
    for read_path in (formats.read, formats.read_text, formats.describe_text, formats.to_path):
        with pytest.raises(
            ValueError, match=r"or in a bucket \(gs://…\); got .* by its id"
        ) as told:
            read_path(path)
        assert (f"got {path}.{hint} Name") in str(told.value)


def test_a_bucket_that_does_not_answer_is_told(monkeypatch):
    class Refusing:
        def __init__(self, path):
            pass

        def exists(self):
            raise RuntimeError("401 Anonymous caller\nand a long stack")

    monkeypatch.setattr(formats.epath, "Path", Refusing)
    with pytest.raises(
        OSError, match=r"must be reachable .*; gs://b/t5 gave RuntimeError: 401 .* or"
    ):
        formats.detect("gs://b/t5")


def test_an_adapter_of_peft_is_named(folder):
    """transformers loads it too, where peft is installed."""
    peft = folder / "peft"
    peft.mkdir()
    for place, more in ((peft, ""), (folder / "t5", ", beside a model that would be read without")):
        content = json.dumps({"base_model_name_or_path": "google/flan-t5-base"})
        (place / "adapter_config.json").write_text(content)
        message = f"an adapter of PEFT for 'google/flan-t5-base'{more}.* Merge it with peft"
        for read_folder in (formats.read, formats.read_text):
            with pytest.raises(ValueError, match=message):
                read_folder(str(place))
        with pytest.raises(ValueError, match=message):
            formats.read(str(place), formats.HUGGING_FACE)


def test_weights_without_their_config_are_told_so(tmp_path):
    formats.FORMATS["hugging_face"].write(tmp_path / "t5", test_conversion.make())
    (tmp_path / "t5" / "config.json").unlink()
    with pytest.raises(ValueError, match=r"format safetensors, and has no config\.json that says"):
        formats.read_text(str(tmp_path / "t5"))


def test_every_way_of_decoding_is_read_as_it_was_written():
    scorings = (
        beam_search.T5XScoring,
        beam_search.HuggingFaceScoring,
        beam_search.HuggingFace457Scoring,
    )
    ways = [beam_search.BeamSearchConfig(scoring=scoring()) for scoring in scorings]
    for way in (*ways, sampling.GreedyConfig(), sampling.SamplingConfig()):
        stored = json.loads(json.dumps(trained_model.decoding_to_json(way)))
        assert trained_model.decoding_from_json(stored) == way
