"""Weights go from any format to any other, bit for bit, and nothing goes unaccounted for."""

import dataclasses
import pathlib
import shutil
import weakref

import ml_dtypes
import numpy as np
import pytest

from hyperdecoders_jax import model
from hyperdecoders_jax.data import vocabulary
from hyperdecoders_jax.modeling.config import HyperGridConfig
from hyperdecoders_jax.weights import (
    arrays,
    backbone,
    check_params,
    conversion,
    exported_folder,
    formats,
    names,
    original_folder,
    safetensors_files,
    trained_model,
)
from hyperdecoders_jax.weights.arrays import StoredArray
from hyperdecoders_jax.weights.trained_model import Description, TrainedModel
from tests import tiny
from tests.weights import test_adapter_folder

# Of tasks in the encoder, of all examples in the decoder.
GRIDS = dict(
    encoder_hypergrid=HyperGridConfig(4, 2, "LG", "task_embedding", kernels="both"),
    decoder_hypergrid=HyperGridConfig(1, 2, "GG", gate="identity"),
    mlp_dim=12,
)
PLAIN = ("t5x", "t5x_orbax", "hugging_face", "safetensors")
GEOMETRIES = {
    "v1.0": dict(mlp_activations=("relu",), logits_via_embedding=True),
    "v1.1": dict(),
}


def make(encoder="none", decoder="none", dtype=np.float32, **sizes):
    """Weights of a tiny model, in memory."""
    config = tiny.make_config(encoder, decoder, **sizes)
    flat = names.flatten(tiny.make_params(model.Model(config)))
    in_memory = arrays.in_memory({path: np.asarray(x).astype(dtype) for path, x in flat.items()})
    return TrainedModel(Description(config, step=7), in_memory)


def with_tasks(weights, task_names):
    """The same weights with an ordered list of tasks."""
    description = dataclasses.replace(weights.description, task_names=tuple(task_names))
    return weights.replace(description=description)


def check(weights, where):
    """Checks that weights hold all parameters of their model."""
    assert check_params.check_params(weights.arrays, weights.config, where) == []


def write(weights, name, folder):
    """Writes into `folder`, and returns where."""
    path = folder / name
    formats.FORMATS[name].write(path, weights)
    return str(path)


def assert_same(found, expected):
    assert set(found.arrays) == set(expected.arrays)
    for path, array in found.arrays.items():
        ours, theirs = array.read(), expected.arrays[path].read()
        assert (ours.dtype, array.dtype, array.shape) == (theirs.dtype, ours.dtype, ours.shape)
        np.testing.assert_array_equal(ours, theirs, err_msg=path)
    check(found, "a test")
    conversion.check_config(found, expected.config, "a test")


@pytest.mark.parametrize("dtype", [np.float32, ml_dtypes.bfloat16])
@pytest.mark.parametrize("geometry", GEOMETRIES)
@pytest.mark.parametrize("name", PLAIN)
def test_a_format_gives_back_every_bit_and_is_recognised(tmp_path, name, geometry, dtype):
    weights = make(dtype=dtype, **GEOMETRIES[geometry])
    path = write(weights, name, tmp_path)
    assert formats.detect(path) == name.removesuffix("_orbax")
    assert_same(formats.read(path), weights)


@pytest.mark.parametrize("layout", ["t5x", "t5x_orbax"])
@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_hugging_face_to_t5x_and_back_is_the_same_file(tmp_path, geometry, layout):
    first = write(make(**GEOMETRIES[geometry]), "hugging_face", tmp_path)
    middle = write(formats.read(first), layout, tmp_path)
    (tmp_path / "back").mkdir()
    last = write(formats.read(middle), "hugging_face", tmp_path / "back")
    for file in ("model.safetensors", "config.json"):
        assert pathlib.Path(first, file).read_bytes() == pathlib.Path(last, file).read_bytes()


@pytest.mark.parametrize("sizes", [{}, GRIDS], ids=["adapters", "and gates"])
@pytest.mark.parametrize("name", ["t5x", "t5x_orbax", "safetensors"])
def test_what_adapts_a_t5_goes_with_what_has_a_place_for_it(tmp_path, name, sizes):
    weights = make("manual", "generated", **sizes)
    path = write(weights, name, tmp_path)
    assert_same(formats.read(path, config=weights.config), weights)


def test_a_t5_of_hugging_face_has_no_place_for_adapters(tmp_path):
    with pytest.raises(
        ValueError, match=r"unexpected: decoder_adapters.*with hyperdecoders export"
    ):
        write(make("manual", "generated"), "hugging_face", tmp_path)


def export(weights, folder):
    """The folder of `hyperdecoders export`, with the vocabulary of the demo."""
    model_file = pathlib.Path(vocabulary.DEMO_VOCABULARY_PATH)
    description = test_adapter_folder.describe(
        model=weights.config,
        backbone=None,
        vocabulary=trained_model.Vocabulary(model_file.read_bytes(), 100),
        task_names=weights.description.task_names,
        step=weights.description.step,
    )
    folder.mkdir()
    exported_folder.write_weights(folder, description, weights.arrays)
    shutil.copy(model_file, folder / "spiece.model")
    return description


@pytest.mark.parametrize("sizes", [{}, GRIDS], ids=["adapters", "and gates"])
def test_an_exported_model_comes_back_with_all_that_belongs_to_it(tmp_path, sizes):
    weights = make("manual_specific", "generated", vocab_size=4100, **sizes)
    weights = with_tasks(weights, ("cola", "mrpc", "rte", "sst2"))
    description = export(weights, tmp_path / "exported")
    assert formats.detect(str(tmp_path / "exported")) == "hugging_face"
    found = formats.read(str(tmp_path / "exported"))
    assert found.config == weights.config
    assert_same(found, weights)
    assert found.description == description
    assert found.description.task_names == weights.description.task_names
    assert found.description.step == 7
    assert found.files == {"spiece.model": description.vocabulary.model}
    assert found.metadata == {trained_model.VOCABULARY_KEY: description.vocabulary.fingerprint}
    assert found.skipped == {}
    # On it goes, and a run starts from it.
    path = write(found, "safetensors", tmp_path)
    assert_same(formats.read(path), weights)
    start = backbone.open(str(tmp_path / "exported"), weights.config).arrays
    assert set(start) == set(weights.arrays)
    for name, array in start.items():
        np.testing.assert_array_equal(array.read(), weights.arrays[name].read())


def test_adapters_in_a_t5x_checkpoint_need_their_configuration(tmp_path):
    path = write(make("manual", "generated"), "t5x", tmp_path)
    with pytest.raises(ValueError, match=r"under decoder_adapters, encoder_adapters. Name it with"):
        formats.read(path)


def test_a_safetensors_file_without_a_configuration_shows_its_sizes(tmp_path):
    weights = make()
    path = tmp_path / "t5.safetensors"
    formats.FORMATS["safetensors"].write(path, weights)
    assert path.is_file()
    assert formats.read(str(path)).config == weights.config
    safetensors_files.write_file(path, weights.arrays, {})
    assert_same(formats.read(str(path)), weights)


@pytest.mark.parametrize(
    "metadata", [{"model": "{"}, {"model": "3"}, {"task_names": "3"}, {"task_names": "["}]
)
def test_what_a_safetensors_file_says_of_its_model_must_be_json(tmp_path, metadata):
    path = tmp_path / "t5.safetensors"
    safetensors_files.write_file(path, make().arrays, metadata)
    with pytest.raises(ValueError, match=r"(?s)must be JSON, as it was .* Convert the"):
        formats.read(str(path))


# The original.

MODES = [("none", "none"), ("manual", "generated"), ("generated", "manual_specific"),
         ("task", "task")]  # fmt: skip


@pytest.mark.torch
@pytest.mark.parametrize(("encoder", "decoder"), MODES)
def test_a_state_of_the_original_gives_back_every_bit(tmp_path, encoder, decoder):
    pytest.importorskip("torch", reason="PyTorch is not installed")
    weights = make(encoder, decoder)
    names_of_tasks = tuple(f"task {i}" for i in range(weights.config.num_tasks or 2))
    weights = with_tasks(weights, names_of_tasks)
    path = write(weights, "original", tmp_path)
    assert formats.detect(path) == "original"
    found = formats.read(path)
    assert found.description.task_names == names_of_tasks
    never_read = {
        name: np.full(array.shape, 7, array.dtype) for name, array in found.unread.items()
    }
    assert set(never_read) <= set(found.skipped)
    found = found.replace(unread=arrays.in_memory(never_read))
    (tmp_path / "trained").mkdir()
    path = write(found, "original", tmp_path / "trained")
    found_config = dataclasses.replace(found.config, num_tasks=weights.config.num_tasks)
    assert_same(found.replace(model=found_config), weights)
    # And through our own file back to the same state.
    middle = write(found, "safetensors", tmp_path)
    (tmp_path / "again").mkdir()
    again = write(formats.read(middle), "original", tmp_path / "again")
    first, second = (original_folder.open(place)[2] for place in (path, again))
    assert set(first) == set(second)
    for name, array in first.items():
        np.testing.assert_array_equal(array.read(), second[name].read(), err_msg=name)


@pytest.mark.torch
def test_what_the_original_makes_and_never_reads_is_told(tmp_path):
    pytest.importorskip("torch", reason="PyTorch is not installed")
    new = formats.FORMATS["original"].write(tmp_path / "state", make("manual", "generated"))
    assert len(new) == 4 * 3  # half, kernel or bias, layers of the decoder
    assert {why.split(",")[0] for why in new.values()} == {"zeros"}
    assert set(new) <= set(formats.read(str(tmp_path / "state")).skipped)


def test_the_number_of_tasks_is_seen_in_the_arrays_of_a_checkpoint(tmp_path):
    adapted = {"task": make("task"), "bank": make("manual", "manual_specific")}
    for name, weights in {**adapted, "gates": make(**GRIDS)}.items():
        path = write(weights, "t5x", tmp_path / name)
        config = dataclasses.replace(weights.config, num_tasks=None)
        assert_same(formats.read(path, config=config), weights)


# Vocabulary.


def test_a_new_row_is_the_mean_so_that_its_logit_is_the_mean_of_all():
    weights = make()
    resized = conversion.resize_vocabulary(weights, tiny.VOCAB_SIZE + 4)
    check(resized, "a test")
    assert sorted(resized.new) == [
        f"rows 31 to 34 of {path}"
        for path in ("decoder/logits_dense/kernel", "token_embedder/embedding")
    ]
    before = weights.arrays["decoder/logits_dense/kernel"].read()
    after = resized.arrays["decoder/logits_dense/kernel"].read()
    np.testing.assert_array_equal(after[:, : tiny.VOCAB_SIZE], before)
    states = np.random.default_rng(0).normal(size=(5, 8))
    logits = states @ after
    mean = (states @ before).mean(axis=1)
    np.testing.assert_allclose(logits[:, -1], mean, atol=1e-6)  # float32 of the mean row
    assert_same(conversion.resize_vocabulary(resized, tiny.VOCAB_SIZE), weights)


def read_resized(path, vocab_size):
    return conversion.resize_vocabulary(formats.read(path, are_rows_right=True), vocab_size)


def test_rows_are_dropped_when_asked_and_said_to_be(tmp_path):
    path = write(make(logits_via_embedding=True), "hugging_face", tmp_path)
    found = read_resized(path, 29)
    assert found.config.vocab_size == 29
    assert found.skipped == {"rows 29 to 30 of token_embedder/embedding": "vocab_size is 29"}
    check(found, "a test")


def test_rows_that_differ_from_config_json_are_refused_until_a_size_is_asked_for(tmp_path):
    path = write(make(), "hugging_face", tmp_path)
    file = pathlib.Path(path, "config.json")
    file.write_text(file.read_text().replace('"vocab_size": 31', '"vocab_size": 36'))
    with pytest.raises(
        ValueError,
        match=r"embedding is \(31, 8\) there and \(36, 8\) in .*convert --vocab_size=N",
    ):
        formats.read(path)
    assert read_resized(path, 36).arrays["token_embedder/embedding"].shape == (36, 8)


def test_a_tokenizer_goes_with_hugging_face_folders(tmp_path):
    model_file = pathlib.Path(vocabulary.DEMO_VOCABULARY_PATH).read_bytes()
    path = write(make(vocab_size=4009), "hugging_face", tmp_path)
    pathlib.Path(path, "spiece.model").write_bytes(model_file)
    pathlib.Path(path, "tokenizer_config.json").write_text("{}")
    weights = formats.read(path)
    (tmp_path / "again").mkdir()
    again = pathlib.Path(write(weights, "hugging_face", tmp_path / "again"))
    assert (again / "spiece.model").read_bytes() == model_file
    assert (again / "tokenizer_config.json").read_text() == "{}"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            pathlib.Path(vocabulary.DEMO_VOCABULARY_PATH).read_bytes(),
            "has 4,000 pieces, .* 31 rows",
        ),
        (b"<html>", "must be a SentencePiece model; got 6 bytes"),
    ],
    ids=["too many pieces", "no model"],
)
def test_a_vocabulary_of_other_weights_is_refused(tmp_path, content, message):
    path = write(make(), "hugging_face", tmp_path)
    pathlib.Path(path, "spiece.model").write_bytes(content)
    with pytest.raises(ValueError, match=message):
        formats.read(path)


# What does not fit.


def test_an_array_that_is_missing_unexpected_or_of_another_shape_is_named():
    weights = make("manual", "generated")
    without = dict(weights.arrays)
    bias = without.pop("encoder_adapters/feed_forward/up_bias")
    with pytest.raises(ValueError, match=r"X must hold exactly .*missing: encoder_adapters/feed"):
        check(weights.replace(arrays=without), "X")
    more = {**weights.arrays, "encoder/layers_2/mlp/wo/kernel": bias}
    with pytest.raises(ValueError, match=r"missing: none; unexpected: encoder/layers_2/mlp/wo"):
        check(weights.replace(arrays=more), "X")
    other = {**weights.arrays, "token_embedder/embedding": bias}
    with pytest.raises(ValueError, match=r"embedding is \(2, 8\) there and \(31, 8\) in the"):
        check(weights.replace(arrays=other), "X")


def test_a_part_may_be_missing_where_a_run_draws_it_but_not_in_a_conversion():
    weights = make("manual", "generated")
    part = {
        path: array for path, array in weights.arrays.items() if not path.startswith("encoder_ad")
    }
    lacking = check_params.check_params(part, weights.config, "X", is_start=True)
    assert lacking == [path for path in weights.arrays if path not in part] != []
    with pytest.raises(ValueError, match=r"X must hold exactly .*missing: encoder_adapters/feed"):
        check(weights.replace(arrays=part), "X")


def test_a_model_that_computes_something_else_is_refused_though_its_shapes_fit():
    weights = make("manual", "generated")
    other = tiny.make_config("manual", "generated", mlp_activations=("relu", "linear"))
    with pytest.raises(ValueError, match=r"mlp_activations is \('gelu', .* and \('relu', "):
        conversion.check_config(weights, other, "X")
    other = tiny.make_config("manual", "generated", norm_input=True)
    with pytest.raises(ValueError, match=r"encoder_adapter.norm_input is False there and True in"):
        conversion.check_config(weights, other, "X")
    # Plain weights say nothing of adapters, nor of the tasks that they are for.
    conversion.check_config(make(), other, "X")
    conversion.check_config(make(), tiny.make_config("task", num_trained_tasks=3), "X")


def test_gates_that_compute_something_else_are_refused_though_their_shapes_fit():
    weights = make(**GRIDS)
    for change, message in (
        ({"gate": "identity"}, r"encoder_hypergrid.gate is sigmoid there and identity in"),
        ({"condition": "first_state"}, r"_hypergrid.condition is task_embedding there and first_"),
    ):
        grid = dataclasses.replace(GRIDS["encoder_hypergrid"], **change)
        other = tiny.make_config("none", "none", **{**GRIDS, "encoder_hypergrid": grid})
        with pytest.raises(ValueError, match=message):
            conversion.check_config(weights, other, "X")
    prefixes = [HyperGridConfig(2, 2, condition="prefix_mean", prefix_len=n) for n in (3, 6)]
    one, other = (make(encoder_hypergrid=prefix) for prefix in prefixes)
    with pytest.raises(ValueError, match=r"encoder_hypergrid.prefix_len is 3 there and 6 in"):
        conversion.check_config(one, other.config, "X")
    with pytest.raises(ValueError, match=r"encoder_hypergrid.gate is sigmoid there and None in"):
        conversion.check_config(one, tiny.make_config("none", "none"), "X")
    # Plain weights say nothing of gates, nor do those of one stack of the other's.
    conversion.check_config(make(), other.config, "X")


def test_what_is_no_format_is_told(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"there is nothing at .*absent. Correct the path"):
        formats.read(str(tmp_path / "absent"))
    (tmp_path / "notes.txt").write_text("")
    with pytest.raises(
        ValueError, match=r"is none of them: notes.txt. A Hugging Face folder needs"
    ):
        formats.read(str(tmp_path))
    with pytest.raises(ValueError, match=r"must be one of .*Did you mean 'hugging_face'"):
        formats.read(str(tmp_path), "huggingface")
    with pytest.raises(ValueError, match=r"in a bucket .*; got https://a.b/t5\. Name a model of"):
        formats.read("https://a.b/t5")


def test_a_hub_id_is_told_from_a_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert formats.detect("google/t5-v1_1-small") == "hugging_face"
    (tmp_path / "google" / "t5-v1_1-small").mkdir(parents=True)
    with pytest.raises(ValueError, match=r"none of them: an empty folder"):
        formats.detect("google/t5-v1_1-small")
    with pytest.raises(FileNotFoundError, match="there is nothing at"):
        formats.detect("./t5-v1_1-small")


def test_hugging_face_weights_without_config_json_are_refused(tmp_path):
    path = pathlib.Path(write(make(), "hugging_face", tmp_path))
    (path / "config.json").unlink()
    for place in (path, path / "model.safetensors"):
        with pytest.raises(
            ValueError, match=r"must come with their config.json; .*Name the folder"
        ):
            formats.read(str(place))


def test_types_change_when_asked_and_others_are_refused():
    found = conversion.cast(make(), "bfloat16")
    array = found.arrays["token_embedder/embedding"]
    assert array.dtype == array.read().dtype == ml_dtypes.bfloat16
    with pytest.raises(
        ValueError, match=r"one of \('float32', 'bfloat16'\); got 'float16'.*--dtyp"
    ):
        conversion.cast(make(), "float16")


# Memory.


class Watched:
    """Counts the arrays that were read and are still held."""

    def __init__(self):
        self.alive = self.most = 0

    def watch(self, array):
        def read():
            # A copy, so that nothing but the reader holds it.
            value = array.read().copy()
            self.alive += 1
            self.most = max(self.most, self.alive)
            weakref.finalize(value, self.release)
            return value

        return StoredArray(array.shape, array.dtype, read)

    def release(self):
        self.alive -= 1


@pytest.mark.parametrize("layout", ["t5x", "t5x_orbax"])
def test_one_array_at_a_time_is_in_memory(tmp_path, layout):
    weights = make(num_encoder_layers=4, num_decoder_layers=5)
    watched = Watched()
    watched_arrays = {path: watched.watch(array) for path, array in weights.arrays.items()}
    weights = weights.replace(arrays=watched_arrays)
    write(conversion.cast(conversion.resize_vocabulary(weights, 40), "bfloat16"), layout, tmp_path)
    assert len(watched_arrays) > 50
    assert watched.most <= 2
    assert watched.alive == 0
