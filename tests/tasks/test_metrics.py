"""Metrics against values worked out by hand or counted independently, and their edges."""

import collections
import functools
import hashlib
import itertools
import math
import subprocess
import sys
import zipfile

import nltk
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hyperdecoders_jax.tasks import metrics

ALL = (
    metrics.accuracy,
    metrics.f1_score_with_invalid,
    metrics.matthews_corrcoef,
    metrics.pearson_corrcoef,
    metrics.spearman_corrcoef,
    metrics.squad,
    metrics.rouge,
    metrics.bleu,
    functools.partial(metrics.gen_len, aux_values={"num_tokens": [3]}),
)

# Text -> what the official SQuAD v1.1 script's normalize_answer makes of it.
# fmt: off
NORMALIZED = (
    ("the dog", "dog"), ("The Dog", "dog"), ("a dog", "dog"), ("an apple", "apple"), ("A", ""),
    ("the", ""), ("the the", ""), ("a an the", ""), ("The a the dog", "dog"), ("THE END", "end"),
    ("Anthem", "anthem"), ("another day", "another day"), ("theater", "theater"),
    ("banana", "banana"), ("Vitamin A", "vitamin"), ("a.m.", "am"), ("A.", ""),
    ("the-dog", "thedog"), ("dog-the", "dogthe"), ("a's", "as"), ("the's", "thes"), ("Thé", "thé"),
    ("l'an 2000", "lan 2000"), ("an\xa0hour", "hour"), ("the\ndog", "dog"), ("a\tb", "b"),
    ("a1", "a1"), ("1a", "1a"), ("a 1", "1"), ("The_End", "theend"), ("a_b", "ab"),
    ("the/a", "thea"), ("à la carte", "à la carte"), ("plan a the b", "plan b"), ("U.S.", "us"),
    ("U.S.A. Army", "usa army"), ("don't", "dont"), ("dont", "dont"), ("it's", "its"),
    ("rock 'n' roll", "rock n roll"), ("AT&T", "att"), ("C++", "c"), ("C#", "c"), ("50%", "50"),
    ("$5.00", "500"), ("$1,000", "1000"), ("(1990)", "1990"), ("[1]", "1"), ("{x}", "x"),
    ("a|b", "ab"), ("~5", "5"), ("x^2", "x2"), ("a@b.com", "abcom"), ("#1", "1"), ("2*3", "23"),
    ("yes/no", "yesno"), ("back\\slash", "backslash"), ("`code`", "code"), ("\"quoted\"", "quoted"),
    ("'quoted'", "quoted"), ("Hello, World!", "hello world"), ("what?", "what"), ("!!!", ""),
    ("...", ""), ("semi;colon", "semicolon"), ("co:lon", "colon"), ("<tag>", "tag"), ("x=y", "xy"),
    ("and_or", "andor"), ("well-known", "wellknown"), ("1990-1991", "19901991"),
    ("1990–1991", "1990–1991"), ("state—of—art", "state—of—art"), ("−5", "−5"), ("-5", "5"),
    ("non‐breaking", "non‐breaking"), ("soft\xadhyphen", "soft\xadhyphen"), ("a-b", "ab"),
    ("the -dog", "dog"), ("3.14", "314"), ("1,234,567", "1234567"), ("1 234", "1 234"),
    ("007", "007"), ("½ cup", "½ cup"), ("10²", "10²"), ("١٢", "١٢"), ("5th", "5th"), ("1.", "1"),
    ("12:30 p.m.", "1230 pm"), ("“the dog”", "“ dog”"), ("dog’s", "dog’s"), ("‘a’ dog", "‘ ’ dog"),
    ("“a”", "“ ”"), ("…and", "…and"), ("«the»", "« »"), ("Beyoncé", "beyoncé"),
    ("BEYONCÉ", "beyoncé"), ("Beyonce\u0301", "beyonce\u0301"), ("İstanbul", "i\u0307stanbul"),
    ("Straße", "straße"), ("ΟδυσσεύΣ", "οδυσσεύς"), ("北京、中国", "北京、中国"),
    ("ＴＨＥ dog", "ｔｈｅ dog"),
    ("한국", "한국"), ("😀 the smile", "😀 smile"), ("dog\u200bhouse", "dog\u200bhouse"),
    ("  two  spaces  ", "two spaces"), ("\u3000wide\u3000space\u3000", "wide space"),
    ("line\r\nbreak", "line break"), ("", ""), (" ", ""),
)
# fmt: on

# Gold answers, prediction -> the official script's exact match and F1.
ANSWERED = (
    (["the lazy dog", "Dog"], "a dog", True, 1.0),
    (["New York", "New York City", "NYC"], "new york state", False, 0.8),
    (["1990", "in 1990"], "in the 1990", True, 1.0),
    (["$1,000", "one thousand dollars"], "1000 dollars", False, 2 / 3),
    (["10 – 12", "ten to twelve"], "10-12", False, 0.0),
    (["a b c d", "c d e f g h"], "d c b", False, 1.0),  # "a" is an article
    (["cat", "cat"], "cat cat cat", False, 0.5),
    (["Beyoncé", "Beyonce"], "beyonce", True, 1.0),
    (["Beyoncé Knowles", "Queen B"], "Beyonce\u0301 Knowles", False, 0.5),
    (["“the dog”"], "dog", False, 0.0),
    (["dog’s bone", "dogs bone"], "dog's bone", True, 1.0),
    (["北京、中国"], "北京 中国", False, 0.0),
    (["", "dog"], "the", True, 0.0),
    (["dog"], "", False, 0.0),
    (["the"], "a", True, 0.0),
)


LABELS = st.lists(st.tuples(st.integers(0, 1), st.integers(-1, 2)), min_size=1, max_size=9)
WORDS = st.lists(st.sampled_from(["cat", "dog", "ran", "sat"]), max_size=5)


def unzip(pairs):
    return [list(column) for column in zip(*pairs, strict=True)]


@pytest.fixture
def nltk_folder(tmp_path, monkeypatch):
    """The only folder that NLTK looks in; empty."""
    folder = tmp_path / "nltk_data"
    folder.mkdir()
    monkeypatch.setattr(nltk.data, "path", [str(folder)])
    metrics._sentence_splitter.cache_clear()
    yield folder
    metrics._sentence_splitter.cache_clear()


def write_punkt(folder):
    """A splitter that knows one abbreviation."""
    english = folder / "tokenizers" / "punkt_tab" / "english"
    english.mkdir(parents=True)
    (english / "abbrev_types.txt").write_text("dr\n", encoding="utf-8")
    for name in ("sent_starters.txt", "collocations.tab", "ortho_context.tab"):
        (english / name).write_text("", encoding="utf-8")
    return english


def test_accuracy_counts_equal_texts():
    assert metrics.accuracy(["a", "b", "c", "d"], ["a", "B", "c", ""]) == {"accuracy": 50.0}


def test_accuracy_counts_equal_numbers():
    assert metrics.accuracy([0, 1, 1], [0, -1, 1]) == {"accuracy": pytest.approx(200 / 3)}


def test_f1_is_of_label_one():
    # 2 true positives, 1 false positive, 1 false negative: 2*2 / (2*2 + 1 + 1)
    scores = metrics.f1_score_with_invalid([1, 1, 1, 0, 0], [1, 1, 0, 1, 0])
    assert scores == {"f1": pytest.approx(100 * 4 / 6)}


def test_f1_counts_invalid_predictions_as_wrong():
    # The invalid ones become 0 for target 1 and 1 for target 0.
    invalid = metrics.f1_score_with_invalid([1, 1, 0], [1, -1, 7])
    assert invalid == metrics.f1_score_with_invalid([1, 1, 0], [1, 0, 1])
    assert invalid == {"f1": pytest.approx(50.0)}


def test_f1_without_any_positive_is_zero():
    assert metrics.f1_score_with_invalid([0, 0], [0, 0]) == {"f1": 0.0}


@given(LABELS)
def test_f1_equals_one_that_counts(pairs):
    counts = collections.Counter()
    for target, prediction in pairs:
        valid = prediction in (0, 1)
        counts[target, prediction if valid else 1 - target] += 1
    errors = counts[0, 1] + counts[1, 0]
    expected = 200 * counts[1, 1] / (2 * counts[1, 1] + errors) if counts[1, 1] else 0
    assert metrics.f1_score_with_invalid(*unzip(pairs)) == {"f1": pytest.approx(expected)}


@given(LABELS)
def test_matthews_equals_the_correlation_of_one_hot_labels(pairs):
    targets, predictions = unzip(pairs)
    classes = np.array([-1, 0, 1, 2])
    x, y = (np.array(ids)[:, None] == classes for ids in (targets, predictions))
    x, y = x - x.mean(0), y - y.mean(0)
    norm = math.sqrt((x**2).sum() * (y**2).sum())
    expected = 100 * (x * y).sum() / norm if norm > 1e-9 else 0
    scores = metrics.matthews_corrcoef(targets, predictions)
    assert scores == {"matthews_corrcoef": pytest.approx(expected, abs=1e-6)}


def test_matthews_is_the_correlation_of_two_classes():
    # (tp*tn - fp*fn) / sqrt((tp+fp)(tp+fn)(tn+fp)(tn+fn)) with tp=2, tn=1, fp=1, fn=0
    scores = metrics.matthews_corrcoef([1, 1, 0, 0], [1, 1, 1, 0])
    assert scores == {"matthews_corrcoef": pytest.approx(100 * 2 / math.sqrt(3 * 2 * 2 * 1))}


def test_matthews_keeps_an_invalid_prediction_as_a_third_class():
    # Gorodkin's generalisation: c=2 right of s=4; predicted 1,1,2 times (0, 1, -1), true 2,2,0.
    # (c*s - sum p*t) / sqrt((s^2 - sum p^2)(s^2 - sum t^2)) = (8 - 4) / sqrt(10 * 8)
    scores = metrics.matthews_corrcoef([1, 1, 0, 0], [1, -1, -1, 0])
    assert scores == {"matthews_corrcoef": pytest.approx(100 * 4 / math.sqrt(80))}


@pytest.mark.filterwarnings("error")
def test_matthews_of_constant_predictions_is_zero():
    assert metrics.matthews_corrcoef([1, 0, 1], [1, 1, 1]) == {"matthews_corrcoef": 0.0}
    assert metrics.matthews_corrcoef([1, 1, 1], [1, 1, 1]) == {"matthews_corrcoef": 0.0}


def test_pearson_is_the_linear_correlation():
    # deviations (-1, 0, 1) and (-4/3, -1/3, 5/3): 3 / sqrt(2 * 42/9)
    scores = metrics.pearson_corrcoef([1.0, 2.0, 3.0], [1.0, 2.0, 4.0])
    assert scores == {"pearson_corrcoef": pytest.approx(100 * 3 / math.sqrt(2 * 42 / 9))}


def test_spearman_is_the_correlation_of_ranks():
    # rank differences 0, 1, -1: 1 - 6 * 2 / (3 * 8)
    scores = metrics.spearman_corrcoef([1.0, 2.0, 9.0], [10.0, 30.0, 20.0])
    assert scores == {"spearman_corrcoef": pytest.approx(50.0)}


def test_spearman_gives_ties_their_mean_rank():
    # Ranks 1, 2.5, 2.5, 4 and 1, 3.5, 2, 3.5: 3.75 / sqrt(4.5 * 4.5)
    scores = metrics.spearman_corrcoef([1.0, 2.0, 2.0, 5.0], [-1.0, 3.8, 2.0, 3.8])
    assert scores == {"spearman_corrcoef": pytest.approx(100 * 3.75 / 4.5)}


def test_pearson_takes_an_invalid_prediction_as_minus_one():
    # deviations (-1, 0, 1) and (-2, 1, 1) from the means 2 and 1: 3 / sqrt(2 * 6)
    scores = metrics.pearson_corrcoef([1.0, 2.0, 3.0], [-1.0, 2.0, 2.0])
    assert scores == {"pearson_corrcoef": pytest.approx(100 * 3 / math.sqrt(2 * 6))}


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("metric_fn", [metrics.pearson_corrcoef, metrics.spearman_corrcoef])
def test_a_correlation_that_does_not_exist_is_zero(metric_fn):
    for targets, predictions in [
        ([1.0, 2.0, 3.0], [2.0, 2.0, 2.0]),
        ([1.0, 1.0], [1.0, 2.0]),
        ([1.0], [1.0]),
    ]:
        assert list(metric_fn(targets, predictions).values()) == [0.0]


def test_squad_normalises_both_sides():
    assert metrics.squad(["The U.S. Army"], ["the us  army!"]) == {"em": 100.0, "f1": 100.0}


def test_squad_f1_counts_shared_words_with_repetition():
    # Shared: "new", "new" is once in the target; precision 1/2, recall 1/3.
    scores = metrics.squad(["new york city"], ["new new"])
    assert scores == {"em": 0.0, "f1": pytest.approx(40.0)}


def test_squad_is_a_mean_over_examples():
    scores = metrics.squad(["dog", "cat"], ["dog", "a mouse"])
    assert scores == {"em": 50.0, "f1": 50.0}


def test_squad_of_two_empty_answers_matches_but_has_no_f1():
    assert metrics.squad([""], ["the"]) == {"em": 100.0, "f1": 0.0}


def test_squad_normalises_as_the_official_script():
    for text, normalized in NORMALIZED:
        assert metrics.normalize_answer(text) == normalized, text


@pytest.mark.parametrize(("golds", "prediction", "match", "f1"), ANSWERED)
def test_squad_takes_the_best_gold_answer_as_the_official_script(golds, prediction, match, f1):
    scores = metrics.squad([golds], [prediction])
    assert scores == {"em": 100.0 * match, "f1": pytest.approx(100 * f1)}


def test_squad_takes_one_answer_and_several_in_one_call():
    scores = metrics.squad(["dog", ("cat", "the cats", "felines")], ["dog", "cats"])
    assert scores == {"em": 100.0, "f1": 100.0}


@given(LABELS)
def test_label_metrics_stay_in_their_range(pairs):
    targets, predictions = unzip(pairs)
    for metric_fn in (metrics.accuracy, metrics.f1_score_with_invalid, metrics.matthews_corrcoef):
        [score] = metric_fn(targets, predictions).values()
        assert -100 <= score <= 100


@given(st.lists(st.text("ab the.", max_size=9), min_size=1, max_size=5))
def test_a_perfect_answer_has_full_marks(texts):
    assert metrics.accuracy(texts, texts) == {"accuracy": 100.0}
    assert metrics.squad(texts, texts)["em"] == 100.0


def test_rouge_counts_words_word_pairs_and_a_common_subsequence():
    # Shared of 5 and 4: the, cat, dog (3), "the cat" (1 of 4 and 3), the cat dog (3).
    scores = metrics.rouge(["the cat saw one dog"], ["the cat bit dog"])
    words = pytest.approx(100 * 2 * 3 / 9)
    pairs = pytest.approx(100 * 2 * 1 / 7)
    assert scores == {"rouge1": words, "rouge2": pairs, "rougeL": words, "rougeLsum": words}


def test_rouge_of_a_summary_joins_what_its_sentences_cover():
    # Lin 2004, section 3.2: the sentences cover w1 w3 w5 and w1 w2, together 4 words of 5.
    scores = metrics.rouge(["w1 w2 w3 w4 w5"], ["w1 w3 w8 w9 w5\nw1 w2 w6 w7 w8"])
    assert scores["rougeLsum"] == pytest.approx(100 * 2 * 4 / 15)
    assert scores["rougeL"] == pytest.approx(100 * 2 * 3 / 15)


@settings(max_examples=20)
@given(WORDS, WORDS)
def test_rouge_equals_one_that_enumerates(target, prediction):
    def overlap(first, second):
        shared = (collections.Counter(first) & collections.Counter(second)).total()
        return 200 * shared / (len(first) + len(second)) if shared else 0

    def subsequences(text):
        return {c for n in range(len(text) + 1) for c in itertools.combinations(text, n)}

    longest = max(map(len, subsequences(target) & subsequences(prediction)))
    scores = metrics.rouge([" ".join(target)], [" ".join(prediction)])
    assert scores["rouge1"] == pytest.approx(overlap(target, prediction))
    assert scores["rouge2"] == pytest.approx(
        overlap(list(itertools.pairwise(target)), list(itertools.pairwise(prediction)))
    )
    assert scores["rougeL"] == pytest.approx(
        200 * longest / (len(target) + len(prediction)) if longest else 0
    )


def test_rouge_compares_stems_of_ascii_words():
    assert metrics.rouge(["Running, jumps!"], ["(run) jumped"])["rouge1"] == pytest.approx(100)
    # Other letters part words: "na", "ve".
    assert metrics.rouge(["naïve"], ["na ve"])["rouge1"] == pytest.approx(100)


@pytest.mark.parametrize(
    ("target", "prediction"), [("", ""), ("dog", ""), ("", "dog"), ("。", "!")]
)
def test_rouge_without_words_is_zero(target, prediction):
    assert set(metrics.rouge([target], [prediction]).values()) == {0.0}


def test_rouge_takes_the_best_of_several_references():
    scores = metrics.rouge([["one big cat", "the dog ran"]], ["the dog"])
    assert scores["rouge1"] == pytest.approx(80.0)


def test_rouge_is_the_same_twice_and_leaves_random_numbers_alone():
    targets, predictions = ["the cat", "dog", "one two"], ["the dog", "dog", "two"]
    np.random.seed(5)
    expected = np.random.random(3)
    np.random.seed(5)
    first = metrics.rouge(targets, predictions)
    np.testing.assert_array_equal(np.random.random(3), expected)
    assert metrics.rouge(targets, predictions) == first
    # The median of the resamples' means lies near the mean of 50, 100 and 66.67.
    assert first["rouge1"] == pytest.approx(72.2, abs=6)


def test_rouge_splits_sentences_without_a_download(nltk_folder, caplog):
    # "Dr." and "Bo" are two sentences: both are found.
    assert metrics.rouge(["Dr. Bo"], ["Bo Dr."])["rougeLsum"] == pytest.approx(100)
    assert "'punkt_tab' is not on disk" in caplog.text
    assert "hyperdecoders tasks --prepare" in caplog.text
    caplog.clear()
    metrics.rouge(["Dr. Bo"], ["Bo Dr."])
    assert not caplog.text


def test_rouge_uses_the_trained_splitter_where_it_is(nltk_folder):
    write_punkt(nltk_folder)
    # "Dr. Bo" is one sentence: one word of two is found in order.
    assert metrics.rouge(["Dr. Bo"], ["Bo Dr."])["rougeLsum"] == pytest.approx(50)


def test_preparing_rouge_downloads_the_splitter_once(nltk_folder, tmp_path, monkeypatch):
    assert metrics.rouge(["Dr. Bo"], ["Bo Dr."])["rougeLsum"] == pytest.approx(100)
    english = write_punkt(tmp_path)
    archive = nltk_folder / "punkt_tab.zip"
    with zipfile.ZipFile(archive, "w") as file:
        for path in sorted(english.iterdir()):
            file.write(path, f"punkt_tab/english/{path.name}")
    data = archive.read_bytes()
    index = nltk_folder / "index.xml"
    index.write_text(
        f"""<nltk_data><packages><package id="punkt_tab" name="punkt" subdir="tokenizers" unzip="1"
        size="{len(data)}" unzipped_size="3" checksum="{hashlib.md5(data).hexdigest()}"
        sha256_checksum="{hashlib.sha256(data).hexdigest()}" url="{archive.as_uri()}"/></packages>
        <collections/></nltk_data>"""
    )
    downloader = nltk.downloader.Downloader(index.as_uri(), str(nltk_folder))
    monkeypatch.setattr(nltk, "download", downloader.download)

    metrics.rouge.prepare()
    assert metrics.rouge(["Dr. Bo"], ["Bo Dr."])["rougeLsum"] == pytest.approx(50)
    index.unlink()  # Another download would fail.
    metrics.rouge.prepare()


def test_a_splitter_that_cannot_be_downloaded_says_what_to_do(nltk_folder, monkeypatch):
    nowhere = nltk.downloader.Downloader((nltk_folder / "index.xml").as_uri(), str(nltk_folder))
    monkeypatch.setattr(nltk, "download", nowhere.download)
    with pytest.raises(OSError, match=r"'punkt_tab' .* not be downloaded: .* by hand, or do with"):
        metrics.prepare_rouge()


def test_bleu_pools_the_counts_of_all_examples():
    # Found of 1 to 4 words: 5/6, 3/5, 2/4, 1/3 and 3/3, 2/2, 1/1, 0/0; 9 words for 12.
    scores = metrics.bleu(
        ["the cat sat on the mat", "a dog ran in a park"], ["the cat sat on a mat", "a dog ran"]
    )
    precision = (8 / 9 * 5 / 7 * 3 / 5 * 1 / 3) ** 0.25
    assert scores == {"bleu": pytest.approx(100 * precision * math.exp(1 - 12 / 9))}


def test_bleu_takes_several_references_and_different_numbers_of_them():
    # "the the" and "the cat sat" come from different references; of the two lengths as near, 3
    # and 5, the shorter counts. Found: 4/4, 3/3, 1/2, and half of 1 where nothing is.
    golds = ["the cat sat", "the the dog ran off"]
    assert metrics.bleu([golds], ["the the cat sat"]) == {
        "bleu": pytest.approx(100 * (1 * 1 * 1 / 2 * 1 / 2) ** 0.25)
    }
    # With another example, all of it found: 8/8, 6/6, 3/4, 1/2.
    assert metrics.bleu([golds, "one two six ten"], ["the the cat sat", "one two six ten"]) == {
        "bleu": pytest.approx(100 * (1 * 1 * 3 / 4 * 1 / 2) ** 0.25)
    }


def test_bleu_parts_punctuation_and_keeps_case_and_accents():
    assert metrics.bleu(["Où est-il , hein ?"], ["Où est-il, hein?"])["bleu"] == pytest.approx(100)
    assert metrics.bleu(["Où est-il, hein?"], ["ou EST-IL, hein?"])["bleu"] < 50


def test_bleu_of_empty_texts_is_zero():
    assert metrics.bleu(["dog", ""], ["", ""]) == {"bleu": 0.0}


def test_gen_len_is_a_mean_with_one_decimal():
    aux_values = {"num_tokens": np.array([3, 4, 4])}
    assert metrics.gen_len(["a"] * 3, ["b"] * 3, aux_values) == {"gen_len": 3.7}


def test_gen_len_is_left_out_where_tokens_are_not_counted():
    assert metrics.gen_len(["a"], ["b"], {"scores": [-0.5]}) == {}


@pytest.mark.parametrize("metric_fn", [metrics.squad, metrics.rouge, metrics.bleu])
def test_an_example_needs_a_reference(metric_fn):
    with pytest.raises(ValueError, match=r"at least one reference; got an empty list\. Leave"):
        metric_fn([["a"], []], ["a", "b"])


def test_importing_metrics_loads_none_of_their_libraries():
    code = (
        "import sys, hyperdecoders_jax.tasks.metrics; "
        "heavy = {'sklearn', 'scipy', 'rouge_score', 'sacrebleu', 'nltk'} & set(sys.modules); "
        "sys.exit(f'{heavy}' if heavy else 0)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize("metric_fn", ALL)
@pytest.mark.parametrize(("targets", "predictions"), [([1, 0], [1]), ([], [])])
def test_targets_and_predictions_must_pair_up(metric_fn, targets, predictions):
    with pytest.raises(ValueError, match=r"got \d targets and \d predictions\. Check the split"):
        metric_fn(targets, predictions)


@pytest.mark.parametrize(
    ("metric_fn", "text", "rule"),
    [
        (metrics.rouge, "Кошка сидит", "ROUGE counts the letters a to z and digits alone; 1 of 2"),
        (metrics.rouge, "猫坐在垫子上 IBM", "ROUGE counts the letters a to z"),
        (metrics.rouge, "Köln am Rhein", None),
        (metrics.rouge, "!?", None),
        (metrics.bleu, "猫坐在垫子上", "BLEU counts what stands between spaces as words; 1 of 2"),
        (metrics.bleu, "แมวนั่ง", "BLEU counts"),
        (metrics.bleu, "Кошка сидит", None),
        (metrics.squad, "東京タワー", "SQuAD's F1 counts what stands between spaces"),
        (metrics.squad, "서울 타워", None),
    ],
)
def test_texts_that_a_metric_cannot_count_are_told(caplog, metric_fn, text, rule):
    metric_fn([text, "the cat"], [text, "the cat"])
    messages = [x.getMessage() for x in caplog.records if "mostly of others" in x.getMessage()]
    assert len(messages) == (rule is not None)
    assert all(rule in message and text in message for message in messages)
