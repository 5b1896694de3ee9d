import dataclasses
import pathlib

import pytest
import seqio

from hyperdecoders_jax.data import eval_batches, mixtures, pipeline, preflight, vocabulary
from hyperdecoders_jax.tasks import sources
from hyperdecoders_jax.training import identity
from tests.data.conftest import _make_task, config_of


def test_a_run_is_not_continued_on_data_that_have_grown():
    data = pipeline.PipelineConfig("mail", {"inputs": 8, "targets": 4})
    settings = []
    for num_examples in (200, 201):
        row = mixtures.MixingRow(1.0, num_examples)
        report = {"mail": preflight.TaskReport(row, 9, 7, 3, 0)}
        settings.append(preflight.order_settings(data, report))
    identity.check_settings(settings[0], settings[0], "here")
    with pytest.raises(ValueError, match=r"num_examples.mail is 200 there and 201 here"):
        identity.check_settings(*settings, "here")


def test_preflight_reports_what_it_saw():
    tasks = [_make_task("b", inputs=["1234567890", "12"]), _make_task("a", 30)]
    mixture = seqio.Mixture("m", tasks, default_rate=seqio.mixing_rate_num_examples)
    report = preflight.preflight(config_of(mixture), 320, num_examples=16, budget_secs=0)
    assert list(report) == ["a", "b"]
    assert report["b"] == preflight.TaskReport(report["b"].mixing, 2, 11, 2, 1)
    assert report["a"].num_checked == 16
    assert report["a"].mixing.rate == 30 / 32


def test_preflight_finds_a_long_target():
    with pytest.raises(ValueError, match=r"task 'a' has one of 5 tokens"):
        preflight.preflight(config_of(_make_task("a", targets=["1", "1234"])))


def test_preflight_reads_small_tasks_whole_and_says_how_long_targets_are():
    targets = ["1"] * 700
    targets[300], targets[690] = "1234", "1234567"
    config = config_of(_make_task("a", targets=targets))
    with pytest.raises(ValueError, match=r"one of 5 tokens.* longest .* 8 tokens.*'targets': 8}"):
        preflight.preflight(config)
    assert preflight.preflight(config, budget_secs=0)["a"].longest_targets == 2
    allowed = dataclasses.replace(config, truncate_targets=True)
    report = preflight.preflight(allowed)["a"]
    assert (report.num_checked, report.longest_targets) == (700, 8)


def test_preflight_reads_the_first_examples_of_a_task_of_unknown_size():
    task = _make_task("a", num_examples=90, counts=False)
    assert preflight.preflight(config_of(task))["a"].num_checked == 64


def test_preflight_refuses_a_vocabulary_that_the_model_cannot_embed():
    with pytest.raises(ValueError, match=r"has 259 ids and the model vocab_size=200. Set --voc"):
        preflight.preflight(config_of(_make_task("a")), vocab_size=200)


def test_preflight_refuses_a_vocabulary_of_a_smaller_model():
    config = config_of(_make_task("a"))  # Its vocabulary has 259 ids.
    with pytest.raises(ValueError, match=r"Fewer than 128 .* 259 ids .* which leaves 128. Set --v"):
        preflight.preflight(config, vocab_size=387)
    assert preflight.preflight(config, vocab_size=386)
    allowed = dataclasses.replace(config, is_small_vocabulary_allowed=True)
    assert preflight.preflight(allowed, vocab_size=387)


def test_preflight_refuses_a_vocabulary_with_another_eos():
    vocabulary = seqio.PassThroughVocabulary(size=9, eos_id=5)
    features = dict.fromkeys(("inputs", "targets"), seqio.Feature(vocabulary))
    task = _make_task("a").replace(output_features=features)
    with pytest.raises(ValueError, match=r"EOS at 1.*has 0 and 5. Set --vocabulary"):
        preflight.preflight(config_of(task), vocab_size=10)


def test_preflight_finds_a_task_without_examples_and_an_unknown_name():
    empty = _make_task("hollow", preprocessors=[lambda ds: ds.take(0)])
    with pytest.raises(ValueError, match=r"'hollow' has none"):
        preflight.preflight(config_of(empty))
    with pytest.raises(ValueError, match=r"got 'unheard_of'"):
        preflight.preflight(config_of("unheard_of"))


@pytest.fixture
def demo_vocabulary():
    found = vocabulary.load_vocabulary(vocabulary.DEMO_VOCABULARY_PATH)
    return dict.fromkeys(("inputs", "targets"), seqio.Feature(found))


def test_what_the_vocabulary_cannot_write_is_told_in_training_and_evaluation(
    demo_vocabulary, caplog
):
    task = _make_task("a", inputs=["x", "x\ny"] * 150, targets=["b"] * 299 + ["ï"])
    task = task.replace(output_features=demo_vocabulary)
    preflight.preflight(config_of(task))
    lengths = {"inputs": 8, "targets": 3}
    eval_batches.read_examples(task, 0, lengths, "train", num_examples=2)
    inputs, targets, evaluated = (record.message for record in caplog.records)
    assert inputs.startswith("150 of 300 inputs of task 'a' (train) hold what the vocabulary")
    assert targets.startswith("1 of 300 targets of task 'a' (train) hold what the vocabulary")
    assert "'ï' becomes ' ⁇ '" in targets
    assert evaluated.startswith("1 of 2 inputs of task 'a' (train) hold what")


class OwnFiles:
    """Says what it makes its examples of, as the source of tasks/own_data.py does."""

    def __init__(self, files, inputs="{a}"):
        self._files, self._inputs = files, inputs

    def describe(self):
        return {"kind": "own_data", "files": self._files, "inputs": self._inputs, "metrics": []}

    def fingerprint(self, split):
        return pathlib.Path(self._files[split]).read_text()


def test_templates_and_contents_of_own_files_are_settings_and_their_paths_are_not(tmp_path):
    data = pipeline.PipelineConfig("mail", {"inputs": 8, "targets": 4})
    paths = {split: str(tmp_path / f"{split}.jsonl") for split in ("train", "validation", "test")}
    moved = {split: f"{path}.moved" for split, path in paths.items()}
    for path in (*paths.values(), *moved.values()):
        pathlib.Path(path).write_text("rows")

    def settings(files, **fields):
        source = preflight.describe_source(OwnFiles(files, **fields))
        report = {"mail": preflight.TaskReport(mixtures.MixingRow(1.0, 3), 9, 7, 3, 0, source)}
        return preflight.order_settings(data, report)

    begun = settings(paths)
    identity.check_settings(begun, settings(moved), "here")
    older = {name: value for name, value in begun.items() if name != "sources"}
    identity.check_settings(older, begun, "here")
    with pytest.raises(ValueError, match=r"sources.mail.inputs is '{a}' there and 'b {a}' here"):
        identity.check_settings(begun, settings(paths, inputs="b {a}"), "here")
    pathlib.Path(moved["test"]).write_text("other")
    identity.check_settings(begun, settings(moved), "here")
    for split in ("train", "validation"):
        pathlib.Path(moved[split]).write_text("other")
        with pytest.raises(ValueError, match=rf"mail.{split}_examples is '\w+' there and"):
            identity.check_settings(begun, settings(moved), "here")


def test_the_examples_of_a_task_in_python_are_settings_too(tmp_path, make_task):
    path = tmp_path / "train.jsonl"
    path.write_text('{"inputs": "a", "targets": "b"}\n')

    def described():
        return preflight.describe_source(sources.JsonLinesDataSource({"train": path}))

    before = described()
    assert described() == before == {"train_examples": before["train_examples"]}
    path.write_text('{"inputs": "a", "targets": "c"}\n')
    assert described() != before
    assert preflight.describe_source(make_task("a").source) is None  # A function's name tells.
