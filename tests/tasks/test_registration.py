"""A task is a few lines, and its file may be imported as often as anyone likes."""

import importlib

import seqio

from hyperdecoders_jax.data import vocabulary
from hyperdecoders_jax.tasks import demo, features, glue, metrics, mixtures, preprocessors, sources

RECORDS = '{"question": "Is fire hot?", "answer": "yes"}\n{"question": "Is ice?", "answer": "no"}\n'


def test_reloading_the_task_files_changes_nothing():
    before = (sorted(seqio.TaskRegistry.names()), sorted(seqio.MixtureRegistry.names()))
    for module in (demo, glue, mixtures):
        importlib.reload(module)
    assert (sorted(seqio.TaskRegistry.names()), sorted(seqio.MixtureRegistry.names())) == before
    tasks = seqio.MixtureRegistry.get("demo").tasks
    assert all(task is seqio.TaskRegistry.get(task.name) for task in tasks)


def test_an_own_task_takes_ten_lines(tmp_path):
    (tmp_path / "train.jsonl").write_text(RECORDS)

    @seqio.map_over_dataset
    def render(example):
        return {"inputs": "facts: " + example["question"], "targets": example["answer"]}

    seqio.TaskRegistry.add(
        "own_facts",
        source=sources.JsonLinesDataSource({"train": tmp_path / "train.jsonl"}),
        preprocessors=[render, *preprocessors.TOKENIZE],
        metric_fns=[metrics.accuracy],
        output_features=features.OUTPUT_FEATURES,
    )
    try:
        vocabulary.set_run_vocabulary(vocabulary.load_vocabulary("bytes"))
        task = seqio.TaskRegistry.get("own_facts")
        dataset = task.get_dataset({"inputs": 32, "targets": 4}, split="train", shuffle=False)
        [first, _] = dataset.as_numpy_iterator()
        assert vocabulary.RUN_VOCABULARY.decode(first["inputs"]) == "facts: Is fire hot?"
        assert first["targets"].tolist() == [*b"|hv", 1]  # "yes", three ids up, and EOS
    finally:
        seqio.TaskRegistry.remove("own_facts")
        vocabulary.set_run_vocabulary(None)
