"""MRQA 2019: extractive question answering on twelve sets, in windows and without.

    question: Who ran? context: On Monday Ann ran.   ->   Ann

`mrqa_<set>_v100` cuts each context into windows that fill the inputs' length (512 tokens) and
share a quarter (128) with the one before. A window without an answer has the empty target and is
trained on. In evaluation the likeliest answer of a question's windows counts; empty ones do not
compete. `mrqa_reg_<set>_v100` has one example a question, begins with "mrqa", and loses the end of
a context that is too long. Six sets are for training; on six others models are tested without.

Where windows end depends on the vocabulary, so a SeqIO cache holds the records before the cut.

Source: allenai/hyperdecoders, `tasks.py` and `mrqa_preprocess.py`; Fisch et al. 2019
(arXiv:1910.09753).
"""

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import seqio
import tensorflow as tf

from hyperdecoders_jax.data import best_window, mixtures, windows
from hyperdecoders_jax.tasks import metrics, squad
from hyperdecoders_jax.tasks.preprocessors import TOKENIZE, join_fields
from hyperdecoders_jax.tasks.registration import add_task

# A set's name at TFDS is in the names of its two tasks.
IN_DOMAIN = {
    "squad": ("mrqa_squad_v100", "mrqa_reg_squad_v100"),
    "news_qa": ("mrqa_news_qa_v100", "mrqa_reg_news_qa_v100"),
    "trivia_qa": ("mrqa_trivia_qa_v100", "mrqa_reg_trivia_qa_v100"),
    "search_qa": ("mrqa_search_qa_v100", "mrqa_reg_search_qa_v100"),
    "hotpot_qa": ("mrqa_hotpot_qa_v100", "mrqa_reg_hotpot_qa_v100"),
    "natural_questions": ("mrqa_natural_questions_v100", "mrqa_reg_natural_questions_v100"),
}
OUT_OF_DOMAIN = {
    "bio_asq": ("mrqa_bio_asq_v100", "mrqa_reg_bio_asq_v100"),
    "drop": ("mrqa_drop_v100", "mrqa_reg_drop_v100"),
    "duo_rc": ("mrqa_duo_rc_v100", "mrqa_reg_duo_rc_v100"),
    "race": ("mrqa_race_v100", "mrqa_reg_race_v100"),
    "relation_extraction": ("mrqa_relation_extraction_v100", "mrqa_reg_relation_extraction_v100"),
    "textbook_qa": ("mrqa_textbook_qa_v100", "mrqa_reg_textbook_qa_v100"),
}

Example = dict[str, Any]


@seqio.map_over_dataset
def render_mrqa(example: Example) -> dict[str, tf.Tensor]:
    """A question of MRQA, with all its answers for the metric.

    {"question": "Who ran?", "context": "Ann ran.", "answers": ["Ann", "Ann ran"], …} ->
    {"inputs": "mrqa question: Who ran? context: Ann ran.", "targets": "Ann",
    "qid": "5a", "answers": ["Ann", "Ann ran"], "subset": "NewsQA"}
    """
    return {
        "inputs": join_fields("mrqa", example, "question", "context"),
        "targets": example["answers"][0],
        "qid": example["qid"],
        "answers": example["answers"],
        "subset": example["subset"],
    }


@seqio.map_over_dataset
def list_spans(example: Example) -> dict[str, tf.Tensor]:
    """A record's question, context and answers, and every span of the context that is an answer.

    The record lists where the context holds "detected answers". As in the original the i-th of them
    stands for the i-th gold answer, though it may be spelt like another; past these for itself.
    """
    detected = example["detected_answers"]
    spans = detected["char_spans"]
    answers = example["answers"]
    texts = tf.concat([answers, detected["text"][tf.size(answers) :]], 0)
    return {
        "question": example["question"],
        "context": example["context"],
        "qid": example["qid"],
        "answers": answers,
        "subset": example["subset"],
        # SeqIO caches hold these names.
        "place_starts": spans["start"].flat_values,
        "place_lasts": spans["end"].flat_values,
        "place_answers": tf.gather(texts, spans["start"].value_rowids()),
    }


def cut_windows(
    dataset: tf.data.Dataset,
    sequence_length: Mapping[str, int] | None,
    output_features: Mapping[str, seqio.Feature],
    is_cut_allowed: bool = False,
) -> tf.data.Dataset:
    """Turns each question into its windows, in the order of the context, as ids without EOS.

    The target of a window is the answer of the first span that it holds, or the empty text.

    Args:
        dataset: what `list_spans` gives.
        sequence_length: inputs' tokens, EOS included, which the windows of a long context fill;
            None takes 512 as the original.
        output_features: names the vocabulary.
        is_cut_allowed: shortens a question that leaves its context too little room, instead of
            raising `tf.errors.InvalidArgumentError`.
    """
    length = (sequence_length or {}).get("inputs") or windows.WINDOW_LEN
    overlap = length * windows.OVERLAP_LEN // windows.WINDOW_LEN
    vocabulary = output_features["inputs"].vocabulary

    def cut(example: Example) -> dict[str, tf.Tensor]:
        question, context = (example[name] for name in ("question", "context"))
        tokens = windows.tokenize(context, vocabulary)
        prefix = windows.fit_prefix(
            vocabulary.encode_tf(tf.strings.join(["question: ", question])),
            windows.encode_with_last_space(tf.constant(" context: "), vocabulary),
            tf.size(tokens.ids), example["qid"], length, overlap, is_cut_allowed,
        )  # fmt: skip
        room = length - 1 - tf.size(prefix)
        begins, ends = windows.bounds(tf.size(tokens.ids), room, overlap)
        starts, stops = windows.characters(tokens, begins, ends)
        held = windows.first_held(starts, stops, example["place_starts"], example["place_lasts"])
        texts = tf.strings.substr(context, starts, stops - starts, unit="UTF8_CHAR")

        def repeat(value: tf.Tensor) -> tf.Tensor:
            return tf.repeat(value[None], tf.size(begins), axis=0)

        ids = tf.gather(tokens.ids, tf.ragged.range(begins, ends))  # [windows, (length)]
        start = tf.strings.join(["question: ", question, " context: "])
        return {
            "inputs": tf.concat([repeat(prefix), ids], 1),
            "inputs_pretokenized": tf.strings.join([start, tf.strings.strip(texts)]),
            "targets_pretokenized": tf.gather(tf.concat([example["place_answers"], [""]], 0), held),
            **{name: repeat(example[name]) for name in ("qid", "answers", "subset")},
        }

    def encode_target(window: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        targets = output_features["targets"].vocabulary.encode_tf(window["targets_pretokenized"])
        return {**window, "targets": targets}

    dataset = dataset.map(cut, num_parallel_calls=tf.data.AUTOTUNE).unbatch()
    return dataset.map(encode_target, num_parallel_calls=tf.data.AUTOTUNE)


def count_windows(
    name: str = "mrqa", split: str = "train", inputs_len: int = windows.WINDOW_LEN
) -> dict[str, int]:
    """The number of windows of each task of a mixture, in the run's vocabulary.

    As rates of `mixture` they give tasks the original's shares; their sum is an epoch.

    Cost: reads and tokenises all data, for "mrqa" half a million contexts.
    """
    counts = {}
    for task in mixtures.leaf_tasks(name, split):
        dataset = task.get_dataset({"inputs": inputs_len}, split, shuffle=False)
        counts[task.name] = int(dataset.reduce(0, lambda count, _: count + 1))
    return counts


def question_and_answers(
    text: str,
    example: Mapping[str, Any] | None = None,
    is_target: bool = False,
    **unused,
) -> str | tuple[str, list[str]]:
    """A prediction as it is; for a window's target the question's id and all its gold answers."""
    if not is_target:
        return text
    return tf.compat.as_text(example["qid"]), squad.all_answers(text, example, is_target)


def squad_of_windows(
    targets: Sequence[tuple[str, list[str]]],
    predictions: Sequence[str],
    aux_values: Mapping[str, Sequence[float]],
) -> dict[str, float]:
    """SQuAD's metrics of each question's best window, by log-likelihood per generated token.

    >>> targets = [("q1", ["Ann"]), ("q1", ["Ann"]), ("q2", ["Rome"])]
    >>> aux = {"scores": [-0.6, -0.8, -0.1], "num_tokens": [2, 4, 1]}
    >>> squad_of_windows(targets, ["Bob", "Ann", ""], aux)
    {'em': 50.0, 'f1': 50.0}

    Unlike the original's score, that of `squad_of_windows_by_batch`, it does not depend on the rest
    of the batch. A model that does not count its tokens, such as T5X's own, is compared by the
    log-likelihood of the complete text.

    Args:
        targets: the question's id and gold answers, for each window.
        predictions: for each window; the empty text for none.
        aux_values: "scores", log-likelihoods with EOS, and "num_tokens".
    """
    return _best_of_windows(targets, predictions, aux_values, "num_tokens")


def squad_of_windows_by_batch(
    targets: Sequence[tuple[str, list[str]]],
    predictions: Sequence[str],
    aux_values: Mapping[str, Sequence[float]],
) -> dict[str, float]:
    """As `squad_of_windows`, by log-likelihood per token of the longest text in the batch.

    It is what the original reports, and what `<step>-predicted_answers.json` holds.
    """
    return _best_of_windows(targets, predictions, aux_values, "batch_num_tokens")


def _best_of_windows(
    targets: Sequence[tuple[str, list[str]]],
    predictions: Sequence[str],
    aux_values: Mapping[str, Sequence[float]],
    count: str,
) -> dict[str, float]:
    counts = aux_values.get(count, [1] * len(predictions))
    golds, candidates = {}, {}
    for (qid, answers), text, log_likelihood, num in zip(
        targets, predictions, aux_values["scores"], counts, strict=True
    ):
        golds[qid] = answers
        candidates.setdefault(qid, []).append((text, -log_likelihood / max(num, 1)))
    best = [best_window.answer(of_question) for of_question in candidates.values()]
    return metrics.squad(list(golds.values()), best)


_METRICS = {"answer": squad_of_windows, "batch": squad_of_windows_by_batch}


def mixture(
    tasks: mixtures.MixtureOrTask = "mrqa",
    cut_long_questions: bool = False,
    score_per: str = "answer",
    rates: Mapping[str, float] | None = None,
) -> seqio.Mixture:
    """A mixture with other options for its windows; nothing is registered, and no data are read.

        MIXTURE_OR_TASK_NAME = @mrqa.mixture()
        mrqa.mixture.cut_long_questions = True

    Its tasks have the names and all else that they have in `tasks`.

    Args:
        tasks: a mixture or task, or the name of one. Tasks without windows stay as they are.
        cut_long_questions: shortens a question that leaves its context too little room, so that its
            windows have as many tokens of their own as they share; else it is an error when it is
            read.
        score_per: what a window's log-likelihood is divided by: the tokens of its own "answer", or
            of the longest in its "batch", as the original does.
        rates: for each task; the original's are the numbers of windows, see `count_windows`. None:
            those of `tasks`.

    Raises:
        ValueError: there is no such score, nothing is registered under the name, no task has
            windows, or rates are of other tasks.
    """
    if score_per not in _METRICS:
        raise ValueError(
            f"The score_per of mrqa.mixture must be one of {list(_METRICS)}; got {score_per!r}. "
            "Take 'answer', or 'batch' to repeat the original."
        )
    provider = mixtures.get_mixture_or_task(tasks)
    originals = {task.name: task for task in mixtures.leaf_tasks(provider)}
    if not any(cut_windows in task.preprocessors for task in originals.values()):
        raise ValueError(
            f"The tasks of mrqa.mixture must be some with windows; got {sorted(originals)}. Name "
            "tasks such as 'mrqa_squad_v100', or set MIXTURE_OR_TASK_NAME to these themselves."
        )
    if rates is not None and rates.keys() != originals.keys():
        raise ValueError(
            f"The rates of mrqa.mixture must be those of {sorted(originals)}; got {dict(rates)}. "
            "Give each task one, as mrqa.count_windows does, or None."
        )
    cut = functools.partial(cut_windows, is_cut_allowed=cut_long_questions)

    def with_options(task: seqio.Task) -> seqio.Task:
        if cut_windows not in task.preprocessors:
            return task
        steps = [cut if step is cut_windows else step for step in task.preprocessors]
        return task.replace(preprocessors=steps, metric_fns=[_METRICS[score_per]])

    def rate(task: seqio.Task) -> float:
        if rates is not None:
            return rates[task.name]
        is_mixture = isinstance(provider, seqio.Mixture)
        return provider.get_rate(originals[task.name]) if is_mixture else 1.0

    return seqio.Mixture(
        provider.name, [with_options(task) for task in originals.values()], default_rate=rate
    )


def _add_tasks(set_name: str, names: tuple[str, str], splits: Sequence[str]) -> None:
    in_windows, uncut = names
    source = seqio.TfdsDataSource(f"mrqa/{set_name}:1.0.0", splits=splits)
    add_task(
        in_windows,
        source=source,
        preprocessors=[
            list_spans,
            seqio.CacheDatasetPlaceholder(),
            cut_windows,
            seqio.preprocessors.append_eos_after_trim,
        ],
        postprocess_fn=question_and_answers,
        metric_fns=[squad_of_windows],
    )
    add_task(
        uncut,
        source=source,
        preprocessors=[render_mrqa, *TOKENIZE],
        postprocess_fn=squad.all_answers,
        metric_fns=[metrics.squad],
    )


for _set_name, _names in IN_DOMAIN.items():
    _add_tasks(_set_name, _names, ["train", "validation"])
for _set_name, _names in OUT_OF_DOMAIN.items():
    _add_tasks(_set_name, _names, ["test"])
