"""The command `convert`: every bit and a report, or an error, exit code 2 and nothing written."""

import dataclasses
import json
import os
import pathlib
import pickle
import re
import shutil

import gin
import numpy as np
import pytest
import safetensors
from etils import epath
from safetensors import numpy as safetensors_numpy

from hyperdecoders_jax.commands import configured, convert, main
from hyperdecoders_jax.data import vocabulary
from hyperdecoders_jax.model import BACKBONE_KEYS, Model
from hyperdecoders_jax.modeling.config import HyperGridConfig
from hyperdecoders_jax.trained import start as start_lib
from hyperdecoders_jax.weights import conversion, formats, hugging_face, original_folder
from tests.commands import test_train, tiny_runs
from tests.weights import test_adapter_folder, test_conversion

DEMO_VOCABULARY = pathlib.Path(vocabulary.DEMO_VOCABULARY_PATH)


pytestmark = pytest.mark.usefixtures("forget_configuration")


@pytest.fixture(scope="module")
def start():
    """The parameters of the tiny model that test_train trains."""
    found = test_train.tiny_start()
    gin.clear_config()
    # T5X's checkpoints do not tell.
    return found.replace(model=dataclasses.replace(found.config, dropout_rate=0.1))


@pytest.fixture(scope="module")
def t5(start, tmp_path_factory):
    """Its T5 as a Hugging Face folder, in shards."""
    folder = tmp_path_factory.mktemp("t5") / "t5"
    flat = {k: x for k, x in start.arrays.items() if k.split("/")[0] in BACKBONE_KEYS}
    theirs = hugging_face.from_ours(flat, start.config)
    hugging_face.write(folder, start.config, theirs, max_shard_bytes=200_000)
    (folder / "spiece.model").write_bytes(DEMO_VOCABULARY.read_bytes())
    return folder


def run_convert(source, target, *flags):
    return main.main(["convert", f"--from={source}", f"--to={target}", *flags])


def files_under(folder):
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


@pytest.mark.parametrize("layout", ["t5x", "t5x_orbax"])
def test_hugging_face_to_t5x_and_back_gives_the_same_files(t5, tmp_path, capsys, layout):
    (tmp_path / "one").mkdir()  # Empty: it may be there.
    assert run_convert(t5, f"hugging_face:{tmp_path}/one") == 0
    assert run_convert(f"{tmp_path}/one", f"{layout}:{tmp_path}/two") == 0
    out = capsys.readouterr().out
    assert "new 1, the count of steps, 0: state/step\n" in out
    assert f"skipped 1, {layout} has no place for it: file spiece.model\n" in out
    assert run_convert(f"{tmp_path}/two", f"hugging_face:{tmp_path}/three") == 0
    one, three = files_under(tmp_path / "one"), files_under(tmp_path / "three")
    assert one.pop("spiece.model") == DEMO_VOCABULARY.read_bytes()  # T5X's has no place for it.
    assert one == three


@pytest.mark.torch
def test_the_original_to_ours_and_back_gives_the_same_state(tmp_path, capsys):
    pytest.importorskip("torch", reason="PyTorch is not installed")
    weights = test_conversion.make("manual", "generated")
    test_conversion.write(weights, "original", tmp_path)
    assert run_convert(f"{tmp_path}/original", f"safetensors:{tmp_path}/ours.safetensors") == 0
    assert "skipped 12, the original makes it" in capsys.readouterr().out
    assert run_convert(f"{tmp_path}/ours.safetensors", f"original:{tmp_path}/back") == 0
    assert "new nothing" in capsys.readouterr().out
    (_, _, first), (_, _, last) = (
        original_folder.open(tmp_path / name) for name in ("original", "back")
    )
    assert set(first) == set(last)
    for name, array in first.items():
        np.testing.assert_array_equal(array.read(), last[name].read(), err_msg=name)
    configs = [tmp_path / name / "config.json" for name in ("original", "back")]
    assert configs[0].read_text() == configs[1].read_text()


def test_an_exported_model_goes_into_every_format_of_its_kind(tmp_path, capsys):
    weights = test_conversion.make("manual", "generated", vocab_size=4100)
    weights = test_conversion.with_tasks(weights, ("cola", "mrpc", "rte", "sst2"))
    test_conversion.export(weights, tmp_path / "exported")
    source = f"hugging_face:{tmp_path}/exported"
    assert run_convert(source, f"t5x:{tmp_path}/t5x") == 0
    found = formats.read(f"{tmp_path}/t5x", config=weights.config)
    test_conversion.assert_same(found, weights)
    assert run_convert(source, f"hugging_face:{tmp_path}/t5") == 2
    assert "or write the whole model with hyperdecoders export" in capsys.readouterr().err
    test_adapter_folder.edit(tmp_path / "exported", d_kv=7)
    assert run_convert(source, f"t5x:{tmp_path}/again") == 2
    assert "is (8, 12) there and (8, 14) in the model" in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["exported", "t5x"]


@pytest.mark.torch
def test_an_exported_model_becomes_a_state_of_the_original(tmp_path):
    pytest.importorskip("torch", reason="PyTorch is not installed")
    weights = test_conversion.make("manual_specific", "generated", vocab_size=4100)
    weights = test_conversion.with_tasks(weights, ("cola", "mrpc", "rte", "sst2"))
    test_conversion.export(weights, tmp_path / "exported")
    assert run_convert(f"{tmp_path}/exported", f"original:{tmp_path}/original") == 0
    found = formats.read(f"{tmp_path}/original")
    test_conversion.assert_same(found, weights)
    assert found.description.task_names == weights.description.task_names
    assert found.files.keys() == {"spiece.model"}


def test_the_report_lists_what_was_loaded_made_and_skipped(t5, tmp_path, capsys):
    assert run_convert(t5, f"safetensors:{tmp_path}/t5.safetensors", "--vocab_size=4230") == 0
    assert capsys.readouterr().out.splitlines() == [
        f"Wrote safetensors at {tmp_path}/t5.safetensors.",
        f"Read hugging_face at {t5}.",
        "loaded 29 arrays, 139,440 parameters of float32",
        "  decoder: 17 arrays, 69,984 parameters",
        "  encoder: 11 arrays, 1,776 parameters",
        "  token_embedder: 1 array, 67,680 parameters",
        "new 2, the mean of the other rows: rows 4224 to 4229 of decoder/logits_dense/kernel, …",
        "skipped 1, safetensors has no place for it: file spiece.model",
    ]
    assert run_convert(t5, f"t5x:{tmp_path}/t5x", "--verbose") == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2 + 1 + 3 + 29 + 2 + 2
    assert lines[3:5] == [
        "  decoder: 17 arrays, 69,888 parameters",
        "    decoder/decoder_norm/scale",
    ]
    assert lines[-2:] == ["skipped 1, t5x has no place for it:", "  file spiece.model"]


def test_a_run_goes_into_other_formats_with_its_adapters_and_gates(start, tmp_path, capsys):
    arguments = test_train.train_arguments(tmp_path / "run", TRAIN_STEPS=1, EVAL_SPLIT=None)
    gates = ["--gin.GRID_ROWS=4", "--gin.GRID_CONDITION=task_embedding"]
    assert main.main([*arguments, "--gin_file=adapters/hypergrid_l.gin", *gates]) == 0
    source = f"run:{tmp_path}/run"
    assert run_convert(source, f"safetensors:{tmp_path}/a.safetensors", "--step=last") == 0
    weights = formats.read(f"{tmp_path}/a.safetensors")
    assert {path for path in weights.arrays if "hypergrid" not in path} == set(start.arrays)
    assert len(weights.arrays) == len(start.arrays) + 2 * 2  # a factor and a table of tasks
    assert weights.config.decoder_adapter == start.config.decoder_adapter
    assert weights.config.decoder_hypergrid.condition == "task_embedding"
    # T5X holds parameters alone; the configuration says what they are of.
    assert run_convert(source, f"t5x:{tmp_path}/b") == 0
    assert (tmp_path / "b" / "checkpoint_1").is_dir()
    flag = f"--gin_file={tmp_path}/run/{configured.SAVED_CONFIG}"
    assert run_convert(f"{tmp_path}/b", f"safetensors:{tmp_path}/c.safetensors", flag) == 0
    test_conversion.assert_same(formats.read(f"{tmp_path}/c.safetensors"), weights)
    # All parameters are drawn: the folder holds the backbone too.
    assert run_convert(source, f"adapters:{tmp_path}/d") == 0
    assert run_convert(f"{tmp_path}/d", f"safetensors:{tmp_path}/e.safetensors") == 0
    test_conversion.assert_same(formats.read(f"{tmp_path}/e.safetensors"), weights)
    flags = ["--fold", "--task=demo_topic"]
    assert run_convert(f"{tmp_path}/d", f"safetensors:{tmp_path}/g.safetensors", *flags) == 0
    report = capsys.readouterr().out
    assert "skipped 4, folded into the kernels that they scale, for demo_topic: decoder_h" in report
    folded = conversion.fold_gates(weights, "demo_topic")
    test_conversion.assert_same(formats.read(f"{tmp_path}/g.safetensors"), folded)
    assert run_convert(source, f"hugging_face:{tmp_path}/f") == 2
    message = capsys.readouterr().err
    assert (
        "must hold exactly the parameters of the model; missing: none; unexpected: decoder_adapters"
        in (message)
    )
    assert "convert --fold makes its gates part of its kernels" in message
    assert run_convert(source, f"adapters:{tmp_path}/f", "--step=5") == 2
    assert "holds those of steps [1]" in capsys.readouterr().err
    assert not (tmp_path / "f").exists()


def test_a_t5_with_gates_becomes_one_of_hugging_face(tmp_path):
    grids = dict(
        encoder_hypergrid=HyperGridConfig(2, 4, "L2", "task_embedding"),
        decoder_hypergrid=HyperGridConfig(2, 4, "GG", kernels="both"),
    )
    weights = test_conversion.with_tasks(test_conversion.make(mlp_dim=12, **grids), "abcd")
    source = test_conversion.write(weights, "safetensors", tmp_path)
    assert run_convert(source, f"hugging_face:{tmp_path}/t5", "--fold", "--task=c") == 0
    found = formats.read(f"{tmp_path}/t5")
    test_conversion.assert_same(found, conversion.fold_gates(weights, "c"))


# What is refused; nothing is written.


def truncate(folder):
    file = next(folder.glob("*.safetensors"))
    file.write_bytes(file.read_bytes()[:-7])
    return "is not: "


def remove_config(folder):
    (folder / "config.json").unlink()
    return "must come with their config.json"


def remove_shard(folder):
    sorted(folder.glob("*.safetensors"))[1].unlink()
    return "must be beside it; missing: model-00002-of-"


def replace_vocabulary(folder):
    edit_config(folder, vocab_size=64)
    return "token_embedder/embedding is (4224, 16) there and (64, 16) in the model"


def break_vocabulary(folder):
    (folder / "spiece.model").write_text("<html>")
    return "must be a SentencePiece model"


def drop_array(folder):
    index = folder / "model.safetensors.index.json"
    fields = json.loads(index.read_text())
    last = sorted(set(fields["weight_map"].values()))[-1]
    fields["weight_map"] = {k: v for k, v in fields["weight_map"].items() if v != last}
    index.write_text(json.dumps(fields))
    return "missing: "


def edit_config(folder, **fields):
    file = folder / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | fields))


def put_code(folder):
    """A pickle that would write a file if anybody ran it."""
    for file in folder.glob("*.safetensors*"):
        file.unlink()
    content = {"shared.weight": Evil(folder.parent / "was_run")}
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps(content, protocol=2))
    return "nothing of it was run"


class Evil:
    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return (pathlib.Path.touch, (self.marker,))


DAMAGES = [truncate, remove_config, remove_shard, replace_vocabulary, break_vocabulary, drop_array]


@pytest.fixture(params=[*DAMAGES, pytest.param(put_code, marks=pytest.mark.torch)])
def damaged(request, t5, tmp_path):
    """A damaged folder, and what is said of it."""
    if request.param is put_code:
        pytest.importorskip("torch", reason="PyTorch is not installed")
    folder = shutil.copytree(t5, tmp_path / "damaged")
    return folder, request.param(folder)


def test_damaged_weights_are_not_converted(damaged, tmp_path, capsys):
    folder, message = damaged
    assert run_convert(folder, f"t5x:{tmp_path}/new/folder") == 2
    assert message in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["damaged"]


def test_damaged_weights_are_no_start(damaged, start):
    folder, message = damaged
    with pytest.raises((ValueError, OSError), match=re.escape(message)):
        start_lib.open_start(Model(start.config), str(folder), seed=0)


@pytest.mark.parametrize("damaged", [truncate, break_vocabulary], indirect=True)
def test_no_run_starts_from_damaged_weights(damaged, tmp_path, capsys):
    folder, message = damaged
    arguments = test_train.train_arguments(tmp_path / "run", INITIAL_CHECKPOINT_PATH=folder)
    assert main.main(arguments) == 2
    assert message in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["damaged"]


def test_a_vocabulary_of_other_weights_is_refused(t5, tmp_path, capsys):
    arguments = test_train.train_arguments(tmp_path / "run", INITIAL_CHECKPOINT_PATH=t5)
    assert main.main([*arguments, "--vocabulary=bytes"]) == 2
    assert "must be the one that the initial checkpoint was trained with" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_a_failure_in_the_middle_of_writing_leaves_nothing(t5, tmp_path, capsys):
    assert run_convert(t5, f"t5x:{tmp_path}/t5x") == 0
    chunk = tmp_path / "t5x/checkpoint_0/target.token_embedder.embedding/0.0"
    chunk.write_bytes(chunk.read_bytes()[:100])
    (tmp_path / "empty").mkdir()
    for target in ("t5x_orbax", "safetensors", "hugging_face"):
        assert run_convert(tmp_path / "t5x", f"{target}:{tmp_path}/empty") == 2
        assert "must hold all chunks of its arrays, undamaged" in capsys.readouterr().err
        assert list((tmp_path / "empty").iterdir()) == []
        assert sorted(path.name for path in tmp_path.iterdir()) == ["empty", "t5x"]


def test_what_a_killed_conversion_left_is_removed_by_the_next(tmp_path):
    place = epath.Path(tmp_path / "t5[1]")
    for name in (f"{2**22 + 1}-t5[1]", f"{os.getppid()}-t5[1]", f"{2**22 + 1}-other"):
        (tmp_path / f".unfinished-{name}").mkdir()
    with convert.atomic(place) as unfinished:
        unfinished.write_text("")
    left = {path.name for path in tmp_path.iterdir()}
    assert left == {
        "t5[1]", f".unfinished-{os.getppid()}-t5[1]", f".unfinished-{2**22 + 1}-other"
    }  # fmt: skip


@pytest.mark.parametrize("name", ["safetensors", "hugging_face"])
def test_a_full_disk_leaves_nothing(t5, tmp_path, capsys, monkeypatch, name):
    def refuse(*_):
        raise safetensors.SafetensorError("No space left on device (os error 28)")

    monkeypatch.setattr(safetensors_numpy, "save_file", refuse)
    assert run_convert(t5, f"{name}:{tmp_path}/new/t5") == 2
    message = "new/t5 could not be made: No space left on device (os error 28). Make room there"
    assert message in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_link_is_followed_and_the_folder_one_is_in_stays(t5, tmp_path, monkeypatch, capsys):
    (tmp_path / "here").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "there")
    monkeypatch.chdir(tmp_path / "here")
    assert run_convert(t5, "hugging_face:.") == 2
    assert "here is the folder you are in, or a disk" in capsys.readouterr().err
    assert run_convert(t5, "hugging_face:../link") == 0
    assert files_under(tmp_path / "there")["spiece.model"] == DEMO_VOCABULARY.read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["here", "link", "there"]


@pytest.mark.parametrize(
    ("source", "target", "flags", "message"),
    [
        ("{t5}", "hf:{new}", [], "--to must begin with one of the formats"),
        ("{t5}", "hugging_fase:{new}", [], "Did you mean 'hugging_face'?"),
        ("{t5}", "{new}", [], "--to must be FORMAT:PATH"),
        ("{t5}", "t5x:{t5}", [], "--to must name a place where nothing is"),
        ("{new}", "t5x:{new}2", [], "there is nothing at"),
        ("", "t5x:{new}", [], "--from must name a path; got ''. Write the folder"),
        ("{t5}", "t5x:", [], "--to must name a path; got 't5x:'. Write the folder"),
        ("https://a.b/t5", "t5x:{new}", [], "or in a bucket (gs://…); got https://a.b/t5. Name a"),
        ("{t5}", "t5x:https://{new}", [], "or in a bucket (gs://…); got https://"),
        ("{t5}", "t5x:/proc", [], "/proc is the folder you are in, or a disk of its own, as"),
        ("{t5}", "t5x:/proc/no", [], "Everything must be written; /proc/no could not be made: ["),
        ("t5x:{t5}", "t5x:{new}", [], "checkpoint"),
        (
            "run:{t5}",
            "adapters:{new}",
            [],
            "must say format 'hyperdecoders_jax run'; it belongs",
        ),
        ("run:{new}", "adapters:{new}2", [], "must have left its config.json"),
        ("{t5}", "adapters:{new}", [], "must be made of a training run"),
        (
            "{t5}",
            "t5x:{new}",
            ["--step=best"],
            "--step must go with --from=run; got --step and --from=hug",
        ),
        ("{t5}", "t5x:{new}", ["--backbone=a"], "--backbone must go with --from=adapters;"),
        ("{t5}", "t5x:{new}", ["--gin_file=a.gin"], "must go with --from=t5x or t5x_orbax or saf"),
        ("{t5}", "t5x:{new}", ["--dtype=float16"], "must be one of ('float32', 'bfloat16')"),
        (
            "{t5}",
            "t5x:{new}",
            ["--vocab_size=0"],
            "--vocab_size must be from 1 to 10,000,000; got 0",
        ),
        ("run:{t5}", "adapters:{new}", ["--dtype=bfloat16"], "as it was trained; got --vocab_size"),
        ("run:{t5}", "adapters:{new}", ["--fold"], "as it was trained; got --vocab_size"),
        ("{t5}", "t5x:{new}", ["--task=rte"], "--task must go with --fold, and names the task"),
        ("{t5}", "t5x:{new}", ["--fold"], "--fold must be given a model with gates; this one has"),
    ],
)
def test_a_command_that_cannot_be_meant_is_refused(
    t5, tmp_path, capsys, source, target, flags, message
):
    places = {"t5": t5, "new": tmp_path / "new"}
    before = files_under(t5)
    assert run_convert(source.format(**places), target.format(**places), *flags) == 2
    assert message in capsys.readouterr().err
    assert files_under(t5) == before
    assert not list(tmp_path.iterdir())


def test_a_configuration_must_be_that_of_the_weights(t5, tmp_path, capsys):
    assert run_convert(t5, f"t5x:{tmp_path}/t5x") == 0
    target = f"safetensors:{tmp_path}/new.safetensors"
    assert run_convert(f"{tmp_path}/t5x", target, "--gin_file=models/t5_small.gin") == 2
    assert "new.safetensors" not in [path.name for path in tmp_path.iterdir()]
    message = capsys.readouterr().err
    assert "must hold exactly the parameters of the model; missing: " in message


def test_a_file_of_the_package_is_found(tmp_path, capsys):
    assert run_convert("package://tasks/demo_data/demo_t5.safetensors", f"t5x:{tmp_path}/t5") == 0
    assert "loaded 75 arrays, 2,263,424 parameters of bfloat16" in capsys.readouterr().out


def test_a_step_must_be_a_number(trained_dir, capsys):
    assert run_convert(f"run:{trained_dir}", f"adapters:{trained_dir}/new", "--step=first") == 2
    error = capsys.readouterr().err
    assert "--step must be best, last or the number" in error
    assert "Leave it out for best." in error


@pytest.fixture
def trained_dir(tmp_path):
    tiny_runs.write_run(tmp_path)
    return tmp_path


def test_a_configuration_may_be_a_size_alone():
    config = convert.read_model_config(configured.Sources(["models/t5_1_1_small.gin"]))
    assert (config.emb_dim, config.encoder_adapter.source) == (512, "none")
