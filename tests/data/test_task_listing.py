"""The list of tasks, and the examples of one, as text."""

import pytest

from hyperdecoders_jax.commands import flags, main
from hyperdecoders_jax.data import task_listing, vocabulary


@pytest.fixture(autouse=True)
def _forget():
    yield
    vocabulary.set_run_vocabulary(None)


def test_the_overview_lists_sizes_metrics_and_lengths(capsys, caplog):
    assert main.main(["tasks", "--module=hyperdecoders_jax.tasks.mixtures"]) == 0
    lines = capsys.readouterr().out.splitlines()
    topic = next(line for line in lines if line.startswith("demo_topic"))
    for word in ("train 4,261", "validation", "test", "accuracy"):
        assert word in topic
    glue = next(line for line in lines if line.startswith("glue_stsb_v200"))
    assert "?" in glue
    assert "pearson_corrcoef, spearman_corrcoef" in glue
    assert next(line for line in lines if line.startswith("demo ")).count("demo_") == 6
    assert "are cut" not in caplog.text


def test_three_examples_are_shown_as_text_and_tokens(capsys):
    assert main.main(["tasks", "demo_inflect", "--split=test"]) == 0
    out = capsys.readouterr().out
    assert "demo_inflect (task), split test, vocabulary: the demo's" in out
    assert out.count("inputs   inflect ") == 3
    assert out.count("</s>") == 6
    assert "4. " not in out


def test_a_mixture_shows_its_rates_and_examples_of_its_tasks(capsys):
    assert main.main(["tasks", "demo"]) == 0
    out = capsys.readouterr().out
    assert "16.67%" in out
    assert out.count("inputs   ") == 3


def test_another_vocabulary_shows_its_own_tokens(capsys):
    assert main.main(["tasks", "demo_inflect", "--vocabulary=bytes"]) == 0
    out = capsys.readouterr().out
    assert "vocabulary: bytes" in out
    assert "tokens   i n f l e c t" in out


def test_an_unknown_name_is_told_with_the_nearest(capsys):
    assert main.main(["tasks", "demo_inflct"]) == 2
    assert "Did you mean 'demo_inflect'?" in capsys.readouterr().err


def test_an_unknown_split_is_told(capsys):
    assert main.main(["tasks", "demo_inflect", "--split=tset"]) == 2
    assert "Did you mean 'test'?" in capsys.readouterr().err


def test_a_task_without_its_data_is_listed_without_them():
    flags.import_modules(["hyperdecoders_jax.tasks.mixtures"])
    row = task_listing.task_row("glue_qqp_v200")
    assert (row.sizes, row.lengths) == ({}, None)
    assert row.metrics == ("accuracy", "f1_score_with_invalid")
