"""Pictures are there for all that was found, legible whatever users call their tasks."""

import dataclasses
import sys

import numpy as np
import pytest

from hyperdecoders_jax.analysis import pictures
from tests.analysis.constructed import make_examples, make_study, make_tables

TABLES = ["ablations", "probes", "variance"]
MAPS = ["maps_by_correctness", "maps_by_label", "maps_by_output_type", "maps_by_task"]


def make_maps(examples):
    return {("condition", "PCA"): np.asarray(examples.features["condition"])[:, :2]}


def read_png(path):
    from matplotlib import image

    return image.imread(path)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    examples = make_examples()
    folder = tmp_path_factory.mktemp("pictures")
    return pictures.write(folder, make_study(examples, make_tables()), make_maps(examples))


def test_there_is_a_picture_of_each_colouring_and_table(files):
    assert sorted(file.stem for file in files) == sorted(TABLES + MAPS)
    for file in files:
        height, width = read_png(file).shape[:2]
        assert min(height, width) > 150


def test_nothing_lies_at_the_edge_of_a_picture(tmp_path):
    """So that no name is cut, not even a long one, or one that means something to matplotlib."""
    tasks = ("a task whose name goes on " * 3, "_$x^{$", "rte")
    examples = make_examples(tasks=tasks)
    files = pictures.write(tmp_path, make_study(examples, make_tables(tasks)), make_maps(examples))
    for file in files:
        pixels = read_png(file)[..., :3]
        edge = np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])
        assert (edge == 1).all(), file


def test_pictures_are_the_same_whenever_they_are_drawn(files, tmp_path):
    examples = make_examples()
    again = pictures.write(tmp_path, make_study(examples, make_tables()), make_maps(examples))
    assert [file.read_bytes() for file in again] == [file.read_bytes() for file in files]


def test_what_was_not_measured_has_no_picture(tmp_path):
    """Not even that of an analysis which was in the folder before."""
    (tmp_path / "probes.png").write_bytes(b"old")
    examples = dataclasses.replace(make_examples(), is_correct=np.ones(12, bool))
    files = pictures.write(tmp_path, make_study(examples), make_maps(examples))
    assert sorted(files) == sorted(tmp_path.iterdir())
    assert sorted(file.stem for file in files) == MAPS


def test_without_matplotlib_an_error_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ImportError, match=r"pip install 'hyperdecoders_jax\[plots\]'"):
        pictures.write(tmp_path, make_study(make_examples()), {})
