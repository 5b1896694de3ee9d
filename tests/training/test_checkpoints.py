import json
import os
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hyperdecoders_jax.training import (
    optimizer,
    partitioning,
    schedules,
    train_state,
    trainable,
)
from hyperdecoders_jax.training.checkpoints import Checkpoints
from hyperdecoders_jax.training.identity import Identity, identity_of

ADAMW = optimizer.AdamWConfig()
IDENTITY = Identity(
    task_names=("cola", "sst2"),
    model={"emb_dim": 8, "decoder_adapter": {"source": "generated"}, "activations": ("gelu",)},
    frozen_source="t5.safetensors",
    frozen_fingerprint="f00d",
    vocabulary_fingerprint="cafe",
)


def make_tx(config=ADAMW):
    return optimizer.make_optimizer(config, schedules.ConstantConfig(0.1).make(1))


def make_state(step=3, shape=(3, 5), seed=0, tx=None):
    rng = np.random.default_rng(seed)

    def fill(x):
        if jnp.issubdtype(x.dtype, jnp.floating):
            return jnp.asarray(rng.normal(size=x.shape), x.dtype)
        return x + 7

    trained = {"adapters": {"kernel": jnp.zeros(shape), "bias": jnp.zeros(shape[-1])}}
    state = train_state.create(trained, tx or make_tx(), jax.random.key(seed))
    filled = jax.tree.map(fill, state.replace(rng=None))
    return filled.replace(rng=state.rng, step=jnp.int32(step))


def shapes_of(state):
    return jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), state
    )


def assert_equal(a, b):
    assert jax.tree.structure(a) == jax.tree.structure(b)
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        assert x.dtype == y.dtype
        if jnp.issubdtype(x.dtype, jax.dtypes.prng_key):
            x, y = jax.random.key_data(x), jax.random.key_data(y)
        np.testing.assert_array_equal(x, y)


def save_evaluated(checkpoints, step, value):
    checkpoints.save(make_state(step), position=None)
    checkpoints.record(step, {}, value)


@pytest.fixture
def directory(tmp_path):
    return tmp_path / "checkpoints"


@pytest.mark.parametrize("config", [optimizer.AdamWConfig(), optimizer.AdafactorConfig()])
def test_a_state_comes_back_as_it_was(directory, config):
    state = make_state(tx=make_tx(config))
    checkpoints = Checkpoints(directory, IDENTITY)
    checkpoints.save(state, {"epoch": 2})
    checkpoints.record(3, {"cola": {"accuracy": 50.0}}, 50.0)
    restored = Checkpoints(directory, IDENTITY).restore(shapes_of(state))
    assert_equal(restored.state, state)
    assert restored.position == {"epoch": 2}
    assert restored.metrics == {"cola": {"accuracy": 50.0}}


def test_a_run_is_described_in_its_checkpoint(directory):
    checkpoints = Checkpoints(directory, IDENTITY, config_text="LinearConfig.learning_rate = 1")
    checkpoints.save(make_state(step=3), position=None)
    run = checkpoints.read_run(3)
    assert run["step"] == 3
    assert run["config"] == "LinearConfig.learning_rate = 1"
    assert identity_of(run).to_json() == IDENTITY.to_json()


def test_nothing_saved_restores_nothing(directory):
    assert Checkpoints(directory, IDENTITY).restore(shapes_of(make_state())) is None


def test_a_relative_folder_works_and_a_remote_one_stays_as_it_is(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    state = make_state()
    Checkpoints("run/checkpoints", IDENTITY).save(state, position=None)
    restored = Checkpoints(tmp_path / "run/checkpoints", IDENTITY).restore(shapes_of(state))
    assert_equal(restored.state, state)
    assert str(Checkpoints("gs://bucket/run", IDENTITY).directory) == "gs://bucket/run"


def test_the_newest_is_restored(directory):
    checkpoints = Checkpoints(directory, IDENTITY)
    for step in (9, 10, 100):
        checkpoints.save(make_state(step), position=step)
    assert checkpoints.restore(shapes_of(make_state())).position == 100


def test_the_last_and_the_best_are_kept(directory):
    checkpoints = Checkpoints(directory, IDENTITY, keep_last=2)
    for step, value in enumerate([1.0, 9.0, 3.0, None, 4.0], start=1):
        save_evaluated(checkpoints, step, value)
    assert checkpoints.steps() == [2, 4, 5]
    assert checkpoints.best_step() == 2


def test_a_damaged_best_is_passed_over(directory):
    checkpoints = Checkpoints(directory, IDENTITY)
    for step, value in enumerate([1.0, 9.0, 3.0], start=1):
        save_evaluated(checkpoints, step, value)
    (directory / "2" / "run" / "metadata").write_text("{")
    assert checkpoints.best_step() == 3
    save_evaluated(checkpoints, 4, 2.0)
    with pytest.raises(ValueError, match=r"must be whole to be loaded; got .*2: run/metadata has"):
        checkpoints.load_trainable(shapes_of(make_state()).trainable, step=2)


def test_the_best_may_be_the_least(directory):
    checkpoints = Checkpoints(directory, IDENTITY, keep_last=1, greater_is_better=False)
    for step, value in enumerate([2.0, 1.0, 3.0], start=1):
        save_evaluated(checkpoints, step, value)
    assert checkpoints.steps() == [2, 3]
    # Who only reads need not be told.
    assert Checkpoints(directory).best_step() == 2


def test_all_are_kept_if_asked(directory):
    checkpoints = Checkpoints(directory, IDENTITY, keep_last=None)
    for step in (1, 2, 3, 4):
        checkpoints.save(make_state(step), position=None)
    assert checkpoints.steps() == [1, 2, 3, 4]


def test_a_checkpoint_truncated_in_any_file_is_skipped(directory, caplog):
    checkpoints = Checkpoints(directory, IDENTITY)
    for step in (1, 2):
        checkpoints.save(make_state(step), position=step)
    files = [path for path in (directory / "2").rglob("*") if path.is_file()]
    assert len(files) > 10
    copy = directory.parent / "copy"
    shutil.copytree(directory / "2", copy)
    for file in files:
        contents = file.read_bytes()
        file.write_bytes(contents[: len(contents) // 2])
        caplog.clear()
        restored = Checkpoints(directory, IDENTITY).restore(shapes_of(make_state()))
        assert restored.position == 1, file
        assert file.name in caplog.text, file
        assert str(directory / "2") in caplog.text
        file.write_bytes(contents)
    assert Checkpoints(directory, IDENTITY).restore(shapes_of(make_state())).position == 2


def test_a_changed_byte_and_a_missing_file_are_noticed(directory, caplog):
    checkpoints = Checkpoints(directory, IDENTITY)
    for step in (1, 2):
        checkpoints.save(make_state(step), position=step)
    files = [path for path in (directory / "2" / "trainable").rglob("*") if path.is_file()]
    file = max(files, key=lambda path: path.stat().st_size)
    contents = bytearray(file.read_bytes())
    contents[len(contents) // 2] ^= 1
    file.write_bytes(contents)
    assert checkpoints.newest_step() == 1
    assert f"{file.name} has other contents than were saved" in caplog.text
    file.unlink()
    assert checkpoints.newest_step() == 1
    assert f"{file.name} is missing" in caplog.text


def test_an_interrupted_save_is_skipped_and_replaced(directory, caplog):
    checkpoints = Checkpoints(directory, IDENTITY)
    for step in (1, 2):
        checkpoints.save(make_state(step), position=step)
    (directory / "2" / "manifest.json").unlink()
    assert checkpoints.newest_step() == 1
    assert "it was interrupted while it was saved" in caplog.text
    checkpoints.save(make_state(2), position="again")
    assert checkpoints.restore(shapes_of(make_state())).position == "again"


def test_a_damaged_checkpoint_is_replaced_and_a_whole_one_is_not(directory):
    checkpoints = Checkpoints(directory, IDENTITY)
    checkpoints.save(make_state(2), position="first")
    checkpoints.save(make_state(2, seed=1), position="second")
    assert checkpoints.restore(shapes_of(make_state())).position == "first"
    (directory / "2" / "run" / "metadata").write_text("{")
    checkpoints.save(make_state(2, seed=1), position="third")
    restored = checkpoints.restore(shapes_of(make_state()))
    assert restored.position == "third"
    assert_equal(restored.state, make_state(2, seed=1))


def test_an_evaluation_leaves_its_checkpoint_as_it_was(directory):
    checkpoints = Checkpoints(directory, IDENTITY)
    checkpoints.save(make_state(2), position=None)
    before = {path: path.read_bytes() for path in directory.rglob("*") if path.is_file()}
    checkpoints.record(2, {"cola": {"mcc": 5.0}}, 5.0)
    after = {path: path.read_bytes() for path in directory.rglob("*") if path.is_file()}
    assert after.keys() - before.keys() == {directory / "2" / "evaluation.json"}
    assert before.items() <= after.items()
    assert checkpoints.best_value() == 5.0


def test_a_damaged_evaluation_counts_as_none(directory, caplog):
    checkpoints = Checkpoints(directory, IDENTITY)
    save_evaluated(checkpoints, 2, 5.0)
    (directory / "2" / "evaluation.json").write_text("{")
    assert checkpoints.restore(shapes_of(make_state())).metrics is None
    assert checkpoints.best_step() is None
    assert "evaluation.json, which is damaged" in caplog.text


def test_what_a_killed_save_left_is_removed_by_the_next(directory):
    (directory / "2.orbax-checkpoint-tmp" / "trainable").mkdir(parents=True)
    checkpoints = Checkpoints(directory, IDENTITY)
    assert checkpoints.newest_step() is None
    checkpoints.save(make_state(3), position=None)
    assert [path.name for path in directory.iterdir()] == ["3"]


@pytest.mark.parametrize("manifest", [None, "", "{"])
def test_a_first_save_that_was_interrupted_starts_anew(directory, manifest, caplog):
    checkpoints = Checkpoints(directory, IDENTITY)
    checkpoints.save(make_state(1), position=None)
    (directory / "1" / "manifest.json").unlink()
    if manifest is not None:
        (directory / "1" / "manifest.json").write_text(manifest)
    assert checkpoints.restore(shapes_of(make_state())) is None
    assert "it was interrupted while it was saved" in caplog.text


MANIFESTS = {
    "a list": lambda manifest: [],
    "nothing": lambda manifest: {},
    "sizes alone": lambda manifest: {name: size for name, (size, _) in manifest.items()},
    "texts": lambda manifest: dict.fromkeys(manifest, "a"),
    "texts for sizes": lambda manifest: {n: [str(s), h] for n, (s, h) in manifest.items()},
    "no run": lambda manifest: {n: x for n, x in manifest.items() if not n.startswith("run/")},
    "a file less": lambda manifest: dict(list(manifest.items())[:-1]),
    "a file more": lambda manifest: {**manifest, "trainable/more": [0, ""]},
    "a file outside": lambda manifest: {**manifest, "../1/manifest.json": [2, ""]},
    "a folder": lambda manifest: {**manifest, "trainable": [4096, ""]},
    "another hash": lambda manifest: {n: [s, h[::-1]] for n, (s, h) in manifest.items()},
    "too deep": lambda manifest: None,
}


@pytest.mark.parametrize("contents", MANIFESTS)
def test_a_manifest_of_other_contents_is_damage(directory, contents, caplog):
    checkpoints = Checkpoints(directory, IDENTITY)
    for step in (1, 2):
        checkpoints.save(make_state(step), position=step)
    file = directory / "2" / "manifest.json"
    changed = MANIFESTS[contents](json.loads(file.read_text()))
    file.write_text("[" * 100_000 + "]" if changed is None else json.dumps(changed))
    checkpoints = Checkpoints(directory, IDENTITY)
    assert checkpoints.restore(shapes_of(make_state())).position == 1
    assert f"Skipping checkpoint {directory}/2" in caplog.text
    shutil.rmtree(directory / "1")
    with pytest.raises(ValueError, match=rf"got damaged ones in {directory}: 2 \("):
        checkpoints.restore(shapes_of(make_state()))


def test_what_systems_put_beside_files_is_no_damage(directory):
    checkpoints = Checkpoints(directory, IDENTITY)
    checkpoints.save(make_state(1), position=None)
    for name in (".DS_Store", "trainable/.nfs0001", "notes.txt"):
        (directory / "1" / name).write_text("x")
    os.mkfifo(directory / "1" / "trainable" / ".pipe")
    assert Checkpoints(directory, IDENTITY).newest_step() == 1


@pytest.mark.parametrize(
    "evaluation",
    [
        [],
        {},
        {"metrics": {}},
        {"metrics": {"a": 3}, "value": 5.0},
        {"metrics": {"a": {"f1": "high"}}, "value": 5.0},
        {"metrics": {}, "value": "high"},
        {"metrics": {}, "value": float("nan")},
        {"metrics": {}, "value": 5.0, "greater_is_better": "yes"},
    ],
)
def test_an_evaluation_of_other_contents_counts_as_none(directory, evaluation, caplog):
    checkpoints = Checkpoints(directory, IDENTITY)
    checkpoints.save(make_state(2), position=None)
    (directory / "2" / "evaluation.json").write_text(json.dumps(evaluation))
    assert checkpoints.restore(shapes_of(make_state())).metrics is None
    assert checkpoints.best_step() is None
    assert "evaluation.json, which is damaged" in caplog.text


def test_metrics_that_are_not_finite_are_null_in_the_file(directory):
    checkpoints = Checkpoints(directory, IDENTITY)
    checkpoints.save(make_state(2), position=None)
    checkpoints.record(2, {"a": {"r": float("nan"), "f1": 5.0}}, None)
    text = (directory / "2" / "evaluation.json").read_text()
    assert json.loads(text, parse_constant=pytest.fail)["metrics"] == {"a": {"r": None, "f1": 5.0}}
    metrics = checkpoints.evaluation(2)["metrics"]["a"]
    assert np.isnan(metrics["r"])


def test_a_save_onto_a_full_disk_is_told_and_leaves_nothing(directory, monkeypatch):
    checkpoints = Checkpoints(directory, IDENTITY)
    checkpoints.save(make_state(1), position=None)

    def fill(folder, args):
        unfinished = directory / f"{folder.name}.orbax-checkpoint-tmp"
        unfinished.mkdir()
        raise ValueError("RESOURCE_EXHAUSTED: Error writing\nNo space left on device [errno=28]")

    monkeypatch.setattr(checkpoints._checkpointer, "save", fill)
    with pytest.raises(OSError, match=rf"^{directory}/2 must be written; .*Make room on its disk"):
        checkpoints.save(make_state(2), position=None)
    assert [path.name for path in directory.iterdir()] == ["1"]


def test_damaged_checkpoints_alone_are_refused(directory):
    checkpoints = Checkpoints(directory, IDENTITY)
    checkpoints.save(make_state(1), position=None)
    (directory / "1" / "run" / "metadata").write_text("{")
    with pytest.raises(ValueError, match=r"At least one checkpoint .* 1 \(run/metadata has"):
        checkpoints.restore(shapes_of(make_state()))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"task_names": ("sst2", "cola")}, r"task_names is \['cola', 'sst2'\] there and \['sst2"),
        ({"model": {**IDENTITY.model, "emb_dim": 16}}, "model.emb_dim is 8 there and 16 here"),
        ({"vocabulary_fingerprint": "beef"}, "vocabulary_fingerprint is 'cafe' there and 'beef'"),
        (
            {"frozen_fingerprint": "beef", "frozen_source": "other"},
            "came from 't5.safetensors' there and from 'other' here",
        ),
    ],
)
def test_a_checkpoint_of_another_run_is_refused(directory, changes, message):
    Checkpoints(directory, IDENTITY).save(make_state(), position=None)
    other = Identity(**{**vars(IDENTITY), **changes})
    with pytest.raises(ValueError, match=message) as error:
        Checkpoints(directory, other).restore(shapes_of(make_state()))
    assert "a checkpoint of another model" in str(error.value)
    assert "Give another --model_dir" in str(error.value)


def test_other_shapes_are_refused(directory):
    checkpoints = Checkpoints(directory, IDENTITY)
    checkpoints.save(make_state(), position=None)
    with pytest.raises(ValueError, match=r"adapters.kernel is \(\(3, 5\), 'float32'\) there and"):
        checkpoints.restore(shapes_of(make_state(shape=(4, 5))))


def test_another_set_of_trainable_parameters_is_refused(directory):
    checkpoints = Checkpoints(directory, IDENTITY)
    checkpoints.save(make_state(), position=None)
    trained = {"adapters": {"kernel": jnp.zeros((3, 5)), "gate": jnp.zeros(2)}}
    state = train_state.create(trained, make_tx(), jax.random.key(0))
    with pytest.raises(ValueError, match=r"bias is there and not here; .*gate is here and not th"):
        checkpoints.restore(shapes_of(state))


def test_another_optimizer_is_refused(directory):
    checkpoints = Checkpoints(directory, IDENTITY)
    checkpoints.save(make_state(), position=None)
    other = make_state(tx=make_tx(optimizer.AdafactorConfig()))
    with pytest.raises(ValueError, match=r"hold the progress arrays .* optimiser"):
        checkpoints.restore(shapes_of(other))


def test_trainable_parameters_load_alone_onto_a_sharding_or_the_host(directory):
    state = make_state(step=3)
    checkpoints = Checkpoints(directory, IDENTITY)
    checkpoints.save(state, position=None)
    sharding = partitioning.make_partitioner().replicated
    shapes = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding), state.trainable
    )
    loaded = checkpoints.load_trainable(shapes, step=3)
    assert_equal(loaded, state.trainable)
    assert loaded["adapters"]["kernel"].sharding == sharding
    host = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), state.trainable)
    assert_equal(checkpoints.load_trainable(host, step=3), state.trainable)


def test_a_checkpoint_is_as_large_as_what_is_trained(directory):
    state = make_state(shape=(500, 503))
    bytes_trained = 4 * trainable.num_parameters((state.trainable, state.opt_state))
    Checkpoints(directory, IDENTITY).save(state, position=None)
    size = sum(path.stat().st_size for path in directory.rglob("*") if path.is_file())
    assert 3e6 < bytes_trained < size / 0.8
    assert size <= 1.1 * bytes_trained


def test_other_settings_are_refused(directory):
    settings = {"seed": 1, "lengths": {"inputs": 8}}
    Checkpoints(directory, IDENTITY, settings=settings).save(make_state(), position=None)
    for same in (settings, {"seed": 1, "new": 2}, None):
        assert Checkpoints(directory, IDENTITY, settings=same).restore(shapes_of(make_state()))
    other = Checkpoints(directory, IDENTITY, settings={"seed": 1, "lengths": {"inputs": 9}})
    with pytest.raises(ValueError, match=r"other settings, .*lengths.inputs is 8 there and 9 here"):
        other.restore(shapes_of(make_state()))


def test_what_changed_is_told_from_the_beginning_whatever_came_between(directory):
    def start(rate, step):
        checkpoints = Checkpoints(
            directory, IDENTITY, recipe=None if rate is None else {"lr": rate}
        )
        restored = checkpoints.restore(shapes_of(make_state()))
        checkpoints.save(make_state(step=step), position=None)
        return restored and restored.changes

    # The first is of a version that stored no recipe.
    told = [start(rate, step) for step, rate in enumerate([None, 0.1, 0.2, 0.2, 0.1], start=1)]
    changed = "changed since the run began: lr 0.1 -> 0.2"
    assert told == [None, None, changed, changed, None]


def test_files_that_were_found_whole_are_not_read_again(directory):
    checkpoints = Checkpoints(directory, IDENTITY)
    checkpoints.save(make_state(1), position=None)
    assert checkpoints.newest_step() == 1
    files = [path for path in (directory / "1" / "trainable").rglob("*") if path.is_file()]
    file = max(files, key=lambda path: path.stat().st_size)
    file.write_bytes(bytes(file.stat().st_size))
    assert checkpoints.newest_step() == 1
    with pytest.raises(ValueError, match="has other contents than were saved"):
        Checkpoints(directory, IDENTITY).newest_step()


def test_keeping_none_is_refused(directory):
    with pytest.raises(ValueError, match="keep_last must be at least 1; got 0"):
        Checkpoints(directory, IDENTITY, keep_last=0)
