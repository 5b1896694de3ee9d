"""Results of made runs: rows, differences, warnings, and the files that show them."""

import dataclasses
import json
import re

import numpy as np
import pytest

import hyperdecoders_jax
from hyperdecoders_jax.study import page, pictures, results, runs, tables
from hyperdecoders_jax.tasks import mixtures  # noqa: F401 (registers the demo)
from tests.study import made

ABOUT = {"mixture": "demo", "matched": [], "choices": [], "version": "1", "published": None}


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    comparison = made.make_comparison(tmp_path_factory.mktemp("made"))
    return results.collect(made.write_runs(comparison), made.floors, ABOUT)


def row(found, task, metric):
    return next(x for x in found.rows if (x.task, x.metric) == (task, metric))


def test_a_difference_that_is_there_is_shown_and_one_that_is_not_is_not(found):
    better = row(found, "demo_find", "em").cells["hyperdecoder"]
    assert better.difference.is_shown
    assert better.difference.difference == pytest.approx(30, abs=6)
    assert not row(found, "demo_topic", "accuracy").cells["hyperdecoder"].difference.is_shown
    assert row(found, "demo_find", "em").cells["adapter"].difference is None


def test_the_average_counts_every_task_once(found):
    average = row(found, results.AVERAGE, "")
    means = [row(found, "demo_topic", "accuracy").cells["adapter"].mean]
    means.append(np.mean([row(found, "demo_find", x).cells["adapter"].mean for x in ("em", "f1")]))
    assert average.cells["adapter"].mean == pytest.approx(np.mean(means))
    assert average.num_examples == 2 * made.NUM_EXAMPLES
    difference = average.cells["hyperdecoder"].difference
    cells = average.cells
    assert difference.difference == pytest.approx(
        cells["hyperdecoder"].mean - cells["adapter"].mean
    )


def test_a_floor_that_wins_a_cut_input_and_a_fall_after_the_best_are_told(found):
    told = "\n".join(found.warnings)
    assert "demo_topic: 3 of 64 inputs are cut" in told
    assert "TASK_FEATURE_LENGTHS['inputs'] = 41" in told
    assert "majority (99.0) is as good as adapter" in told
    assert "hyperdecoder overfits: validation falls from 62.0 (step 20) to 57.0" in told
    assert "adapter overfits" not in told
    assert "seeds" not in told


def test_few_seeds_and_a_falling_loss_are_told(tmp_path):
    comparison = made.make_comparison(tmp_path, seeds=(1,))
    made.write_runs(comparison, losses=(0.0, 1.0))
    found = results.collect(comparison, made.floors, ABOUT)
    told = "\n".join(found.warnings)
    assert "1 seed: too few to tell methods apart" in told
    assert "adapter: the training loss is still falling at the end" in told
    assert "not shown" in tables.scores(found)[1][-1]


def test_intervals_are_widened_where_it_is_asked(tmp_path):
    comparison = made.make_comparison(tmp_path)
    made.write_runs(comparison, gains=(0.0, 12.0))
    corrected = dataclasses.replace(comparison, is_corrected=True)
    single, found = (results.collect(x, made.floors, ABOUT) for x in (comparison, corrected))
    assert (single.about["corrected for"], found.about["corrected for"]) == (None, 4)
    for before, after in zip(single.rows, found.rows, strict=True):
        one, of_four = (x.cells["hyperdecoder"].difference for x in (before, after))
        assert of_four.difference == one.difference
        # Of 3 seeds: t of 2 degrees is 4.30 at 5 %, 8.86 at 1.25 %; of many examples less differs.
        assert 1.27 < (of_four.high - of_four.low) / (one.high - one.low) < 8.86 / 4.30
        assert of_four.p_value == pytest.approx(min(1.0, 4 * one.p_value))
        assert of_four.is_shown == (of_four.p_value < 0.05)
    assert "one of 4 simultaneous 95 % intervals (Bonferroni)" in tables.caption(found)
    # A difference that is shown alone, and not as one of four; the printed ends say so, too.
    assert tables.scores(single)[3][-1] == "+11.6 [+3.7, +19.4]"
    assert tables.scores(found)[3][-1] == "+11.6 [-4.7, +27.8] not shown"


def test_all_tables_show_the_same_cells(found, tmp_path):
    tables.write(tmp_path, found)
    text, markdown, latex = ((tmp_path / f"table.{x}").read_text() for x in ("txt", "md", "tex"))
    cell = re.search(r"\d+\.\d ± \d+\.\d", text)[0]
    assert cell in markdown
    assert cell.replace("±", r"$\pm$") in latex
    assert r"demo\_topic" in latex
    assert len(found.warnings) >= 4
    for line in found.warnings:
        assert f"Mind: {line}\n" in text
        assert f"- {line}\n" in markdown
    stored = json.loads((tmp_path / "table.json").read_text())
    assert stored["warnings"] == found.warnings
    first = stored["rows"][0]["cells"]["hyperdecoder"]
    assert len(first["values"]) == 3
    assert first["difference"]["low"] < first["difference"]["high"]
    assert stored["methods"]["adapter"]["secs"] == 20.0
    assert "scores" not in json.dumps(stored)


def test_published_numbers_stand_beside(tmp_path):
    paper = {"source": "a paper", "methods": {"Theirs": {"demo_find/em": 12.5, "other/f1": 3.0}}}
    comparison = made.make_comparison(tmp_path)
    found = results.collect(made.write_runs(comparison), made.floors, ABOUT | {"published": paper})
    head, first, second = tables.published(found)
    assert head == ["task", "metric", "adapter", "hyperdecoder", "Theirs (paper)"]
    assert first[-1] == "12.5"
    assert second == ["other", "f1", "-", "-", "3.0"]


def test_python_compares_too(tmp_path, capsys):
    made.write_runs(made.make_comparison(tmp_path))
    methods = {"adapter": made.make_run(), "hyperdecoder": made.make_run()}
    again = hyperdecoders_jax.compare(methods, str(tmp_path), seeds=(1, 2, 3))
    assert "6 runs (2 methods x 3 seeds), 0 to make" in capsys.readouterr().err
    assert row(again, "demo_topic", "accuracy").floors.keys() == {"majority", "TF-IDF"}
    assert (tmp_path / "page.html").exists()


def test_the_page_holds_tables_and_pictures_and_loads_nothing(found, tmp_path):
    drawn = pictures.write(tmp_path, found)
    assert sorted(x.name for x in drawn) == [
        "curves.png", "curves.svg", "differences.png", "differences.svg",
    ]  # fmt: skip
    page.write(tmp_path / "page.html", found, drawn)
    text = (tmp_path / "page.html").read_text()
    assert text.count("<svg") == 2
    assert "demo_topic" in text
    assert not re.search(r"(src|href)=\"http", text)
    assert "<script" not in text


def test_a_value_that_is_not_finite_takes_the_average_with_it_and_is_told(tmp_path):
    comparison = made.write_runs(made.make_comparison(tmp_path))
    path = tmp_path / "hyperdecoder/seed-2" / runs.SCORES_FILE
    scores = json.loads(path.read_text())
    scores["tasks"]["demo_topic"]["metrics"]["accuracy"] = None
    path.write_text(json.dumps(scores))
    found = results.collect(comparison, made.floors, ABOUT)
    assert [row.metric for row in found.rows] == ["em", "f1"]
    assert (
        "demo_topic/accuracy is left out, and so is the average: hyperdecoder" in found.warnings[0]
    )


def test_an_average_of_other_tasks_than_the_papers_does_not_stand_beside_it(tmp_path):
    methods = {"theirs": {"demo_find/em": 70.0, "average/": 71.5, "elsewhere/em": 73.0}}
    about = ABOUT | {"published": {"source": "a paper", "methods": methods}}
    comparison = made.make_comparison(tmp_path)
    found = results.collect(made.write_runs(comparison), made.floors, about)
    _, of_task, average, _ = tables.published(found)
    assert of_task[2] != "-"
    assert average == ["average", "", "-", "-", "71.5"]
