from hyperdecoders_jax.evaluation import table


def test_the_table_names_both_averages_and_what_was_left_out():
    metrics = {"a": {"f1": 10.0, "accuracy": 50.0}, "b": {"accuracy": 60.0}}
    lines = table.format_table(metrics, left_out=("a/f1",)).splitlines()
    assert lines[-2].split()[:2] == ["task_average", "45.00"]
    assert lines[-1].split()[:2] == ["average_metrics", "55.00"]
    assert lines[-1].endswith("(mean of all metrics but a/f1)")
    lines = table.format_table({"a": {"bleu": 10.0, "gen_len": 50.0}}).splitlines()
    assert lines[-2].endswith(
        "10.00  (mean over tasks of the mean of a task's metrics but gen_len)"
    )


def test_a_table_without_results_says_so():
    assert table.format_table({}) == "No task has metrics."
