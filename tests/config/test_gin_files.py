"""Gin files and flags as text: where files are, what flags mean, which macros are missing."""

import os

import pytest
from etils.epath import backend

from hyperdecoders_jax import errors
from hyperdecoders_jax.config import experiments, gin_files
from hyperdecoders_jax.config.gin_statements import REQUIRED
from hyperdecoders_jax.modeling import config
from tests.config.parsing import MODEL_FILE, bound, flags, parse


def test_a_file_may_be_in_a_bucket(folder, monkeypatch):
    class Bucket(type(backend.os_backend)):
        """The folder under another name, in place of a network."""

        def isdir(self, path):
            return super().isdir(self.here(path))

        def exists(self, path):
            return super().exists(self.here(path))

        def open(self, path, mode):
            return super().open(self.here(path), mode)

        def here(self, path):
            if "closed" in path:
                raise RuntimeError("no rights")
            return path.replace("gs://bucket", str(folder))

    monkeypatch.setattr(backend, "tf_backend", Bucket())
    (folder / "all.gin").write_text("include 'gs://bucket/model.gin'\nLABEL_SMOOTHING = 0.3\n")
    parse(["gs://bucket/all.gin"])
    assert bound("losses.LossConfig.label_smoothing") == 0.3
    for path, message in {
        "gs://bucket/any.gin": "'gs://bucket/any.gin' is in none of",
        "https://a.b/all.gin": "'https://a.b/all.gin' is in none of",
        "gs://closed/all.gin": "A bucket must answer; .* gave RuntimeError: no rights. Check its",
    }.items():
        with pytest.raises(errors.ConfigurationError, match=message):
            parse([path])


def test_files_are_found_in_this_folder_then_in_given_ones_then_in_the_package(folder):
    other = folder / "other"
    other.mkdir()
    (other / "model.gin").write_text("")
    (other / "only_here.gin").write_text("")
    paths = [str(other)]
    assert gin_files.find_file("model.gin", paths) == "model.gin"
    assert gin_files.find_file("only_here.gin", paths) == str(other / "only_here.gin")
    assert gin_files.find_file("optim/adamw_linear.gin", paths).endswith("adamw_linear.gin")


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("3", 3),
        ("1e-3", 1e-3),
        ("None", None),
        ("'a b'", "a b"),
        ('"/quoted/as/T5X/wants"', "/quoted/as/T5X/wants"),
        ("('relu',)", ("relu",)),
        ("{'inputs': 8}", {"inputs": 8}),
        ("/a/b", "/a/b"),
        ("gs://bucket/run 1", "gs://bucket/run 1"),
        ("glue_cola_v200", "glue_cola_v200"),
        ("12abc", "12abc"),
        ("", ""),
    ],
)
def test_a_flag_that_is_no_gin_value_is_a_string(folder, value, expected):
    (folder / "one.gin").write_text(
        MODEL_FILE.replace(
            "config.TransformerConfig.encoder",
            "config.TransformerConfig.dtype = %ANY\nconfig.TransformerConfig.encoder",
        )
    )
    parse(["one.gin"], [gin_files.to_binding("ANY", value)])
    assert bound("ANY/gin.macro.value") == expected


# Mistakes. Each is told in three parts, with the nearest name.


def test_a_missing_file_is_told_with_where_it_was_searched(folder):
    with pytest.raises(
        ValueError, match=r"adamw_liner.gin' is in none of .*'optim/adamw_linear.gin'"
    ):
        parse(["optim/adamw_liner.gin"])


def test_a_missing_include_is_told_with_who_includes_it(folder):
    (folder / "run.gin").write_text("include 'modl.gin'")
    with pytest.raises(ValueError, match=r"included by run.gin.*Did you mean 'model.gin'"):
        parse(["run.gin"])


def test_a_circle_of_includes_is_told(folder):
    (folder / "a.gin").write_text("include 'b.gin'")
    (folder / "b.gin").write_text("include 'a.gin'")
    with pytest.raises(ValueError, match="must not go round in a circle"):
        parse(["a.gin"])


def test_a_line_that_is_no_gin_is_told(folder):
    (folder / "model.gin").write_text("A = 3\nthis is no gin\n")
    with pytest.raises(ValueError, match=r"model.gin:2 is none of them"):
        parse(["model.gin"])


def test_an_open_bracket_in_a_flag_is_told(folder):
    with pytest.raises(ValueError, match=r"must be one gin value; got '\(1,'.*Close its brackets"):
        gin_files.to_binding("SIZES", "(1,")


def test_a_flag_that_is_no_binding_is_told(folder):
    with pytest.raises(ValueError, match="must be a binding NAME=VALUE"):
        parse(["model.gin"], ["include 'other.gin'"])


def test_a_macro_that_nobody_reads_is_told(folder):
    with pytest.raises(ValueError, match=r"LABEL_SMOTHING .*read by none.*'LABEL_SMOOTHING'"):
        parse(["model.gin"], flags("LABEL_SMOTHING=0.1"))


def test_a_macro_that_nobody_sets_is_told(folder):
    (folder / "model.gin").write_text(MODEL_FILE.replace("BOTTLENECK_DIM = 8", ""))
    with pytest.raises(ValueError, match=r"BOTTLENECK_DIM \(read in model.gin:\d+\) is set by no"):
        parse(["model.gin"])


def test_a_required_macro_is_told_with_the_file_that_erased_it(folder):
    (folder / "run.gin").write_text("include 'model.gin'\nBOTTLENECK_DIM = %gin.REQUIRED")
    with pytest.raises(ValueError, match=r"BOTTLENECK_DIM must be set; run.gin:2 declares"):
        parse(["run.gin"])
    parse(["run.gin"], flags("BOTTLENECK_DIM=2"))


@pytest.mark.parametrize(
    ("lines", "circle"),
    [
        ("SIZE = %SIZE", r"SIZE -> SIZE is a circle \(SIZE in run.gin:2\)"),
        (
            "SIZE = %WIDTH\nWIDTH = %SIZE",
            r"SIZE -> WIDTH -> SIZE is a circle \(SIZE in run.gin:2, WIDTH in run.gin:3\)",
        ),
        (
            "SIZE = [1, {'a': (%WIDTH,)}]\nWIDTH = [@losses.LossConfig(), %SIZE]",
            r"SIZE -> WIDTH -> SIZE is a circle \(SIZE in run.gin:2, WIDTH in run.gin:3\)",
        ),
    ],
)
def test_a_macro_that_is_set_to_itself_is_told(folder, lines, circle):
    (folder / "run.gin").write_text(
        f"include 'start.gin'\n{lines}\nBOTTLENECK_DIM = %SIZE\nSIZES = %SIZE\n"
    )
    (folder / "start.gin").write_text(
        MODEL_FILE + "config.TransformerConfig.mlp_dim = %SIZES\nSIZE = 3\n"
    )
    message = f"A macro must not be set to itself; {circle}. Set one of them to a value."
    with pytest.raises(errors.ConfigurationError, match=message):
        gin_files.check_macros(gin_files.read(["run.gin"]))
    with pytest.raises(errors.ConfigurationError, match=message):
        parse(["run.gin"], function=config.TransformerConfig)
    with pytest.raises(errors.ConfigurationError, match=message):
        experiments.resolve(["run.gin"])
    # A circle that is replaced is none.
    gin_files.check_macros(gin_files.read(["run.gin"], ["SIZE = 5"]))


def test_a_number_that_gin_cannot_write_is_told(folder):
    for value in ("1e999", "[-1e999]"):
        with pytest.raises(ValueError, match=r"must be finite; --gin.LABEL_SMOOTHING=.* -?inf. Wr"):
            parse(["model.gin"], [f"LABEL_SMOOTHING = {value}"])


def test_texts_are_read_once_and_added(folder):
    (folder / "first.gin").write_text("BOTTLENECK_DIM = 1\nLABEL_SMOOTHING = 0.5\n")
    (folder / "last.gin").write_text("BOTTLENECK_DIM = 2\n")
    parts = [gin_files.read([f"{name}.gin"]) for name in ("first", "model", "last")]
    text = parts[0] + parts[1] + parts[2] + gin_files.read([], flags("LABEL_SMOOTHING=0.25"))
    whole = gin_files.read(["first.gin", "model.gin", "last.gin"], flags("LABEL_SMOOTHING=0.25"))
    assert text.macro_values == whole.macro_values
    assert text.macro_values["BOTTLENECK_DIM"][0] == 2
    assert str(text.macro_values["LABEL_SMOOTHING"][1]) == "--gin.LABEL_SMOOTHING=0.25"
    assert [file.name for file in text.files] == ["first.gin", "model.gin", "last.gin"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"A = 3\nB\xe9 = 3\n", r"UTF-8 text; line 2 of run.gin holds the byte 0xe9 .*Save the"),
        ("A = 3".encode("utf-16"), "UTF-8 text; line 1 of run.gin holds the byte 0xff"),
        (b"A = foo", r"run.gin:1 is none of them: 'A = foo' \(foo is no gin value\). Quote a text"),
        (b"A = /a/b  # here", r"\(/a/b is no gin value\). Quote a text: '/a/b'."),
        (b"A = true", r"\(true is no gin value\). Did you mean 'True'\?"),
        (b"A = [foo, 3]", r"\(foo is no gin value\). Quote a text: 'foo'."),
        (b"A = {[1]: 2}", r"unhashable type: 'list'"),
        (b"A = " + b"[" * 5000 + b"]" * 5000, r"run.gin:.* is none of them: 'A = \[\[\["),
        (b"A = 12345678901234567890", "must fit into 64 bits; run.gin:1 sets 1234567890123456789"),
    ],
)
def test_a_file_that_cannot_be_read_is_told_with_its_line(folder, content, message):
    (folder / "run.gin").write_bytes(content)
    with pytest.raises(errors.ConfigurationError, match=message):
        gin_files.read(["run.gin"])


def test_a_byte_order_mark_and_line_ends_of_windows_are_no_mistakes(folder):
    (folder / "run.gin").write_bytes(b"\xef\xbb\xbfA = 3\r\nB = 4\r\n")
    values = gin_files.read(["run.gin"]).macro_values
    assert {name: value for name, (value, _) in values.items()} == {"A": 3, "B": 4}


@pytest.mark.parametrize("value", ["[" * 5000, "{[1]: 2}"])
def test_a_flag_that_gin_cannot_parse_is_told(value):
    with pytest.raises(errors.ConfigurationError, match=r"The value of --gin.A must be one"):
        gin_files.to_binding("A", value)


def test_a_binding_without_quotes_says_to_quote(folder):
    message = r"must be a binding NAME = VALUE; got 'A = /x' \(/x is no gin value\). Quote a text"
    with pytest.raises(errors.ConfigurationError, match=message):
        parse(["model.gin"], ["A = /x"])


def test_what_must_be_set_says_what_may_stand_there():
    settings = gin_files.read(["runs/settings.gin"])
    required = {x.macro for x in settings.bindings if x.statement.value == REQUIRED}
    assert required == set(gin_files.MEANINGS)
    text = gin_files.read(["runs/embedded/train.gin", "experiments/glue/glue_none_none.gin"])
    with pytest.raises(errors.ConfigurationError, match=r"MODEL_DIR must be set.*: the folder"):
        gin_files.check_macros(text)


def test_pipes_and_folders_that_are_named_like_gin_files_are_not_listed(folder):
    os.mkfifo(folder / "pipe.gin")
    (folder / "folder.gin").mkdir()
    assert gin_files.files_under(str(folder)) == ["model.gin"]
    assert "model.gin" not in [x.name for x in experiments.find(search_paths=[str(folder)])]
