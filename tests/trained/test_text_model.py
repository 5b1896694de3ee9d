"""Folders of a trained model predict what its run predicts, from the same parameters, whichever
folder it is: the run's own, of its adapters, exported."""

import concurrent.futures
import dataclasses
import functools
import json
import pathlib
import shutil
import threading

import gin
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import hyperdecoders_jax
from hyperdecoders_jax import types
from hyperdecoders_jax.commands import configured, main
from hyperdecoders_jax.config import gin_binding
from hyperdecoders_jax.data import tokenizer, vocabulary
from hyperdecoders_jax.decoding.beam_search import BeamSearchConfig
from hyperdecoders_jax.model import Model
from hyperdecoders_jax.trained import start, text_model
from hyperdecoders_jax.training import trainable, trainer
from hyperdecoders_jax.weights import (
    adapter_folder,
    arrays,
    backbone,
    exported_folder,
    formats,
    names,
    safetensors_files,
    trained_model,
)
from tests import tiny
from tests.commands import test_train

TEXTS = ["topic: a pear", "topic: " + "a long one " * 9, "topic: dog", ""]


def make_run(folder, *flags, **macros):
    """A run of two steps and its adapter folder."""
    t5 = folder / "t5.safetensors"
    backbone.save(t5, test_train.tiny_start().params(), {})
    macros = {"TRAIN_STEPS": 2, "EVAL_SPLIT": None, "INITIAL_CHECKPOINT_PATH": t5, **macros}
    assert main.main([*test_train.train_arguments(folder / "model", **macros), *flags]) == 0
    arguments = [f"--from=run:{folder}/model", f"--to=adapters:{folder}/adapters"]
    assert main.main(["convert", *arguments]) == 0
    gin.clear_config()
    vocabulary.set_run_vocabulary(None)
    return folder


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Of adapters and gates on a frozen T5 in bfloat16."""
    gates = ("--gin_file=adapters/hypergrid_l.gin", "--gin.GRID_ROWS=4")
    return make_run(tmp_path_factory.mktemp("run"), *gates, FROZEN_DTYPE="bfloat16")


@pytest.fixture(scope="module")
def fine_tuned(tmp_path_factory):
    """Of all parameters."""
    macros = {"TrainableConfig.backbone": True, "INITIAL_CHECKPOINT_PATH": None}
    return make_run(tmp_path_factory.mktemp("fine_tuned"), **macros)


@pytest.fixture(scope="module")
def exported(run):
    """The same as a whole model in a folder of Hugging Face's; one that `hyperdecoders export`
    writes has more files."""
    model = formats.read_text(str(run / "model")).as_predicted()
    vocabulary.set_run_vocabulary(None)
    gin.clear_config()
    folder = run / "exported"
    folder.mkdir()
    exported_folder.write_weights(folder, model.description, model.arrays)
    (folder / "spiece.model").write_bytes(model.description.vocabulary.model)
    return folder


def call(*arguments):
    """Runs a command, and forgets what it has set."""
    assert main.main(list(arguments)) == 0
    gin.clear_config()
    vocabulary.set_run_vocabulary(None)


def value_of(macro):
    value = gin.query_parameter(f"{macro}/gin.macro.value")
    return value.scoped_configurable_fn() if hasattr(value, "scoped_configurable_fn") else value


def trained_params(folder, model, config):
    """The parameters of the trainer's checkpoint, in the trainer's types."""
    shapes, frozen = trainable.split(model.param_shapes(), config)
    trained = trainer.RunDirectory(str(folder / "model")).checkpoints().load_trainable(shapes, 2)
    if not frozen:
        return trained
    t5 = backbone.open(str(folder / "t5.safetensors"), model.config).params()
    return trainable.merge(trained, trainable.cast_frozen(t5, "bfloat16"))


@pytest.mark.parametrize(
    ("name", "config"),
    [
        ("run", trainable.TrainableConfig()),
        ("fine_tuned", trainable.TrainableConfig(backbone=True)),
    ],
)
def test_parameters_are_those_of_the_trainer(request, name, config):
    folder = request.getfixturevalue(name)
    loaded = hyperdecoders_jax.load(folder / "adapters")
    expected = trained_params(folder, loaded.model, config)
    jax.tree.map(np.testing.assert_array_equal, loaded.params, expected)
    dtypes = [jax.tree.map(lambda x: x.dtype, tree) for tree in (loaded.params, expected)]
    assert dtypes[0] == dtypes[1]


@pytest.mark.parametrize("name", ["run", "fine_tuned"])
def test_predictions_are_those_of_infer(request, name, tmp_path, capsys):
    folder = request.getfixturevalue(name)
    lines = tmp_path / "lines.jsonl"
    lines.write_text("\n".join(json.dumps({"inputs": text}) for text in TEXTS))
    capsys.readouterr()
    call("infer", f"--model_dir={folder}/model", f"--input={lines}")
    expected = [json.loads(line)["prediction"] for line in capsys.readouterr().out.splitlines()]
    model = hyperdecoders_jax.load(folder / "adapters")
    assert len(expected) == len(TEXTS)
    assert model.predict(TEXTS) == expected


def test_predictions_do_not_depend_on_the_batch(run):
    model = hyperdecoders_jax.load(run / "adapters")
    expected = model.predict(TEXTS)
    assert model.predict(TEXTS, batch_size=3, task="demo_topic") == expected
    assert model.predict([]) == []


def test_infer_prints_the_same_for_a_run_and_its_export(run, exported, tmp_path, capsys):
    path = tmp_path / "lines.jsonl"
    long = json.dumps({"inputs": "topic: " + "a long one " * 30, "id": 7})
    path.write_text(f'topic: a pear\n\n{long}\n{{"inputs": "a", "task": "demo_find"}}')
    capsys.readouterr()
    printed = []
    for flag in ("--model_dir", "--checkpoint"):
        call("infer", f"{flag}={run}/model", f"--input={path}")
        printed.append(capsys.readouterr())
    call("infer", f"--checkpoint={exported}", f"--input={path}")
    printed.append(capsys.readouterr())
    records = [[json.loads(line) for line in out.splitlines()] for out, _ in printed]
    likelihoods = [[record.pop("log_likelihood") for record in of_one] for of_one in records]
    np.testing.assert_allclose(likelihoods[1:], [likelihoods[0]] * 2, rtol=1e-5)
    assert records == [records[0]] * 3
    assert [record.get("id") for record in records[0]] == [None, 7, None]
    assert all("1 of 3 inputs are longer than 48 tokens and were cut" in err for _, err in printed)


@pytest.mark.parametrize("kind", ["exported", "model", "adapters"])
def test_a_folder_is_evaluated_as_its_run(run, exported, kind, tmp_path, capsys):
    common = ["--gin.EVAL_EXAMPLES=9", "--gin.EVAL_SPLIT=validation", "--gin.BATCH_SIZE=4"]
    capsys.readouterr()
    call("eval", f"--model_dir={run}/model", f"--gin.EVAL_OUTPUT_DIR={tmp_path}/run", *common)
    expected = capsys.readouterr().out
    # Neither an experiment nor a mixture's file.
    init = [f"--init={run}/{kind}", "--gin.MIXTURE_OR_TASK_NAME=demo_topic"]
    call("eval", *init, f"--model_dir={tmp_path}/new", *common)
    assert capsys.readouterr().out == expected
    theirs, ours = tmp_path / "run", tmp_path / "new" / "eval_validation"
    step = 2 if kind == "model" else 0
    for name in ("metrics-{}.json", "demo_topic/{}.jsonl"):
        assert (ours / name.format(step)).read_text() == (theirs / name.format(2)).read_text()


def test_a_run_starts_from_all_of_an_exported_folder(exported):
    arguments = ["train", f"--init={exported}", "--model_dir=/nowhere",
                 "--gin_file=mixtures/demo.gin", "--gin_file=optim/adamw_linear.gin"]  # fmt: skip
    args = main.make_parser().parse_args(arguments)
    given = configured.sources(args, [("TRAIN_STEPS", "1")], init=args.init)
    gin_binding.parse(given.first("runs/embedded/train.gin").read())
    model, trained, tasks, lengths, path, words = map(
        value_of,
        ("MODEL", "TRAINABLE", "TASK_NAMES", "TASK_FEATURE_LENGTHS", "INITIAL_CHECKPOINT_PATH",
         "VOCABULARY"),
    )  # fmt: skip
    gin.clear_config()
    loaded = hyperdecoders_jax.load(exported)
    assert dataclasses.replace(model.config, dropout_rate=0.0) == loaded.model.config
    assert (model.decoding, path, words) == (loaded.model.decoding, str(exported), str(exported))
    # The mixture's file has said its own, and the model reads any task.
    assert (lengths, tasks) == ({"inputs": 32, "targets": 12}, None)
    assert trained == trainable.TrainableConfig()
    params = start.open_start(model, path, seed=0).params()
    jax.tree.map(np.testing.assert_array_equal, params, loaded.params)


@pytest.mark.parametrize("kind", ["model", "adapters", "exported"])
def test_several_threads_may_load_at_once(run, exported, kind):
    begin = threading.Barrier(4)

    def load(_):
        begin.wait()
        model = hyperdecoders_jax.load(run / kind)
        return model, model.predict(TEXTS)

    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        (first, texts), *others = pool.map(load, range(4))
    for model, same_texts in others:
        assert (model.model, model.task_names) == (first.model, first.task_names)
        assert model.task_feature_lengths == first.task_feature_lengths
        assert model.tokenizer.encode("a pear") == first.tokenizer.encode("a pear")
        jax.tree.map(np.testing.assert_array_equal, model.params, first.params)
        assert same_texts == texts


def test_what_the_vocabulary_cannot_write_is_told_once(caplog):
    model = pathlib.Path(vocabulary.DEMO_VOCABULARY_PATH).read_bytes()
    config = tiny.make_config("none", "none")
    reader = text_model.TextReader(config, tokenizer.make(model, 100), (), max_len=8)
    for texts in (["fine"], ["naïve", "fine"], ["naïve"]):
        assert len(reader.rows([(text, None) for text in texts])) == len(texts)
    (record,) = caplog.records
    assert record.message.startswith("1 of 3 texts hold what the vocabulary cannot write, 'ï'")


def test_only_a_few_programs_are_compiled(run):
    loaded = hyperdecoders_jax.load(run / "adapters")
    # A length of targets that no other test has, as equal models share their programs.
    lengths = {**loaded.task_feature_lengths, "targets": 3}
    model = dataclasses.replace(loaded, task_feature_lengths=lengths)
    for length in (1, 2, 3, 20, 21, 22):
        model.predict(["a" * length, "b"])
    assert model._predict._cache_size() <= 2


def test_what_a_folder_holds_is_what_the_backbone_does_not(run, fine_tuned):
    stored = safetensors_files.open(run / "adapters" / "adapters.safetensors")
    keys = sorted({path.split("/")[0] for path in stored})
    assert keys == ["decoder_adapters", "decoder_hypergrid", "encoder_adapters",
                    "encoder_hypergrid"]  # fmt: skip
    fields = json.loads((run / "adapters" / "config.json").read_text())
    assert fields["backbone"]["source"] == str(run / "t5.safetensors")
    assert fields["task_names"] == ["demo_topic"]
    assert fields["task_feature_lengths"] == {"inputs": 48, "targets": 4}
    fields = json.loads((fine_tuned / "adapters" / "config.json").read_text())
    assert fields["backbone"] is None


def test_the_report_tells_what_the_backbone_has(run, tmp_path, capsys):
    arguments = [f"--from={run}/model", f"--to=adapters:{tmp_path}/adapters"]
    assert main.main(["convert", *arguments]) == 0
    out = capsys.readouterr().out
    assert f"Read run at {run}/model.\nloaded 50 arrays, " in out
    assert "skipped 29, the backbone has them: decoder/decoder_norm/scale" in out


def test_a_backbone_that_was_moved_is_named_and_another_one_refused(run, tmp_path):
    folder = shutil.copytree(run / "adapters", tmp_path / "adapters")
    config = folder / "config.json"
    fields = json.loads(config.read_text())
    fields["backbone"]["source"] = "/gone/t5.safetensors"
    config.write_text(json.dumps(fields))
    message = r"need the T5 .*, /gone/t5.safetensors: .*nothing at.*Pass its path here as backbone"
    with pytest.raises(FileNotFoundError, match=message):
        hyperdecoders_jax.load(folder)
    t5 = str(run / "t5.safetensors")
    expected = hyperdecoders_jax.load(run / "adapters").predict(TEXTS[:1])
    assert hyperdecoders_jax.load(folder, backbone=t5).predict(TEXTS[:1]) == expected
    # In whichever format it is now.
    assert main.main(["convert", f"--from={t5}", f"--to=t5x:{tmp_path}/t5x"]) == 0
    moved = hyperdecoders_jax.load(folder, backbone=str(tmp_path / "t5x"))
    assert moved.predict(TEXTS[:1]) == expected
    other = tmp_path / "other.safetensors"
    loaded = hyperdecoders_jax.load(folder, backbone=t5)
    backbone.save(other, jax.tree.map(lambda x: np.asarray(x) * 2, loaded.params), {})
    with pytest.raises(
        ValueError, match=r"must be the one .*/gone.* of fingerprint \w{12}; .*other"
    ):
        hyperdecoders_jax.load(folder, backbone=str(other))


def test_a_folder_that_lacks_a_parameter_is_refused(run, tmp_path):
    folder = shutil.copytree(run / "adapters", tmp_path / "adapters")
    file = folder / "adapters.safetensors"
    arrays = dict(safetensors_files.open(file))
    name = next(iter(arrays))
    arrays["encoder_adapters/more"] = arrays.pop(name)
    metadata = safetensors_files.metadata(file)
    safetensors_files.write_file(tmp_path / "new.safetensors", arrays, metadata)
    (tmp_path / "new.safetensors").rename(file)
    with pytest.raises(
        ValueError, match=r"missing: \w+_adapters/.*; unexpected: encoder_adapters/more"
    ):
        hyperdecoders_jax.load(folder)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"texts": "topic: a pear"}, r"must be a list of texts; got the text 'topic: a pear'"),
        ({"texts": ["a", None]}, r"must be a string; got None of type NoneType\. Decode bytes"),
        ({"texts": TEXTS, "batch_size": 0}, r"batch_size must be at least 1; got 0"),
        ({"texts": TEXTS, "seed": 10**20}, r"seed must be from 0 to 4294967295; got 10000000000"),
    ],
)  # fmt: skip
def test_a_call_that_cannot_be_meant_is_refused(run, arguments, message):
    with pytest.raises(ValueError, match=message):
        hyperdecoders_jax.load(run / "adapters").predict(**arguments)


def write_folder(folder, encoder, decoder, unseen_tasks="error"):
    """An adapter folder of all parameters of a model with the vocabulary of bytes."""
    layers = dict(num_encoder_layers=1, num_decoder_layers=1)
    config = tiny.make_config(encoder, decoder, vocab_size=259, **layers)
    adapters = {
        side: dataclasses.replace(getattr(config, side), unseen_tasks=unseen_tasks)
        for side in ("encoder_adapter", "decoder_adapter")
    }
    config = dataclasses.replace(config, num_tasks=2, **adapters)
    params = tiny.make_params(Model(config))
    description = trained_model.Description(
        model=config,
        decoding=BeamSearchConfig(num_beams=2),
        backbone=None,
        vocabulary=trained_model.Vocabulary(tokenizer.BYTES_MODEL, 0),
        task_names=("cola", "sst2"),
        task_feature_lengths={"inputs": 13, "targets": 6},
        step=3,
    )
    adapter_folder.write(folder, description, arrays.in_memory(names.flatten(params)))
    return params


@pytest.mark.parametrize(
    ("encoder", "decoder"), [("task", "generated"), ("none", "manual_specific")]
)
def test_a_model_with_parameters_for_each_task_needs_to_know_the_task(tmp_path, encoder, decoder):
    write_folder(tmp_path, encoder, decoder)
    loaded = hyperdecoders_jax.load(tmp_path)
    for task, got in ((None, "got None"), ("sst3", "got 'sst3'. Did you mean 'sst2'")):
        with pytest.raises(ValueError, match=rf"must be one of \('cola', 'sst2'\); {got}"):
            loaded.predict(["abc"], task=task)


def test_a_text_is_predicted_with_the_parameters_of_its_task(tmp_path):
    params = write_folder(tmp_path, "task", "manual_specific")
    loaded = hyperdecoders_jax.load(tmp_path)
    inputs = jnp.array([[*(ord(letter) + 3 for letter in "abc"), 1, 0, 0, 0, 0]])
    nothing = jnp.zeros((1, 1), jnp.int32)
    predict = jax.jit(functools.partial(loaded.model.predict, max_len=6))
    for task_id, task in enumerate(("cola", "sst2")):
        batch = types.Batch(inputs, nothing, nothing, nothing, jnp.array([task_id]))
        tokens = predict(params, batch).tokens[0, 0]
        assert loaded.predict(["abc"], task=task) == [loaded.tokenizer.decode(tokens)]


def test_a_path_must_name_something():
    with pytest.raises(ValueError, match="must be given a folder or a hub id; got an empty path"):
        hyperdecoders_jax.load("")


def test_an_unseen_task_may_have_the_mean_of_all(tmp_path):
    write_folder(tmp_path, "task", "task", unseen_tasks="mean")
    loaded = hyperdecoders_jax.load(tmp_path)
    assert len(loaded.predict(["abc", "de"], task="another")) == 2
    with pytest.raises(ValueError, match="got None"):
        loaded.predict(["abc"])
