"""Floors: what a task without a T5 scores, or why there is none."""

from hyperdecoders_jax.study import floors, runs
from hyperdecoders_jax.tasks import baselines, mixtures  # noqa: F401 (registers the demo)
from tests.study import made


def test_a_floor_that_fails_is_told_and_takes_no_results_with_it(tmp_path, monkeypatch, capsys):
    def fail(task, split):
        raise KeyError(split)

    monkeypatch.setattr(baselines, "floors", fail)
    comparison = made.write_runs(made.make_comparison(tmp_path))
    assert floors.of(comparison)("demo_topic", "test") == {}
    assert "Mind: demo_topic has no floors, which gave: KeyError: 'test'" in capsys.readouterr().err
    assert not (tmp_path / "floors.json").exists()


def test_floors_are_those_of_the_examples(tmp_path, monkeypatch):
    comparison = made.make_comparison(tmp_path)
    folder = comparison.folder(*comparison.pairs[0])
    computed = iter([{"majority": {"em": 1.0}}, {"majority": {"em": 2.0}}])
    monkeypatch.setattr(baselines, "floors", lambda task, split: next(computed))

    def floor(**task):
        runs.write(folder, {"tasks": {"demo_find": task}})
        return floors.of(comparison)("demo_find", "test")["majority"]["em"]

    made.write_scores(folder, {})
    assert [floor(examples=x) for x in ("a", "b", "a", "b")] == [1.0, 2.0, 1.0, 2.0]
    # Of an earlier version, which kept them by name.
    (tmp_path / "floors.json").write_text('{"demo_find": {"majority": {"em": 3.0}}}')
    assert floor(examples="a") == floor() == 3.0
