import json
import math

import pytest

from hyperdecoders_jax.training import metric_lines


def read(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_lines_are_appended(tmp_path):
    path = tmp_path / "metrics.jsonl"
    metric_lines.append(path, 1, "train", {"loss": 1.5})
    metric_lines.append(path, 2, "eval", {"task": "stsb", "pearson": math.nan})
    assert read(path) == [
        {"step": 1, "kind": "train", "loss": 1.5},
        {"step": 2, "kind": "eval", "task": "stsb", "pearson": None},
    ]


def test_what_was_evaluated_at_a_step_is_found_by_task(tmp_path):
    path = tmp_path / "metrics.jsonl"
    assert metric_lines.evaluated(path, 2) == {}
    for step in (1, 2):
        metric_lines.append(path, step, "train", {"loss": 0.5})
        metric_lines.append(path, step, "eval", {"task": "mrpc", "f1": 40.0 + step})
        metric_lines.append(path, step, "eval", {"task": "stsb", "r": 3.0, "rho": math.nan})
        metric_lines.append(path, step, "average", {"task_average": 22.0})
    with path.open("a") as file:
        file.write('"a note"\n{"step": 2, "kin')
    assert metric_lines.evaluated(path, 2) == {"mrpc": {"f1": 42.0}, "stsb": {"r": 3.0}}


def test_lines_of_later_steps_and_a_cut_line_are_dropped(tmp_path):
    path = tmp_path / "metrics.jsonl"
    for step in (1, 2, 3):
        metric_lines.append(path, step, "train", {"loss": float(step)})
    with path.open("a") as file:
        file.write('{"step": 2, "kin')
    metric_lines.drop_after(path, 2)
    assert [line["step"] for line in read(path)] == [1, 2]


def test_an_evaluation_that_is_made_up_is_dropped(tmp_path):
    path = tmp_path / "metrics.jsonl"
    for step in (1, 2):
        metric_lines.append(path, step, "train", {"loss": 0.5})
        metric_lines.append(path, step, "eval", {"f1": 50.0})
    metric_lines.drop_after(path, 2)
    assert len(read(path)) == 4
    metric_lines.drop_after(path, 2, is_evaluated=False)
    assert [(line["step"], line["kind"]) for line in read(path)] == [
        (1, "train"), (1, "eval"), (2, "train"),
    ]  # fmt: skip


def test_lines_of_others_stay(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"note": "a"}\n3\n{"step": 4, "kind": "train"}\n')
    metric_lines.drop_after(path, 2)
    assert read(path) == [{"note": "a"}, 3]
    assert [child.name for child in tmp_path.iterdir()] == ["metrics.jsonl"]


def test_nothing_is_dropped_from_a_file_that_is_not_there(tmp_path):
    metric_lines.drop_after(tmp_path / "metrics.jsonl", 2)
    assert not (tmp_path / "metrics.jsonl").exists()


def test_a_last_line_without_its_newline_is_kept_whole(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1, "kind": "train"}')
    metric_lines.drop_after(path, 1)
    metric_lines.append(path, 2, "train", {"loss": 1.0})
    assert [line["step"] for line in read(path)] == [1, 2]
    assert [child.name for child in tmp_path.iterdir()] == ["metrics.jsonl"]


def test_a_damaged_line_costs_no_other_and_a_copy_is_kept(tmp_path, caplog):
    path = tmp_path / "metrics.jsonl"
    content = b'{"step": 1, "task": "\xff"}\n{"step": 1, "x": \xff}\n{"step": 2}\n'
    path.write_bytes(content)
    assert metric_lines.evaluated(path, 1) == {}
    metric_lines.drop_after(path, 2)
    assert read(path) == [{"step": 1, "task": "\ufffd"}, {"step": 2}]
    assert (tmp_path / "metrics.jsonl.damaged").read_bytes() == content
    assert f"Lines of {path} are damaged, being no UTF-8 or no JSON: 1, 2." in caplog.text


@pytest.mark.parametrize("step", ["null", '"2"', "[]", "1e400", "NaN", "{}"])
def test_a_line_of_other_contents_stays_and_is_not_read(tmp_path, step):
    path = tmp_path / "metrics.jsonl"
    content = f'{{"step": {step}, "kind": "eval", "task": "a", "f1": 3}}\n'
    content += '{"step": 2, "kind": "eval", "task": ["a"], "f1": 3}\n{"step": 2, "kind": "eval"}\n'
    path.write_text(content)
    metric_lines.drop_after(path, 2)
    assert path.read_text() == content
    assert metric_lines.evaluated(path, 2) == {}


def test_json_nested_too_deep_is_a_damaged_line(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text("[" * 100_000 + '\n{"step": 1}\n')
    metric_lines.drop_after(path, 2)
    assert read(path) == [{"step": 1}]


def test_a_line_that_cannot_be_written_is_told(tmp_path):
    with pytest.raises(OSError, match=r"gone/metrics.jsonl must be written; .*Its folder is gone"):
        metric_lines.append(tmp_path / "gone" / "metrics.jsonl", 1, "train", {})
