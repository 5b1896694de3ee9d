"""Floors: what a task without a T5 scores, or why there is none."""

from hyperdecoders_jax.study import floors
from hyperdecoders_jax.tasks import baselines, mixtures  # noqa: F401 (registers the demo)
from tests.study import made


def test_a_floor_that_fails_is_told_and_takes_no_results_with_it(tmp_path, monkeypatch, capsys):
    def fail(task, split):
        raise KeyError(split)

    monkeypatch.setattr(baselines, "floors", fail)
    assert floors.of(made.make_comparison(tmp_path))("demo_topic", "test") == {}
    assert "Mind: demo_topic has no floors, which gave: KeyError: 'test'" in capsys.readouterr().err
    assert not (tmp_path / "floors.json").exists()
