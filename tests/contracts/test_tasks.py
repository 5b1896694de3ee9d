"""What every task of the package promises, whatever it is about.

Each is read through SeqIO from a folder in TFDS's form that holds a few hand-written records
(`records.py`), and compared with texts that are written out (`rendered.py`).
"""

import contextlib
import functools
import json
import pathlib

import numpy as np
import pytest
import seqio
import tensorflow as tf

from hyperdecoders_jax.data import eval_batches, vocabulary
from hyperdecoders_jax.data import mixtures as data_mixtures
from hyperdecoders_jax.data.pipeline import PipelineConfig
from hyperdecoders_jax.evaluation import evaluator
from hyperdecoders_jax.evaluation.config import EvaluationConfig
from hyperdecoders_jax.tasks import mixtures, sources
from tests.contracts import records, registered, rendered, tfds_folders

# Trained on, not evaluated.
WITHOUT_METRICS = {"demo_pretrain", "t5_dpr_v110"}
SCORED = [name for name in registered.READ if name not in WITHOUT_METRICS]

# Of these splits only the records with label 1 are read.
TRUE_PAIRS_ALONE = {("t5_super_glue_wsc_v102", "train")}

# Tasks that no mixture holds, by choice, and the lengths to read them with.
NOT_MIXED = {
    *registered.FAMILIES["classification"],
    *registered.FAMILIES["multiple_choice"],
    *registered.FAMILIES["super_glue"],
    *registered.FAMILIES["translation"],
    "glue_wnli_v200",
    "scitail_v100",
    "sick",
    "snli_v110",
    *(name for name in registered.FAMILIES["mrqa"] if name.startswith("mrqa_reg_")),
}
UNMIXED_LENGTHS = {"inputs": 512, "targets": 128}

GARBAGE = [
    "",
    " ",
    "\x00",
    "-1",
    "9" * 30,
    "1e999",
    "yes yes",
    "घर बड़ा है।",
    "{}\n[",
    "very long " * 200,
]


@functools.cache
def demo_vocabulary():
    return vocabulary.load_vocabulary(vocabulary.DEMO_VOCABULARY_PATH)


@pytest.fixture(autouse=True)
def run_vocabulary():
    loaded = demo_vocabulary()
    vocabulary.set_run_vocabulary(loaded)
    yield loaded
    vocabulary.set_run_vocabulary(None)


def write_lines(source):
    """Writes the files of JSON lines that a source reads, if they are not there."""
    for split in source.splits:
        path = pathlib.Path(*source.list_shards(split))
        path.parent.mkdir(exist_ok=True)
        rows = tfds_folders.part(path.stem, records.RECORDS[path.parent.name])
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("data")


@pytest.fixture
def at_hand(folder, monkeypatch):
    """A context in which the data of a task are where it looks for them."""
    monkeypatch.setenv(sources.DATA_DIR_VARIABLE, str(folder))

    @contextlib.contextmanager
    def provide(task):
        loaders = registered.tfds_loaders(task)
        for loader in loaders:
            tfds_folders.write(loader.name, folder)
            loader.override_data_dir(str(folder))
        for source in registered.leaf_sources(task.source):
            if isinstance(source, sources.JsonLinesFolder):
                write_lines(source)
        try:
            yield
        finally:
            for loader in loaders:  # SeqIO keeps the folder with the task, which tests share.
                loader.override_data_dir(None)

    return provide


@pytest.fixture(scope="module")
def examples_of():
    return {}


@pytest.fixture
def read(at_hand, examples_of):
    """A function that gives a task's first validation examples, as SeqIO makes them."""

    def read_once(name):
        if name not in examples_of:
            task = seqio.TaskRegistry.get(name)
            split = evaluated_split(task)
            with at_hand(task):
                found = eval_batches.read_examples(task, 0, lengths(name), split, num_examples=5)
            examples_of[name] = found.examples
        return examples_of[name]

    return read_once


def evaluated_split(task):
    return "validation" if "validation" in task.splits else task.splits[0]


def lengths(name):
    """What examples of a task must fit, in every mixture that holds it."""
    stated = [mixtures.TASK_FEATURE_LENGTHS[mixture] for mixture in registered.mixtures_of(name)]
    return min(stated or [UNMIXED_LENGTHS], key=lambda tokens: tokens["inputs"])


def right_text(example):
    """What a perfect model answers: the target, or anything else if that is the wrong one (WSC)."""
    is_wrong = "label" in example and not example["label"]
    return "something else" if is_wrong else example["targets_pretokenized"].decode()


def scores_of(task, examples, texts):
    """All metrics of a task for given predictions of its examples."""
    targets = [
        task.postprocess_fn(
            example["targets_pretokenized"].decode(), example=example, is_target=True
        )
        for example in examples
    ]
    predictions = [
        task.postprocess_fn(text, example=example, is_target=False)
        for text, example in zip(texts, examples, strict=True)
    ]
    aux = dict.fromkeys(("scores", "num_tokens", "batch_num_tokens"), [1.0] * len(examples))
    results = {}
    for function in task.predict_metric_fns:
        results |= function(targets, predictions)
    for function in task.predict_with_aux_metric_fns:
        results |= function(targets, predictions, aux)
    return {name: value for name, value in results.items() if name != "gen_len"}


def test_every_task_is_named_in_the_one_file_that_registers_it():
    assert len(registered.NAMES) == len(set(registered.NAMES))
    for mixture in mixtures.TASK_FEATURE_LENGTHS:
        assert registered.tasks_of(mixture) <= set(registered.NAMES)


@pytest.mark.parametrize(
    "name", sorted({*registered.FAMILIES["demo"], *registered.FAMILIES["glue"]})
)
def test_a_task_shows_an_example_that_is_true(name):
    record, text = registered.shown_example(name)
    tensors = {
        field: tf.constant(value, tf.float32 if isinstance(value, float) else None)
        for field, value in record.items()
    }
    first_step = seqio.TaskRegistry.get(name).preprocessors[0]
    [example] = first_step(tf.data.Dataset.from_tensors(tensors)).as_numpy_iterator()
    assert {key: value.decode() for key, value in example.items()} == text


@pytest.mark.parametrize("name", registered.NAMES)
def test_a_task_has_the_features_that_runs_rely_on(name):
    task = seqio.TaskRegistry.get(name)
    for feature in ("inputs", "targets"):
        assert task.output_features[feature].vocabulary is vocabulary.RUN_VOCABULARY
        assert task.output_features[feature].add_eos


@pytest.mark.parametrize("name", registered.NAMES)
def test_a_cache_holds_the_text_of_a_task(name):
    steps = seqio.TaskRegistry.get(name).preprocessors
    [place] = [
        place for place, step in enumerate(steps) if isinstance(step, seqio.CacheDatasetPlaceholder)
    ]
    assert 0 < place < len(steps)


@pytest.mark.parametrize("name", registered.NAMES)
def test_a_task_is_in_a_mixture_that_states_its_lengths_or_listed_as_in_none(name):
    assert bool(registered.mixtures_of(name)) != (name in NOT_MIXED)


@pytest.mark.parametrize("name", sorted(set(registered.NAMES) - registered.PACKAGED))
def test_every_split_of_a_task_is_a_split_of_its_data_set(name, at_hand):
    task = seqio.TaskRegistry.get(name)
    with at_hand(task):
        for split in task.splits:
            data_mixtures.check_data_are_there(task, split)
            parts = [
                tfds_folders.part(kept, records.RECORDS[data_set])
                for data_set, kept in registered.stored_splits(task.source, split)
            ]
            assert parts
            if (name, split) in TRUE_PAIRS_ALONE:
                parts = [[record for record in part if record["label"] == 1] for part in parts]
            assert task.num_input_examples(split) == sum(map(len, parts))


def test_every_task_has_its_texts_written_out():
    assert set(rendered.RENDERED) == set(registered.READ) - registered.PACKAGED


@pytest.mark.parametrize("name", sorted(set(registered.READ) - registered.PACKAGED))
def test_the_first_record_reads_as_it_is_written_out(name, read):
    first = read(name)[0]
    texts = tuple(first[f"{feature}_pretokenized"].decode() for feature in ("inputs", "targets"))
    assert texts == rendered.RENDERED[name]


@pytest.mark.parametrize("name", registered.READ)
def test_examples_are_tokens_that_end_in_eos_and_fit_their_lengths(name, read, run_vocabulary):
    for example in read(name):
        for feature, length in lengths(name).items():
            ids = example[feature]
            assert ids.dtype == np.int32
            assert ids[-1] == 1
            assert ids.min() > 0
            assert ids.max() < run_vocabulary.vocab_size
            assert len(ids) <= length


@pytest.mark.parametrize("name", SCORED)
def test_the_targets_score_a_hundred_and_garbage_does_not(name, read):
    task = seqio.TaskRegistry.get(name)
    examples = read(name)
    perfect = scores_of(task, examples, [right_text(example) for example in examples])
    worthless = scores_of(task, examples, ["घर\x00"] * len(examples))
    assert perfect
    assert perfect == pytest.approx(dict.fromkeys(perfect, 100))
    assert perfect.keys() == worthless.keys()
    assert max(worthless.values()) < 50


@pytest.mark.parametrize("name", SCORED)
def test_any_text_can_be_a_prediction(name, read):
    task = seqio.TaskRegistry.get(name)
    example = read(name)[0]
    for texts in (GARBAGE, GARBAGE[:1]):  # Also alone: a correlation needs two.
        scores = scores_of(task, [example] * len(texts), texts)
        assert np.isfinite(list(scores.values())).all()


@pytest.mark.parametrize(
    "name",
    [
        # Each kind of source, and each kind of metric that is more than an accuracy.
        "anli_v010",
        "cnn_dailymail_v340",
        "commonsense_qa",
        "demo_find",
        "glue_cola_v200",
        "iwslt2017_en_nl",
        "mrqa_bio_asq_v100",
        # They score groups of examples.
        "t5_super_glue_multirc_v102",
        "t5_super_glue_record_v102",
    ],
)
def test_the_evaluator_scores_the_targets_a_hundred(name, at_hand, tmp_path):
    class Perfect:
        def __init__(self, batch, task_name):
            assert task_name == name
            self.tokens = np.asarray(batch.decoder_target_tokens)[:, None]
            self.log_likelihoods = np.zeros(self.tokens.shape[:2])

    task = seqio.TaskRegistry.get(name)
    with at_hand(task):
        data = PipelineConfig(name, lengths(name), batch_size=4)
        config = EvaluationConfig(evaluated_split(task), num_examples=5)
        evaluate = evaluator.Evaluator(data, config, None, output_dir=tmp_path)
        scores = evaluate(Perfect, step=3)[name]
    scores.pop("gen_len", None)
    assert scores == pytest.approx(dict.fromkeys(scores, 100))
    assert (tmp_path / name / "3.jsonl").exists()
