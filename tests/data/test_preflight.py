import dataclasses

import pytest
import seqio

from hyperdecoders_jax.data import mixtures, pipeline, preflight
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
