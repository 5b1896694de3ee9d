"""Files of the package are found by a path that says nothing of where it is installed."""

import pathlib

import pytest

from hyperdecoders_jax import package_files


def test_a_file_of_the_package_is_found():
    found = package_files.resolve("package://tasks/demo_data/demo.spiece.model")
    assert pathlib.Path(found).is_file()


@pytest.mark.parametrize(
    "path", ["package://tasks/none.model", "package://nothing/at/all", "package://"]
)
def test_a_path_of_the_package_that_is_not_there_is_refused(path):
    with pytest.raises(ValueError, match="must name a file that ships with the package"):
        package_files.resolve(path)


def test_other_paths_stay():
    assert package_files.resolve("gs://bucket/file") == "gs://bucket/file"
    assert package_files.resolve(None) is None
