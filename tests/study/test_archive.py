"""Archives of runs: the same tables from them alone, of several folders, and refusals."""

import gzip
import json
import lzma
import shutil

import pytest

from hyperdecoders_jax.study import archive, results, runs, tables
from hyperdecoders_jax.tasks import mixtures  # noqa: F401 (registers the demo)
from hyperdecoders_jax.training import run_lock
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
