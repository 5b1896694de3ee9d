import pytest
from hypothesis import given
from hypothesis import strategies as st

from hyperdecoders_jax.data import row_files
from hyperdecoders_jax.evaluation import predictions

texts = st.text(st.characters(codec="utf-8"))
lists = st.lists(
    st.builds(predictions.Prediction, texts, texts, texts, st.floats(allow_nan=False), texts),
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
    kept = [{"id": row_files.Number("7.0"), "tags": ["ä"]}, {}, {"id": "not predicted"}]
    predictions.write(tmp_path / "1.jsonl", written, iter(kept))
    first, second = (tmp_path / "1.jsonl").read_text().splitlines()
    assert first.startswith('{"id": 7.0, "tags": ["ä"], "input": "a", "target"')
    assert second.startswith('{"input": "e"')
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
