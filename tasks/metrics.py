"""Metrics in [0, 100] of postprocessed targets and predictions, named as in T5.

The scores are those of scikit-learn, scipy, rouge-score and sacrebleu, which are imported where
they are used: registering a task needs none of them. This file says how they are called and how
invalid predictions count, as in the original Hyperdecoders.
"""

import collections
import functools
import itertools
import re
import string
import warnings
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from absl import logging

_LETTERS = re.compile(r"[^\W_]")
_OTHER_LETTERS = re.compile(r"[^\W_a-z0-9]")
# Scripts without spaces between words: Thai, Lao, Burmese, Khmer, kana, Chinese characters.
_UNSPACED = re.compile(
    "[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\U00020000-\U0003ffff]"
)
ROUGE_TYPES = ("rouge1", "rouge2", "rougeL", "rougeLsum")


def accuracy(targets: Sequence, predictions: Sequence) -> dict[str, float]:
    """Share of predictions that equal their target.

    >>> accuracy(["walked", "ran"], ["walked", "runned"])
    {'accuracy': 50.0}
    """
    check_lengths(targets, predictions)
    hits = [target == prediction for target, prediction in zip(targets, predictions, strict=True)]
    return {"accuracy": 100.0 * float(np.mean(hits))}


def f1_score_with_invalid(targets: Sequence[int], predictions: Sequence[int]) -> dict[str, float]:
    """F1 of label 1; a prediction other than 0 and 1 counts as the wrong one of the two.

    >>> f1_score_with_invalid([1, 0, 1], [1, -1, 1])
    {'f1': 80.0}
    """
    import sklearn.metrics

    check_lengths(targets, predictions)
    targets, predictions = np.asarray(targets), np.asarray(predictions)
    predictions = np.where(np.isin(predictions, (0, 1)), predictions, 1 - targets)
    return {"f1": 100.0 * float(sklearn.metrics.f1_score(targets, predictions, zero_division=0))}


def matthews_corrcoef(targets: Sequence[int], predictions: Sequence[int]) -> dict[str, float]:
    """Matthews' correlation; an invalid prediction is a class of its own.

    >>> matthews_corrcoef([0, 1, 0, 1], [0, 1, 0, 1])
    {'matthews_corrcoef': 100.0}
    """
    import sklearn.metrics

    check_lengths(targets, predictions)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "A single label was found", UserWarning)
        value = sklearn.metrics.matthews_corrcoef(targets, predictions)
    return {"matthews_corrcoef": 100.0 * float(value)}


def pearson_corrcoef(targets: Sequence[float], predictions: Sequence[float]) -> dict[str, float]:
    """Pearson's correlation; 0 where there is none, as for equal predictions."""
    return {"pearson_corrcoef": _correlation("pearsonr", targets, predictions)}


def spearman_corrcoef(targets: Sequence[float], predictions: Sequence[float]) -> dict[str, float]:
    """Spearman's rank correlation; 0 where there is none, as for equal predictions."""
    return {"spearman_corrcoef": _correlation("spearmanr", targets, predictions)}


def squad(targets: Sequence[str | Sequence[str]], predictions: Sequence[str]) -> dict[str, float]:
    """SQuAD's exact match and token F1, after `normalize_answer`; the best of several gold answers.

    >>> squad(["the lazy dog"], ["dog"])
    {'em': 0.0, 'f1': 66.66...}
    >>> squad([["the lazy dog", "Dog"]], ["a dog"])
    {'em': 100.0, 'f1': 100.0}

    An F1 of two empty answers is 0, their exact match 100, as in the original. Words are what
    stands between spaces: a warning tells of references in scripts without.

    Args:
        targets: the gold answer, or the gold answers, of each example.
        predictions: one answer for each.

    Source: SQuAD v1.1's evaluation script.
    """
    check_lengths(targets, predictions)
    matches, scores = [], []
    for target, prediction in zip(targets, predictions, strict=True):
        prediction = normalize_answer(prediction)
        golds = [normalize_answer(gold) for gold in _references(target)]
        matches.append(prediction in golds)
        scores.append(max(_token_f1(gold.split(), prediction.split()) for gold in golds))
    _warn_of_unspaced("SQuAD's F1", targets)
    return {"em": 100.0 * float(np.mean(matches)), "f1": 100.0 * float(np.mean(scores))}


def normalize_answer(text: str) -> str:
    """Lower case, without ASCII punctuation and articles, with single spaces.

    >>> normalize_answer("The  dog's (a) tail!")
    'dogs tail'

    Source: SQuAD v1.1's evaluation script.
    """
    text = text.lower().translate(str.maketrans("", "", string.punctuation))
    return " ".join(re.sub(r"\b(a|an|the)\b", " ", text).split())


def rouge(targets: Sequence[str | Sequence[str]], predictions: Sequence[str]) -> dict[str, float]:
    """ROUGE's F-measures: words, word pairs and longest common subsequences, stemmed.

    >>> scores = rouge(["The cats sat. They slept."], ["The cat slept."])
    >>> {name: round(score, 1) for name, score in scores.items()}
    {'rouge1': 75.0, 'rouge2': 33.3, 'rougeL': 75.0, 'rougeLsum': 75.0}

    A score is the median of the means of 1000 resamples of the examples, as in the original, but
    resampled alike each time: two evaluations of the same predictions agree. "rougeLsum" alone
    depends on where sentences end; see `prepare_rouge`. Words consist of a to z and digits alone,
    as in the original: a warning tells of references that are mostly of other letters.

    Args:
        targets: the reference, or the references, of each example; the best one counts.
        predictions: one text for each.

    Source: Lin 2004, "ROUGE: a package for automatic evaluation of summaries"; rouge-score.
    """
    from rouge_score import rouge_scorer, scoring

    check_lengths(targets, predictions)
    _warn_of_texts(
        "ROUGE counts the letters a to z and digits alone",
        targets,
        lambda text: len(_OTHER_LETTERS.findall(text.lower())),
    )
    scorer = rouge_scorer.RougeScorer(ROUGE_TYPES, use_stemmer=True)
    aggregator = scoring.BootstrapAggregator()
    for target, prediction in zip(targets, predictions, strict=True):
        references = [_one_sentence_a_line(reference) for reference in _references(target)]
        scores = scorer.score_multi(references, _one_sentence_a_line(prediction))
        aggregator.add_scores(scores)
    # The library resamples by numpy's global generator and takes no seed.
    state = np.random.get_state()
    try:
        np.random.seed(0)
        intervals = aggregator.aggregate()
    finally:
        np.random.set_state(state)
    return {name: 100.0 * float(intervals[name].mid.fmeasure) for name in ROUGE_TYPES}


def prepare_rouge() -> None:
    """Downloads NLTK's English sentence splitter ("punkt_tab", 4 MB), unless it is on disk.

    Without it `rouge` splits sentences by NLTK's untrained rules, which also end one after an
    abbreviation such as "Mr.": rougeLsum is 0.4 higher on pieces of the Wall Street Journal (11 %
    of them change), and the same on transcripts of ABC news.

    Raises:
        OSError: the download failed.
    """
    import nltk

    if _pretrained_splitter() is not None:
        return
    try:
        nltk.download("punkt_tab", quiet=True, raise_on_error=True)
    except ValueError as error:
        raise OSError(
            "ROUGE needs NLTK's 'punkt_tab' to split sentences as the original did, and it could "
            f"not be downloaded: {error}. Put it into tokenizers/punkt_tab of one of "
            f"{nltk.data.path} by hand, or do without: rougeLsum differs a little."
        ) from error
    _sentence_splitter.cache_clear()


# What `hyperdecoders tasks --prepare` calls for tasks with this metric.
rouge.prepare = prepare_rouge


def bleu(targets: Sequence[str | Sequence[str]], predictions: Sequence[str]) -> dict[str, float]:
    """Corpus BLEU with sacrebleu's defaults.

    >>> bleu(["the cat sat on the mat"], ["the cat sat on the mat"])
    {'bleu': 100.0...}

    Args:
        targets: the reference, or the references (as many as there are), of each example.
        predictions: one translation for each.

    Source: Post 2018, "A call for clarity in reporting BLEU scores"; sacrebleu.
    """
    import sacrebleu

    check_lengths(targets, predictions)
    _warn_of_unspaced("BLEU", targets)
    # One stream for every example's first reference, one for the second; None where there is none.
    streams = itertools.zip_longest(*(_references(target) for target in targets))
    return {"bleu": sacrebleu.corpus_bleu(predictions, [list(stream) for stream in streams]).score}


def gen_len(
    targets: Sequence, predictions: Sequence, aux_values: Mapping[str, Sequence]
) -> dict[str, float]:
    """The mean number of generated tokens, EOS included, rounded to one decimal.

    >>> gen_len(["a b", "c"], ["a", "c d"], {"num_tokens": [3, 4]})
    {'gen_len': 3.5}

    A length, so not in [0, 100]. Empty where the model does not count its tokens (`aux_values`
    lacks "num_tokens"), as T5X's own models.
    """
    check_lengths(targets, predictions)
    if "num_tokens" not in aux_values:
        return {}
    return {"gen_len": round(float(np.mean(aux_values["num_tokens"])), 1)}


def check_lengths(targets: Sequence, predictions: Sequence) -> None:
    """Raises unless there is one prediction for each target, and one at least."""
    if len(targets) != len(predictions) or not len(targets):
        raise ValueError(
            "A metric needs one prediction for each target, and at least one; got "
            f"{len(targets)} targets and {len(predictions)} predictions. Check the split and the "
            "evaluation's batches."
        )


def _warn_of_unspaced(name: str, targets: Sequence[str | Sequence[str]]) -> None:
    _warn_of_texts(
        f"{name} counts what stands between spaces as words",
        targets,
        lambda text: len(_UNSPACED.findall(text)),
    )


def _warn_of_texts(
    rule: str, targets: Sequence[str | Sequence[str]], num_lost: Callable[[str], int]
) -> None:
    """Warns of references most of whose letters a metric does not see as words."""
    texts = [text for target in targets for text in _references(target)]
    lost = [text for text in texts if 2 * num_lost(text) > len(_LETTERS.findall(text))]
    if lost:
        logging.warning(
            "%s; %d of %d references are mostly of others, such as %r, and score near 0 or all or "
            "nothing. Use accuracy, or a metric of your own with a tokenizer for that language.",
            rule, len(lost), len(texts), lost[0][:80],
        )  # fmt: skip


def _references(target: str | Sequence[str]) -> list[str]:
    references = [target] if isinstance(target, str) else list(target)
    if not references:
        raise ValueError(
            "An example needs at least one reference; got an empty list. Leave examples without "
            "any out of the split."
        )
    return references


def _one_sentence_a_line(text: str) -> str:
    return "\n".join(_sentence_splitter().tokenize(text))


@functools.cache
def _sentence_splitter():
    splitter = _pretrained_splitter()
    if splitter is not None:
        logging.info("ROUGE splits sentences by NLTK's English 'punkt_tab'.")
        return splitter
    from nltk.tokenize import punkt

    logging.warning(
        "ROUGE splits sentences by NLTK's untrained rules, because its English 'punkt_tab' is not "
        "on disk; rougeLsum may differ a little. `hyperdecoders tasks --prepare NAME` of a task "
        "with ROUGE downloads it."
    )
    return punkt.PunktSentenceTokenizer()


def _pretrained_splitter():
    from nltk.tokenize import punkt

    try:
        return punkt.PunktTokenizer("english")
    except LookupError:
        return None


def _token_f1(target: list[str], prediction: list[str]) -> float:
    num_shared = (collections.Counter(target) & collections.Counter(prediction)).total()
    return 2 * num_shared / (len(target) + len(prediction)) if num_shared else 0.0


def _correlation(name: str, targets: Sequence[float], predictions: Sequence[float]) -> float:
    import scipy.stats

    check_lengths(targets, predictions)
    if len(targets) < 2:
        return 0.0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", scipy.stats.ConstantInputWarning)
        value = float(getattr(scipy.stats, name)(targets, predictions)[0])
    return 0.0 if np.isnan(value) else 100.0 * value
