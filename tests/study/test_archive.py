"""Archives of runs: the same tables from them alone, of several folders, and refusals."""

import gzip
import json
import shutil

import pytest

from hyperdecoders_jax.study import archive, results, runs, tables
from hyperdecoders_jax.tasks import mixtures  # noqa: F401 (registers the demo)
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
        there = tmp_path / "joined" / f"runs-{method}.json.gz"
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


@pytest.mark.parametrize(
    "content", [b"", b"no gzip", gzip.compress(b"[1")], ids=["empty", "no gzip", "no JSON"]
)
def test_a_damaged_archive_is_told(tmp_path, content):
    (tmp_path / archive.FILE).write_bytes(content)
    with pytest.raises(ValueError, match=r"must hold runs, as compare writes them.*remove it"):
        archive.restore(str(tmp_path), NAMES)


def test_a_finished_run_with_other_settings_is_refused(tmp_path):
    comparison = made.make_comparison(tmp_path, seeds=(1,))
    run = comparison.run("adapter", 1)
    there = runs.settings(run, "test")
    made.write_scores(run.model_dir, {}, settings=there)
    runs.check_finished(comparison)
    runs.write(run.model_dir, {"settings": there | {"lengths": "8", "steps": "9"}})
    with pytest.raises(ValueError, match=r"seed-1 has steps 9 there and 40 here; lengths 8 there"):
        runs.check_finished(comparison)
