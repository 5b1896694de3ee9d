"""Services are stood in for by modules of the same interface: neither is a dependency."""

import importlib.machinery
import json
import sys
import types

import pytest

from hyperdecoders_jax.trained import metric_writers

SETTINGS = {"format": "a run"}


class Service(types.ModuleType):
    """Keeps what it was told, as wandb and as mlflow; fails at the steps in `failing`."""

    def __init__(self, name):
        super().__init__(name)
        self.__spec__ = importlib.machinery.ModuleSpec(name, None)
        self.told, self.failing, self.id = [], (), "of-the-service"
        self.info = types.SimpleNamespace(run_id=self.id)

    def init(self, **options):
        self.told.append(("init", options))
        return self

    def start_run(self, **options):
        return self.init(**options)

    def log_dict(self, values, name):
        self.told.append((name, values))

    def log(self, values, step, **of_run):
        if step in self.failing:
            raise ConnectionError("no network")
        self.told.append((step, values))

    log_metrics = log

    def finish(self):
        self.told.append("end")

    end_run = finish


@pytest.fixture
def model_dir(tmp_path):
    folder = tmp_path / "method" / "seed-1"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(SETTINGS))
    return folder


@pytest.fixture
def service(request, monkeypatch):
    made = Service(request.param)
    monkeypatch.setitem(sys.modules, request.param, made)
    return made


@pytest.mark.parametrize("service", ["wandb", "mlflow"], indirect=True)
def test_a_service_gets_the_scalars_and_continues_its_run(model_dir, service):
    name = service.__name__
    metric_writers.check_names([name])
    for step in (1, 2):
        writers = metric_writers.MetricWriters([name], str(model_dir))
        writers.open()
        writers.write(step, {"train/loss": 0.5})
        writers.close()
    starts = [told[1] for told in service.told if told[0] == "init"]
    id_of = {"wandb": "id", "mlflow": "run_id"}[name]
    assert [start.get(id_of) for start in starts] == [None, service.id]
    assert all(start.get("resume") in ("allow", None) for start in starts)
    assert {start.get("name", start.get("run_name")) for start in starts} == {"method/seed-1"}
    assert [told for told in service.told if told[0] in (1, 2)] == [
        (1, {"train/loss": 0.5}),
        (2, {"train/loss": 0.5}),
    ]
    assert service.told[-1] == "end"
    kept = json.loads((model_dir / metric_writers.RUNS_FILE).read_text())
    assert kept == {name: service.id}


@pytest.mark.parametrize("service", ["wandb", "mlflow"], indirect=True)
def test_a_service_that_fails_is_told_and_the_others_go_on(model_dir, service, caplog):
    service.failing = (2, 3)
    writers = metric_writers.MetricWriters(["tensorboard", service.__name__], str(model_dir))
    writers.open()
    for step in (1, 2, 3):
        writers.write(step, {"train/loss": 0.5})
    writers.close()
    warnings = [x.getMessage() for x in caplog.records if "no longer" in x.getMessage()]
    assert warnings == [
        f"Metrics no longer go to {service.__name__}, which failed at step 2; metrics.jsonl has "
        "them."
    ]
    assert list((model_dir / "tensorboard").iterdir())
    assert service.told.count("end") == 1


@pytest.mark.parametrize("service", ["wandb"], indirect=True)
def test_a_service_that_refuses_the_run_is_told_at_once(model_dir, service, monkeypatch):
    def refuse(**options):
        raise RuntimeError("api_key not configured")

    monkeypatch.setattr(service, "init", refuse)
    with pytest.raises(ValueError, match=r"'wandb', which must accept the run; it said: api_key"):
        metric_writers.MetricWriters(["wandb"], str(model_dir)).open()


def test_writers_that_are_unknown_or_not_installed_are_refused(monkeypatch):
    with pytest.raises(ValueError, match=r"must name writers of .*got 'wandv'.*'wandb'"):
        metric_writers.check_names(["wandv"])
    monkeypatch.setitem(sys.modules, "mlflow", None)
    with pytest.raises(ValueError, match=r"needs the package mlflow.*pip install mlflow"):
        metric_writers.check_names(["tensorboard", "mlflow"])
