import json

from hyperdecoders_jax.training.run_directory import RunDirectory


def test_an_evaluation_goes_to_the_file_and_to_every_writer(tmp_path):
    written, metrics = [], {"cola": {"mcc": 10.0}, "rte": {"accuracy": 70.0}}
    log = RunDirectory(str(tmp_path)).metric_log([lambda *args: written.append(args)])
    log.write(2, "train", {"loss": 0.5})
    log.write_evaluation(2, metrics, left_out=["cola/mcc"])
    log.write_evaluation(3, {})
    averages = {"average_metrics": 70.0, "task_average": 40.0}
    assert written == [
        (2, {"train/loss": 0.5}),
        (2, {"eval/cola/mcc": 10.0}),
        (2, {"eval/rte/accuracy": 70.0}),
        (2, {f"average/{name}": value for name, value in averages.items()}),
    ]
    lines = [json.loads(x) for x in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert lines == [
        {"step": 2, "kind": "train", "loss": 0.5},
        {"step": 2, "kind": "eval", "task": "cola", "mcc": 10.0},
        {"step": 2, "kind": "eval", "task": "rte", "accuracy": 70.0},
        {"step": 2, "kind": "average", **averages},
    ]


def test_a_resumed_log_drops_what_is_written_again(tmp_path):
    directory = RunDirectory(str(tmp_path))
    log = directory.metric_log()
    for step in (1, 2, 3):
        log.write(step, "train", {"loss": 0.5})
    log.resume(2, is_evaluated=False)
    steps = [json.loads(x)["step"] for x in directory.metrics_path.read_text().splitlines()]
    assert steps == [1, 2]
