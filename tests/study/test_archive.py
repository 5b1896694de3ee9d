"""Archives of runs: the same tables from them alone, of several folders, and refusals."""

import dataclasses
import gzip
import json
import lzma
import shutil

import pytest

from hyperdecoders_jax.decoding.beam_search import BeamSearchConfig
from hyperdecoders_jax.study import archive, results, runs, settings, tables
from hyperdecoders_jax.tasks import mixtures  # noqa: F401 (registers the demo)
from hyperdecoders_jax.training import run_lock
from hyperdecoders_jax.training.schedules import LinearConfig
from hyperdecoders_jax.training.trainable import TrainableConfig
from tests.study import made

ABOUT = {"mixture": "demo", "matched": [], "choices": [], "version": "1", "published": None}
NAMES = [f"{name}/seed-{seed}" for name in ("adapter", "hyperdecoder") for seed in (1, 2, 3)]


def shown(comparison):
    found = results.collect(comparison, made.floors, ABOUT)
    return tables.text(found), json.dumps(tables.to_json(found))


def test_tables_of_several_archives_are_those_of_their_runs(tmp_path):
    whole = made.write_runs(made.make_comparison(tmp_path / "whole"))
    wanted = shown(whole)
    # One machine made a method, another one the other.
    for method in whole.methods:
        shutil.copytree(tmp_path / "whole" / method, tmp_path / method / method)
        archive.write(str(tmp_path / method))
    joined = made.make_comparison(tmp_path / "joined")
    (tmp_path / "joined").mkdir()
    for method in whole.methods:
        there = tmp_path / "joined" / f"runs-{method}.json.xz"
        shutil.copy(tmp_path / method / archive.FILE, there)
    archive.restore(str(tmp_path / "joined"), NAMES)
    assert runs.left(joined)[0] == 0
    assert shown(joined) == wanted
    for folder in ("whole", "joined"):
        archive.write(str(tmp_path / folder))
    here, there = ((tmp_path / x / archive.FILE).read_bytes() for x in ("whole", "joined"))
    assert here == there


def test_an_archive_has_a_thirtieth_of_the_scores_and_replaces_no_run(tmp_path):
    folder = tmp_path / "adapter" / "seed-1"
    scores = {"em": [100.0 * (i % 3 > 0) for i in range(2000)]}
    tasks = {"demo_find": {"num_examples": 2000, "metrics": {"em": 66.7}, "scores": scores}}
    made.write_scores(folder, tasks)
    archive.write(str(tmp_path))
    size = (folder / runs.SCORES_FILE).stat().st_size
    assert (tmp_path / archive.FILE).stat().st_size < size / 30
    runs.write(str(folder), {"seed": 7})
    archive.restore(str(tmp_path), NAMES)
    assert runs.read(str(folder)) == {"seed": 7}
    assert not (tmp_path / "hyperdecoder").exists()


def test_an_archive_of_an_earlier_version_is_read(tmp_path):
    run = {"adapter/seed-1": {"scores": {"seed": 1}, "curves": []}}
    packed = gzip.compress(json.dumps(run).encode())
    (tmp_path / "runs.json.gz").write_bytes(packed)
    assert archive.restore(str(tmp_path), NAMES) == 1
    assert runs.read(str(tmp_path / "adapter" / "seed-1")) == {"seed": 1}


@pytest.mark.parametrize(
    ("name", "content"),
    [
        (archive.FILE, b""),
        (archive.FILE, b"no xz"),
        (archive.FILE, lzma.compress(b"[1")),
        ("runs.json.gz", b"no gzip"),
    ],
)
def test_a_damaged_archive_is_told(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=r"must hold runs, as compare writes them.*remove it"):
        archive.restore(str(tmp_path), NAMES)


def test_a_finished_run_with_other_settings_is_refused(tmp_path):
    comparison = made.make_comparison(tmp_path, seeds=(1,))
    run = comparison.run("adapter", 1)
    there = settings.of_run(run, "test")
    made.write_scores(run.model_dir, {}, settings=there)
    settings.check_finished(comparison)
    runs.write(run.model_dir, {"settings": there | {"lengths": "8", "steps": "9"}})
    with pytest.raises(ValueError, match=r"seed-1 has lengths 8 there.*; steps 9 there and 40"):
        settings.check_finished(comparison)


def test_settings_are_all_that_changes_scores(tmp_path):
    run = made.make_comparison(tmp_path, seeds=(1,)).run("adapter", 1)
    there = settings.of_run(run, "test")
    model, evaluation = run.model, run.evaluation
    for other in (
        dataclasses.replace(run, model=dataclasses.replace(model, decoding=BeamSearchConfig(4))),
        dataclasses.replace(run, schedule=LinearConfig(0.5, 1)),
        dataclasses.replace(run, evaluation=dataclasses.replace(evaluation, split="test")),
        dataclasses.replace(run, trainable=TrainableConfig(backbone=True)),
        dataclasses.replace(run, start=dataclasses.replace(run.start, frozen_dtype="bfloat16")),
    ):
        with pytest.raises(ValueError, match="must have the settings of its comparison"):
            settings.check_same(there, settings.of_run(other, "test"), "here")
    same = dataclasses.replace(run, evaluation=dataclasses.replace(evaluation, batch_size=7))
    settings.check_same(there, settings.of_run(same, "test"), "here")


def test_runs_of_other_data_or_another_t5_under_the_same_names_are_refused():
    def scores(examples="a", named="t5", **contents):
        tasks = {"demo_find": {"examples": examples}}
        return {"settings": {"T5": named}, "contents": contents, "tasks": tasks}

    first = {"out/x/seed-1": scores(T5="1", **{"trained on": {"own": {"train_examples": "5"}}})}
    earlier = {"out/x/seed-2": {"tasks": {"demo_find": {}}}, "out/y/seed-1": scores(T5="2")}
    settings.check_contents(first | earlier)
    settings.check_contents(first | {"out/x/seed-2": scores(T5="2", named="another of a grid")})
    for other, told in (
        (scores("b"), r"scored on\.demo_find is a in out/x/seed-1 and b in out/x/seed-3"),
        (scores(T5="2"), "T5 t5 of out/x is 1 in"),
        (scores(**{"trained on": {"own": {"train_examples": "6"}}}), r"trained on\.own\.train_exa"),
    ):
        with pytest.raises(ValueError, match=f"the same T5 and the same data; {told}"):
            settings.check_contents(first | earlier | {"out/x/seed-3": other})


def test_nothing_is_restored_before_all_of_it_is_checked(tmp_path):
    (tmp_path / NAMES[0]).mkdir(parents=True)
    runs.write(str(tmp_path / NAMES[0]), {"seed": 1})
    (tmp_path / NAMES[0] / "metrics.jsonl").write_text("")
    archive.write(str(tmp_path))
    shutil.rmtree(tmp_path / NAMES[0])

    def refuse(name, scores):
        raise ValueError(f"{name} {scores}")

    with pytest.raises(ValueError, match="'seed': 1"):
        archive.restore(str(tmp_path), NAMES, refuse)
    assert not (tmp_path / NAMES[0]).exists()
    with run_lock.held(str(tmp_path / NAMES[0])):  # Another process trains it.
        assert archive.restore(str(tmp_path), NAMES) == 0
    assert archive.restore(str(tmp_path), NAMES) == 1


@pytest.mark.parametrize(
    ("path", "named"),
    [
        ("package://tasks/demo_data/demo_t5.safetensors", "demo_data/demo_t5.safetensors"),
        ("gs://bucket/models/t5_base", "t5_base"),
        (None, ""),
    ],
)
def test_a_t5_is_named_wherever_it_lies(tmp_path, path, named):
    run = made.make_comparison(tmp_path, seeds=(1,)).run("adapter", 1)
    start = dataclasses.replace(run.start, initial_checkpoint_path=path)
    run = dataclasses.replace(run, start=start)
    assert settings.of_run(run, "test")["T5"] == named
