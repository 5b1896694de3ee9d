"""MRQA's questions become the original's windows, and windows' answers its questions' scores."""

import functools
import itertools

import gin
import numpy as np
import pytest
import seqio
import tensorflow as tf

from hyperdecoders_jax.config import gin_binding, gin_files
from hyperdecoders_jax.data import mixtures as data_mixtures
from hyperdecoders_jax.data import vocabulary
from hyperdecoders_jax.tasks import mixtures, mrqa

BYTES = seqio.ByteVocabulary()
CONTEXT = "Ann ran on Monday. Bob sat on a mat. On Friday Ann ran again."  # 61 characters


@pytest.fixture(autouse=True)
def _vocabulary_of_bytes():
    vocabulary.set_run_vocabulary(BYTES)
    yield
    vocabulary.set_run_vocabulary(None)


def record(question="Who sat?", context=CONTEXT, answers=("Bob",), detected=None, qid="q1"):
    """As TFDS gives it; every place of an answer in the context is marked, ends included."""
    detected = answers if detected is None else detected
    starts = [
        [i for i in range(len(context)) if context.startswith(answer, i)] for answer in detected
    ]
    ends = [[i + len(a) - 1 for i in s] for a, s in zip(detected, starts, strict=True)]
    spans = {
        name: tf.RaggedTensor.from_row_lengths(
            tf.constant([*itertools.chain(*rows)], tf.int32),
            tf.constant([*map(len, rows)], tf.int64),
        )
        for name, rows in (("start", starts), ("end", ends))
    }
    return {
        "question": question,
        "context": context,
        "qid": qid,
        "subset": "NewsQA",
        "answers": tf.constant(answers, tf.string),
        "detected_answers": {"text": tf.constant(detected, tf.string), "char_spans": spans},
    }


def task_of(*records, name="mrqa_news_qa_v100", **options):
    """A task of the name with other records, and with options of `mrqa.mixture`."""

    def dataset(split, shuffle_files, seed=None):
        first, *others = map(tf.data.Dataset.from_tensors, records)
        return functools.reduce(tf.data.Dataset.concatenate, others, first)

    source = seqio.FunctionDataSource(dataset, splits=["validation"])
    task = seqio.TaskRegistry.get(name).replace(source=source)
    return mrqa.mixture(task, **options).tasks[0] if options else task


def read(*records, inputs_len=64, **kwargs):
    """The examples that a task makes of records."""
    lengths = {"inputs": inputs_len, "targets": 9}
    examples = task_of(*records, **kwargs).get_dataset(lengths, "validation", shuffle=False)
    return list(examples.as_numpy_iterator())


def to_text(ids):
    """What bytes without EOS say."""
    assert ids[-1] == 1
    return bytes(ids[:-1].astype(np.uint8) - 3).decode()


def targets_of(examples):
    return [example["targets_pretokenized"].decode() for example in examples]


def test_a_question_becomes_windows_that_overlap_by_a_quarter():
    examples = read(record())
    start = "question: Who sat? context: "
    parts = [CONTEXT[:35], CONTEXT[19:54], CONTEXT[38:]]
    assert [to_text(example["inputs"]) for example in examples] == [start + p for p in parts]
    texts = [example["inputs_pretokenized"].decode() for example in examples]
    assert texts == [start + part.strip() for part in parts]
    assert [len(example["inputs"]) for example in examples] == [64, 64, 52]


def test_a_window_with_an_answer_has_it_as_target_and_one_without_a_lone_eos():
    examples = read(record())
    assert targets_of(examples) == ["Bob", "Bob", ""]
    assert [to_text(example["targets"]) for example in examples] == ["Bob", "Bob", ""]
    assert examples[2]["targets"].tolist() == [1]


def test_the_first_detected_answer_that_a_window_holds_is_its_target():
    assert targets_of(read(record(answers=("again", "Friday", "Ann")))) == [
        "Ann",
        "Friday",
        "again",
    ]


def test_a_detected_answer_stands_for_the_gold_answer_of_its_place_in_the_list():
    examples = read(record(answers=("Robert", "Monday"), detected=("Bob", "Cy", "Ann")))
    # The first window holds Bob before Ann; for Ann there is no gold answer.
    assert targets_of(examples) == ["Robert", "Robert", "Ann"]


def test_a_question_without_detected_answers_keeps_its_windows():
    assert targets_of(read(record(answers=("Cy",), detected=()))) == ["", "", ""]


def test_an_empty_context_keeps_its_question():
    [example] = read(record(context="", detected=()))
    assert to_text(example["inputs"]) == "question: Who sat? context: "
    assert example["targets"].tolist() == [1]


def test_windows_keep_the_order_of_the_data_and_what_the_metric_needs():
    second = record(qid="q2", context="Bob sat.", answers=("Bob", "Bob S."))
    examples = read(record(), second)
    assert [example["qid"] for example in examples] == [b"q1"] * 3 + [b"q2"]
    assert examples[0]["answers"].tolist() == [b"Bob"]
    assert examples[3]["answers"].tolist() == [b"Bob", b"Bob S."]
    assert {example["subset"] for example in examples} == {b"NewsQA"}


def test_a_long_question_is_an_error_that_names_it_or_is_cut():
    long = record(question="Why" + "?" * 700, qid="the_long_one")
    with pytest.raises(
        tf.errors.InvalidArgumentError, match=r"the_long_one leaves -.*be cut: MIXTURE_OR_"
    ):
        read(long)
    examples = read(long, cut_long_questions=True)
    texts = [to_text(example["inputs"]) for example in examples]
    assert all(text.startswith("question: Why?") and " context: " in text for text in texts)
    assert max(len(example["inputs"]) for example in examples) <= 64
    assert texts[-1].endswith("again.")


def test_windows_are_counted():
    task = task_of(record(), record(context="Bob sat."))
    assert mrqa.count_windows(task, "validation", inputs_len=64) == {"mrqa_news_qa_v100": 4}


def test_pieces_get_the_space_after_the_prefix_that_the_original_has():
    pieces = vocabulary.load_vocabulary(vocabulary.DEMO_VOCABULARY_PATH)
    vocabulary.set_run_vocabulary(pieces)
    [example] = read(record(), inputs_len=128)
    space = pieces.tokenizer.PieceToId("▁")
    assert example["inputs"].tolist() == [
        *pieces.encode("question: Who sat? context:"),
        space,
        *pieces.encode(CONTEXT),
        1,
    ]


def test_without_windows_a_question_is_one_example():
    [example] = read(record(answers=("Bob", "B.")), name="mrqa_reg_news_qa_v100", inputs_len=200)
    assert to_text(example["inputs"]) == f"mrqa question: Who sat? context: {CONTEXT}"
    assert to_text(example["targets"]) == "Bob"
    assert example["answers"].tolist() == [b"Bob", b"B."]
    assert (example["qid"], example["subset"]) == (b"q1", b"NewsQA")


TARGETS = [("q1", ["Ann"]), ("q2", ["a mat", "the old mat"]), ("q1", ["Ann"])]
PREDICTIONS = ["Bob", "old mat", "Ann"]
AUX = {"scores": [-3.0, -9.0, -1.9], "num_tokens": [4, 3, 2], "batch_num_tokens": [5, 3, 2]}


def test_the_likeliest_window_per_token_answers_and_all_gold_answers_count():
    # 3 / 4 for Bob and 1.9 / 2 for Ann.
    assert mrqa.squad_of_windows(TARGETS, PREDICTIONS, AUX) == {"em": 50.0, "f1": 50.0}
    likelier = AUX | {"scores": [-3.0, -9.0, -1.4]}
    assert mrqa.squad_of_windows(TARGETS, PREDICTIONS, likelier) == {"em": 100.0, "f1": 100.0}


def test_the_originals_score_depends_on_the_batch():
    same = AUX | {"batch_num_tokens": [4, 4, 4]}
    assert mrqa.squad_of_windows_by_batch(TARGETS, PREDICTIONS, AUX)["em"] == 50.0
    assert mrqa.squad_of_windows_by_batch(TARGETS, PREDICTIONS, same)["em"] == 100.0


def test_without_counts_whole_texts_are_compared():
    scores = mrqa.squad_of_windows(TARGETS, PREDICTIONS, {"scores": AUX["scores"]})
    assert scores == {"em": 100.0, "f1": 100.0}


def test_a_window_without_an_answer_does_not_compete():
    likely = AUX | {"scores": [-0.1, -9.0, -1.4]}
    assert mrqa.squad_of_windows(TARGETS, ["", "old mat", "Ann"], likely)["em"] == 100.0
    assert mrqa.squad_of_windows(TARGETS, ["", "old mat", ""], likely)["em"] == 50.0


def test_a_metric_is_given_the_question_of_each_window():
    task = seqio.TaskRegistry.get("mrqa_drop_v100")
    example = {"qid": b"q\xc3\xa4", "answers": np.array([b"Bob", b"B\xc3\xb6b"], object)}
    target = task.postprocess_fn("Bob", example=example, is_target=True)
    assert target == ("qä", ["Bob", "Böb"])
    assert task.postprocess_fn(" Bob", example=example, is_target=False) == " Bob"
    assert [metric.__name__ for metric in task.predict_with_aux_metric_fns] == ["squad_of_windows"]


@pytest.mark.parametrize(
    ("sets", "splits"),
    [(mrqa.IN_DOMAIN, {"train", "validation"}), (mrqa.OUT_OF_DOMAIN, {"test"})],
)
def test_six_sets_are_for_training_and_six_for_tests_alone(sets, splits):
    assert len(sets) == 6
    for set_name, names in sets.items():
        assert names == (f"mrqa_{set_name}_v100", f"mrqa_reg_{set_name}_v100")
        for name in names:
            task = seqio.TaskRegistry.get(name)
            assert task.source.tfds_dataset.name == f"mrqa/{set_name}:1.0.0"
            assert set(task.splits) == splits


def test_the_mixture_is_in_proportion_to_the_numbers_of_questions():
    mixture = seqio.MixtureRegistry.get("mrqa")
    assert {task.name for task in mixture.tasks} == {names[0] for names in mrqa.IN_DOMAIN.values()}
    assert sum(mixture.get_rate(task) for task in mixture.tasks) == 516_819
    unseen = seqio.MixtureRegistry.get("mrqa_out_of_domain")
    assert {task.name for task in unseen.tasks} == {n[0] for n in mrqa.OUT_OF_DOMAIN.values()}
    assert mixtures.TASK_FEATURE_LENGTHS["mrqa"] == {"inputs": 512, "targets": 64}


def metrics_of(task):
    return [metric.__name__ for metric in task.predict_with_aux_metric_fns]


def test_a_mixture_with_options_has_the_same_tasks_and_rates():
    ours, registered = mrqa.mixture(score_per="batch"), seqio.MixtureRegistry.get("mrqa")
    ours_tasks, theirs = map(data_mixtures.leaf_tasks, (ours, registered))
    assert [task.name for task in ours_tasks] == [task.name for task in theirs]
    rates = [
        data_mixtures.mixing_rates(*pair) for pair in ((ours, ours_tasks), (registered, theirs))
    ]
    assert rates[0] == rates[1]
    assert {name for task in ours_tasks for name in metrics_of(task)} == {
        "squad_of_windows_by_batch"
    }
    assert {name for task in theirs for name in metrics_of(task)} == {"squad_of_windows"}


def test_what_has_no_windows_stays_as_it_is():
    nested = seqio.Mixture("both", [("mrqa", 3.0), ("squad", 1.0)])
    ours = mrqa.mixture(nested, cut_long_questions=True)
    tasks = data_mixtures.leaf_tasks(ours)
    same = [task.name for task in tasks if task is seqio.TaskRegistry.get(task.name)]
    assert same == ["squad_v300"]
    assert data_mixtures.mixing_rates(ours, tasks)["squad_v300"] == 0.25


def test_numbers_of_windows_are_rates():
    rates = {name: 10.0 + place for place, (name, _) in enumerate(mrqa.OUT_OF_DOMAIN.values())}
    ours = mrqa.mixture("mrqa_out_of_domain", rates=rates)
    assert {task.name: ours.get_rate(task) for task in ours.tasks} == rates
    with pytest.raises(ValueError, match=r"be those of \['mrqa_hot.*; got \{'mrqa_bio.*count_wind"):
        mrqa.mixture(rates=rates)


def test_options_of_windows_where_there_are_none_are_refused():
    with pytest.raises(ValueError, match=r"some with windows; got \['mrqa_reg_drop_v100'\].*Name"):
        mrqa.mixture("mrqa_reg_drop_v100", cut_long_questions=True)


def test_a_score_that_does_not_exist_is_told():
    with pytest.raises(ValueError, match=r"one of \['answer', 'batch'\]; got 'window'. Take"):
        mrqa.mixture(score_per="window")


def test_long_answers_are_cut_in_every_run_that_trains_on_them():
    files = ["runs/embedded/train.gin", "mixtures/mrqa.gin"]
    macros = gin_files.read(files).macro_values
    assert macros["TRUNCATE_TARGETS"][0] is True


def test_a_configuration_chooses_options_by_flags_and_keeps_them(tmp_path):
    flags = [
        "MIXTURE_OR_TASK_NAME = @mrqa.mixture()",
        "mrqa.mixture.cut_long_questions = True",
        "mrqa.mixture.score_per = 'batch'",
        "MODEL_DIR = '/nowhere'",
        "INITIAL_CHECKPOINT_PATH = None",
        "TRAIN_STEPS = 1",
    ]
    name = "MIXTURE_OR_TASK_NAME/gin.macro.value"
    files = ["runs/embedded/train.gin", "experiments/mrqa/adamw_adapter_gen.gin"]
    saved = gin_binding.parse(gin_files.read(files, flags))
    # A run's own configuration, as eval and infer read it.
    (tmp_path / "saved.gin").write_text(saved)
    gin_binding.parse(gin_files.read([str(tmp_path / "saved.gin")]))
    provider = gin.query_parameter(name).scoped_configurable_fn()
    gin.clear_config()
    assert provider.name == "mrqa"
    for task in provider.tasks:
        [cut] = [step for step in task.preprocessors if isinstance(step, functools.partial)]
        assert (cut.func, cut.keywords) == (mrqa.cut_windows, {"is_cut_allowed": True})
        assert metrics_of(task) == ["squad_of_windows_by_batch"]
