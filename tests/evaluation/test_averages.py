import math

from hyperdecoders_jax.evaluation import averages

METRICS = {
    "cola": {"matthews_corrcoef": 58.7},
    "mrpc": {"accuracy": 89.2, "f1": 92.0},
    "qqp": {"accuracy": 91.1, "f1": 88.3},
    "rte": {"accuracy": 80.8},
    "sst2": {"accuracy": 95.9},
    "stsb": {"pearson_corrcoef": 91.8, "spearman_corrcoef": 92.0},
    "mnli": {"accuracy": 90.0},
    "qnli": {"accuracy": 94.2},
}


def test_the_task_average_is_that_of_the_published_table():
    assert round(averages.task_average(METRICS), 1) == 86.5


def test_average_metrics_counts_a_task_with_two_metrics_twice():
    values = [58.7, 89.2, 92.0, 91.1, 88.3, 80.8, 95.9, 91.8, 92.0, 90.0, 94.2]
    assert math.isclose(averages.average_metrics(METRICS), sum(values) / 11)


def test_average_metrics_counts_lengths_and_all_that_is_not_left_out():
    summaries = {
        "xsum": {"rouge1": 40.0, "rouge2": 20.0, "rougeL": 35.0, "rougeLsum": 35.0, "gen_len": 30},
        "cnn_dailymail": {"rouge1": 42.0, "rouge2": 19.0, "gen_len": 59.0},
    }
    left_out = ("xsum/rouge1", "xsum/rougeL", "xsum/rougeLsum")
    assert averages.average_metrics(summaries, left_out) == (20 + 30 + 42 + 19 + 59) / 5


def test_the_task_average_does_not_count_lengths():
    summaries = {"xsum": {"rouge1": 40.0, "rouge2": 20.0, "gen_len": 59.0}, "rte": {"f1": 50.0}}
    assert averages.task_average(summaries) == 40.0
    assert math.isnan(averages.task_average({"xsum": {"gen_len": 59.0}}))


def test_no_metrics_have_no_average():
    assert all(math.isnan(value) for value in averages.compute({}).values())
    assert averages.task_average({"silent": {}, "rte": {"accuracy": 50.0}}) == 50.0


def test_both_averages_have_names():
    assert tuple(averages.compute(METRICS)) == averages.NAMES
