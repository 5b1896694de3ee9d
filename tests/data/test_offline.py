"""Nothing is downloaded unless it is asked for; what is missing is told with its command."""

import re

import pytest
import seqio
import tensorflow_datasets as tfds

from hyperdecoders_jax.data import mixtures, offline

DOWNLOADS = []


class SmallWeather(tfds.core.GeneratorBasedBuilder):
    """Three days and one; notes when it is asked to download."""

    VERSION = tfds.core.Version("1.0.0")
    MANUAL_DOWNLOAD_INSTRUCTIONS = "Ask the observatory\n  for august.csv."

    def _info(self):
        features = tfds.features.FeaturesDict({"inputs": tfds.features.Text()})
        return tfds.core.DatasetInfo(builder=self, features=features)

    def _split_generators(self, dl_manager):
        DOWNLOADS.append(self.name)
        return {"train": self._generate_examples(3), "validation": self._generate_examples(1)}

    def _generate_examples(self, count):
        for day in range(count):
            yield day, {"inputs": f"day {day}"}


class SmallUnreachable(SmallWeather):
    """Its server does not answer."""

    def _split_generators(self, dl_manager):
        raise OSError("no route to the observatory")


class Folder(seqio.FunctionDataSource):
    """A source of one's own, whose data are there once they are prepared."""

    def __init__(self, splits=("train", "test"), lacks=("test",)):
        super().__init__(lambda split, shuffle_files: None, splits=splits)
        self.lacks = lacks

    def missing(self, split):
        return f"There is no {split}.jsonl in /data/mail." if split in self.lacks else None


class Downloaded(Folder):
    def prepare(self):
        self.lacks = ()


class Wrapper(seqio.FunctionDataSource):
    """Makes other splits of what other sources have."""

    def __init__(self, *sources):
        super().__init__(lambda split, shuffle_files: None, splits=["validation"])
        self.sources = sources


def tfds_source(name, folder):
    return seqio.TfdsDataSource(f"{name}:1.0.0", tfds_data_dir=str(folder), splits=["train"])


def outcomes(*tasks):
    return [(outcome.name, outcome.status) for outcome in offline.prepare(tasks)]


@pytest.fixture
def task_of(make_task):
    return lambda source, name="task": make_task(name).replace(source=source)


def test_a_read_that_would_download_is_refused_and_downloads_nothing(task_of, tmp_path):
    task = task_of(tfds_source("small_weather", tmp_path), "weather")
    with pytest.raises(ValueError, match=r"'weather' must be on disk.*no small_weather:1") as error:
        mixtures.leaf_tasks(task, "train")
    for words in (
        f"looked under {tmp_path}",
        f"`hyperdecoders tasks --prepare weather --tfds_data_dir={tmp_path}`",
        f"{tmp_path}/downloads/manual: Ask the observatory for august.csv.",
    ):
        assert words in str(error.value)
    assert not DOWNLOADS
    assert not list(tmp_path.iterdir())


def test_each_data_set_is_prepared_once_and_failures_stop_nothing(task_of, tmp_path):
    weather = [task_of(tfds_source("small_weather", tmp_path), name) for name in "ab"]
    unreachable = task_of(tfds_source("small_unreachable", tmp_path), "c")
    unknown = task_of(tfds_source("small_unheard_of", tmp_path), "d")
    done = list(offline.prepare([unreachable, unknown, *weather]))
    assert [(outcome.name, outcome.status) for outcome in done] == [
        ("small_unreachable:1.0.0", offline.FAILED),
        ("d", offline.FAILED),
        ("small_weather:1.0.0", offline.DONE),
    ]
    assert "OSError: no route to the observatory" in done[0].detail
    assert "downloads/manual: Ask the observatory" in done[0].detail
    assert "a data set that TFDS knows" in done[1].detail
    assert DOWNLOADS == ["small_weather"]
    mixtures.check_data_are_there(weather[0], "train")
    assert outcomes(*weather) == [("small_weather:1.0.0", offline.WAS_THERE)]
    DOWNLOADS.clear()


def test_a_split_of_another_data_set_is_looked_for(task_of, tmp_path):
    split = seqio.TfdsSplit("small_weather:1.0.0", "train", str(tmp_path))
    source = seqio.TfdsDataSource(splits={"train": split})
    with pytest.raises(ValueError, match=r"no small_weather:1\.0\.0 in"):
        mixtures.leaf_tasks(task_of(source), "train")
    assert not DOWNLOADS


def test_a_source_of_ones_own_says_what_is_missing(task_of, monkeypatch):
    monkeypatch.setenv("HYPERDECODERS_DATA_DIR", "/data")
    task = task_of(Downloaded(), "mail")
    offline.check(task, "train")
    command = "`hyperdecoders tasks --prepare mail --data_dir=/data` where there is a network"
    with pytest.raises(ValueError, match=rf"no test.jsonl in /data/mail\. Run {command}"):
        offline.check(task, "test")
    with pytest.raises(ValueError, match=r"no test.jsonl in /data/mail\. Put them there\."):
        offline.check(task_of(Folder()), "test")


def test_a_source_of_ones_own_prepares_itself_if_it_can(task_of):
    assert outcomes(task_of(Downloaded(), "mail")) == [("mail", offline.DONE)]
    assert outcomes(task_of(Folder(lacks=()), "mail")) == [("mail", offline.WAS_THERE)]
    (failed,) = offline.prepare([task_of(Folder(), "mail")])
    assert str(failed) == "mail: FAILED: There is no test.jsonl in /data/mail. Put them there."


def test_preparing_that_leaves_something_missing_failed(task_of):
    class Forgetful(Folder):
        def prepare(self):
            pass

    (failed,) = offline.prepare([task_of(Forgetful(), "mail")])
    assert failed.status == offline.FAILED
    assert "afterwards still: There is no test.jsonl" in failed.detail


def test_all_that_a_source_wraps_must_be_there(task_of, tmp_path):
    weather = tfds_source("small_weather", tmp_path)
    with pytest.raises(ValueError, match=r"no test\.jsonl"):
        offline.check(task_of(Wrapper(Folder(lacks=()), Wrapper(Folder()))), "validation")
    with pytest.raises(ValueError, match="no small_weather"):
        offline.check(task_of(Wrapper(Folder(lacks=()), weather)), "validation")
    offline.check(task_of(Wrapper(Folder(lacks=()))), "validation")


def test_a_wrapper_that_tells_where_its_splits_are_from_needs_those_alone(task_of):
    class Halved(Wrapper):
        def origin(self, split):
            return {"validation": "test"}[split]

    offline.check(task_of(Halved(Folder(lacks=["train"]))), "validation")
    with pytest.raises(ValueError, match=r"no test\.jsonl"):
        offline.check(task_of(Halved(Folder(lacks=["test"]))), "validation")


def test_files_can_only_be_put_there(task_of, tmp_path):
    source = seqio.TextLineDataSource({"train": str(tmp_path / "*.txt")})
    (failed,) = offline.prepare([task_of(source)])
    assert re.search(r"no file matches .*txt for split 'train'\. Put the files", failed.detail)


def test_a_metric_is_prepared_too_once(task_of):
    calls = []

    def score(targets, predictions):
        return {}

    score.prepare = lambda: calls.append(1)
    tasks = [task_of(Folder(lacks=()), name).replace(metric_fns=[score]) for name in "ab"]
    statuses = [("a", offline.WAS_THERE), ("metric score", offline.DONE), ("b", offline.WAS_THERE)]
    assert outcomes(*tasks) == statuses
    assert len(calls) == 1
