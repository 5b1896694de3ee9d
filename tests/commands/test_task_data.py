"""Commands that bring data here, and those that refuse to: no data are downloaded unasked."""

import os

import pytest
import seqio
import tensorflow_datasets as tfds

from hyperdecoders_jax.commands import main
from hyperdecoders_jax.data import vocabulary
from hyperdecoders_jax.tasks import features, metrics, preprocessors, registration

# Registers nothing: the tasks of a test are there already.
MODULE = "--module=hyperdecoders_jax.tasks.features"
DOWNLOADS = []


class SmallRain(tfds.core.GeneratorBasedBuilder):
    """A data set that needs no network; notes when it is asked to download."""

    VERSION = tfds.core.Version("1.0.0")

    def _info(self):
        text = tfds.features.Text()
        fields = tfds.features.FeaturesDict({"inputs": text, "targets": text})
        return tfds.core.DatasetInfo(builder=self, features=fields)

    def _split_generators(self, dl_manager):
        DOWNLOADS.append(self.name)
        return {"train": self._generate_examples(20), "validation": self._generate_examples(3)}

    def _generate_examples(self, count):
        for day in range(count):
            yield day, {"inputs": f"rain on day {day}", "targets": "yes"}


class SmallSnow(SmallRain):
    """Its server is away."""

    def _split_generators(self, dl_manager):
        raise OSError("no route to the mountain")


@pytest.fixture(autouse=True)
def _weather(monkeypatch):
    for name in ("rain", "snow"):
        registration.add_task(
            name,
            source=seqio.TfdsDataSource(f"small_{name}:1.0.0", splits=["train", "validation"]),
            preprocessors=preprocessors.TOKENIZE,
            metric_fns=[metrics.accuracy],
            output_features=features.OUTPUT_FEATURES,
        )
    registration.add_mixture("weather", ["rain", "snow"], default_rate=1.0)
    monkeypatch.setenv("HYPERDECODERS_DATA_DIR", "")
    folders = list(seqio.get_global_cache_dirs())
    yield
    seqio.set_tfds_data_dir_override(None)
    seqio.set_global_cache_dirs(folders)
    vocabulary.set_run_vocabulary(None)
    DOWNLOADS.clear()
    for name in ("rain", "snow"):
        seqio.TaskRegistry.remove(name)
    seqio.MixtureRegistry.remove("weather")


def run_arguments(command, tmp_path, *more):
    return [
        command, MODULE, "--gin_file=experiments/demo_hyperdecoder.gin",
        "--gin.MIXTURE_OR_TASK_NAME=rain", f"--model_dir={tmp_path}/run",
        f"--tfds_data_dir={tmp_path}", *more,
        # There is no run yet, which would be told first.
        *(["--gin.CHECKPOINT_STEP=None"] if command != "train" else []),
    ]  # fmt: skip


@pytest.mark.parametrize("command", ["train", "eval", "infer"])
def test_a_run_without_its_data_says_what_prepares_them(command, tmp_path, capsys):
    assert main.main(run_arguments(command, tmp_path)) == 2
    message = f"`hyperdecoders tasks --prepare rain --tfds_data_dir={tmp_path}`"
    assert message in capsys.readouterr().err
    assert not DOWNLOADS
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("command", ["train", "eval", "infer"])
def test_a_run_that_wants_caches_says_what_writes_them(command, tmp_path, capsys):
    caches = f"--seqio_additional_cache_dirs={tmp_path}/a,{tmp_path}/b"
    arguments = run_arguments(command, tmp_path, caches, "--gin.USE_CACHED_TASKS=True")
    assert main.main(arguments) == 2
    error = capsys.readouterr().err
    assert f"'rain' is in none of ['{tmp_path}/a', '{tmp_path}/b']" in error
    assert "`hyperdecoders tasks --cache rain --cache_dir=FOLDER`" in error
    assert not DOWNLOADS


def test_examples_are_shown_after_their_data_were_prepared(tmp_path, capsys):
    folder = f"--tfds_data_dir={tmp_path}/data"
    (tmp_path / "data").mkdir()
    assert main.main(["tasks", "rain", MODULE, folder]) == 2
    assert f"--prepare rain --tfds_data_dir={tmp_path}/data`" in capsys.readouterr().err
    assert not DOWNLOADS
    assert main.main(["tasks", "--prepare", "rain", MODULE, folder]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "small_rain:1.0.0: done"
    assert main.main(["tasks", "--prepare", "rain", MODULE, folder]) == 0
    assert capsys.readouterr().out == "small_rain:1.0.0: is there already\n"
    assert main.main(["tasks", "rain", MODULE, folder]) == 0
    assert "inputs   rain on day" in capsys.readouterr().out
    assert DOWNLOADS == ["small_rain"]


def test_a_mixture_is_prepared_and_cached_as_far_as_it_goes(tmp_path, capsys):
    folder = f"--tfds_data_dir={tmp_path}/new"
    both = ["--prepare=weather", "--cache=weather", f"--cache_dir={tmp_path}/cache"]
    assert main.main(["tasks", MODULE, folder, *both]) == 2
    shown = capsys.readouterr()
    lines = [line for line in shown.out.splitlines() if line.startswith(("small_", "rain", "snow"))]
    rain, snow, cached, not_cached = lines
    assert rain == "small_rain:1.0.0: done"
    assert snow.startswith("small_snow:1.0.0: FAILED: OSError: no route to the mountain")
    assert cached == f"rain: done: 20 train, 3 validation in {tmp_path}/cache/rain"
    assert not_cached.startswith("snow: FAILED: The data of task 'snow' must be on disk")
    assert "error: 2 of the above failed." in shown.err


def test_a_cache_needs_a_folder(capsys):
    assert main.main(["tasks", "--cache=rain", MODULE]) == 2
    assert "--cache needs a folder to write to; got --cache=rain alone" in capsys.readouterr().err


def test_a_data_folder_is_told_to_the_sources(tmp_path, monkeypatch):
    asked = []

    class Folder(seqio.FunctionDataSource):
        def missing(self, split):
            asked.append(os.environ["HYPERDECODERS_DATA_DIR"])
            return f"There is no {split}.jsonl."

    source = Folder(lambda split, shuffle_files: None, splits=["train"])
    task = seqio.TaskRegistry.get("rain").replace(source=source)
    seqio.TaskRegistry.remove("rain")
    seqio.TaskRegistry.add_provider("rain", task)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert main.main(["tasks", "rain", MODULE, "--data_dir=~/mine"]) == 2
    assert asked == [f"{tmp_path}/mine"]
