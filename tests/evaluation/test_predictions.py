import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hyperdecoders_jax.evaluation import predictions

texts = st.text(st.characters(codec="utf-8"))
numbers = st.floats(allow_nan=False, allow_infinity=False)
lists = st.lists(
    st.builds(
        predictions.Prediction,
        texts,
        texts,
        texts,
        st.floats(allow_nan=False, allow_infinity=False),
        texts,
    ),
    max_size=4,
)


@given(written=lists)
def test_what_was_written_is_read(tmp_path_factory, written):
    path = tmp_path_factory.mktemp("eval") / "rte" / "10.jsonl"
    predictions.write(path, written)
    assert predictions.read(path) == written
    assert [file.name for file in path.parent.iterdir()] == ["10.jsonl"]


def test_columns_of_rows_are_kept(tmp_path):
    written = [predictions.Prediction(x, "b", "c", -1.5, "t") for x in "ae"]
    written.append(predictions.Prediction("f", "b", "c", -1.5, "t"))
    kept = ['{"id": 7.0, "tags": ["ä"]}', "{}"]
    predictions.write(tmp_path / "1.jsonl", written, iter(kept))
    first, second, third = (tmp_path / "1.jsonl").read_text().splitlines()
    assert first.startswith('{"id": 7.0, "tags": ["ä"], "input": "a", "target"')
    assert second.startswith('{"input": "e"')
    assert third.startswith('{"input": "f"')
    predictions.write(tmp_path / "1.jsonl", written[:1], iter(kept))
    assert (tmp_path / "1.jsonl").read_text().splitlines() == [first]
    predictions.write(tmp_path / "1.jsonl", written, iter(kept))
    assert predictions.read(tmp_path / "1.jsonl") == written


def test_a_failed_write_leaves_the_old_file(tmp_path):
    good = predictions.Prediction("a", "b", "c", -1.5, "t")
    predictions.write(tmp_path / "1.jsonl", [good])
    with pytest.raises(TypeError):
        predictions.write(
            tmp_path / "1.jsonl", [good, predictions.Prediction("a", "b", "c", {1}, "t")]
        )
    assert predictions.read(tmp_path / "1.jsonl") == [good]


@pytest.mark.parametrize("line", ["{", '{"input": "a"}', "[]"])
def test_a_file_of_something_else_is_refused(tmp_path, line):
    (tmp_path / "x.jsonl").write_text(line + "\n")
    with pytest.raises(ValueError, match=r"keys \['input'.*line 1 of .*x.jsonl.*Give a file"):
        predictions.read(tmp_path / "x.jsonl")


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_a_likelihood_that_is_not_finite_is_null(tmp_path, number):
    predictions.write(tmp_path / "1.jsonl", [predictions.Prediction("a", "b", "c", number, "t")])
    (line,) = (tmp_path / "1.jsonl").read_text().splitlines()
    assert json.loads(line, parse_constant=pytest.fail)["log_likelihood"] is None
    (read,) = predictions.read(tmp_path / "1.jsonl")
    assert math.isnan(read.log_likelihood)


@pytest.mark.parametrize(
    "line",
    [
        b'{"input": 3, "target": "", "prediction": "", "log_likelihood": 1, "task": ""}',
        b'{"input": "", "target": "", "prediction": "", "log_likelihood": "1", "task": ""}',
        b'{"input": "\xff", "target": "", "prediction": "", "log_likelihood": 1, "task": ""}',
        b"[" * 100_000,
    ],
)
def test_a_line_of_other_contents_is_refused(tmp_path, line):
    (tmp_path / "x.jsonl").write_bytes(b"\n" + line)
    with pytest.raises(ValueError, match=r"a number and texts; line 2 of .*x.jsonl is"):
        predictions.read(tmp_path / "x.jsonl")
