import pytest
import seqio

from hyperdecoders_jax.data import mixtures


def test_an_unknown_name_offers_the_nearest(make_task, register):
    register(make_task("same_words"))
    with pytest.raises(ValueError, match=r"must be registered.*'same_wodrs'.*'same_words'.*import"):
        mixtures.get_mixture_or_task("same_wodrs")


def test_leaves_of_nested_mixtures_are_sorted_and_share_as_seqio_says(make_task):
    b, a, c = make_task("b", 4), make_task("a", 2), make_task("c", 9)
    inner = seqio.Mixture("inner", [(b, 3), (a, 1)])
    outer = seqio.Mixture("outer", [(inner, 2), (c, 6)])
    leaves = mixtures.leaf_tasks(outer)
    assert [task.name for task in leaves] == ["a", "b", "c"]
    assert mixtures.mixing_rates(outer, leaves) == {"a": 0.0625, "b": 0.1875, "c": 0.75}


def test_only_tasks_with_the_split_are_mixed_and_the_others_named_once(make_task, caplog):
    both, one = make_task("both", splits=("train", "test")), make_task("one")
    mixture = seqio.Mixture("of_two", [both, one], default_rate=1)
    assert list(mixtures.mixing_table(mixture, "test")) == ["both"]
    assert mixtures.mixing_table(mixture, "test")["both"].rate == 1.0
    assert [record.getMessage() for record in caplog.records] == [
        "No split 'test': one; skipped where that split of of_two is read."
    ]
    assert list(mixtures.mixing_table(mixture, "train")) == ["both", "one"]


def test_a_split_that_no_task_has_is_an_error(make_task):
    with pytest.raises(ValueError, match=r"'validatoin'.*\['train'.*Set the split"):
        mixtures.leaf_tasks(make_task("a"), "validatoin")


def test_size_proportional_rates_follow_sizes(make_task):
    tasks = [make_task("a", 30), make_task("b", 10)]
    mixture = seqio.Mixture("m", tasks, default_rate=seqio.mixing_rate_num_examples)
    table = mixtures.mixing_table(mixture, "train")
    assert table == {"a": mixtures.MixingRow(0.75, 30), "b": mixtures.MixingRow(0.25, 10)}


def test_a_rate_that_needs_an_unknown_size_is_an_error(make_task):
    mixture = seqio.Mixture(
        "m", [make_task("a", counts=False)], default_rate=seqio.mixing_rate_num_examples
    )
    with pytest.raises(ValueError, match=r"computable.*'a'.*num_input_examples"):
        mixtures.mixing_table(mixture, "train")


@pytest.mark.parametrize("rates", [(0, 0), (-1, 2), (float("inf"), 1)])
def test_senseless_rates_are_an_error(make_task, rates):
    mixture = seqio.Mixture("m", list(zip([make_task("a"), make_task("b")], rates, strict=True)))
    with pytest.raises(ValueError, match=r"finite, not negative, and not all zero.*Correct"):
        mixtures.mixing_table(mixture, "train")


def test_task_names_default_to_the_leaves_and_may_hold_more(make_task):
    mixture = seqio.Mixture("m", [make_task("b"), make_task("a")], default_rate=1)
    assert mixtures.resolve_task_names(mixture) == ("a", "b")
    assert mixtures.resolve_task_names(mixture, ["b", "x", "a"]) == ("b", "x", "a")


def test_a_task_that_is_not_in_the_list_is_an_error_with_the_nearest_name(make_task):
    with pytest.raises(ValueError, match=r"'topic'.*Did you mean 'topics'.*append"):
        mixtures.resolve_task_names(make_task("topic"), ["words", "topics"])


def test_a_list_that_repeats_a_name_is_an_error():
    with pytest.raises(ValueError, match=r"different; got \['a'\] more than once.*Remove"):
        mixtures.task_number("a", ["a", "b", "a"])


def test_tasks_of_different_vocabularies_do_not_mix(make_task):
    other = make_task("b").replace(
        output_features=dict.fromkeys(
            ("inputs", "targets"), seqio.Feature(seqio.ByteVocabulary(extra_ids=7))
        )
    )
    with pytest.raises(ValueError, match=r"share one vocabulary; 'b'.*RUN_VOCABULARY"):
        mixtures.check_features_agree([make_task("a"), other])


def test_a_task_without_inputs_is_an_error(make_task):
    task = make_task("a").replace(output_features={"targets": seqio.Feature(None)})
    with pytest.raises(ValueError, match=r"must have.*'a' has \['targets'\].*Give it 'inputs'"):
        mixtures.check_features_agree([task])


def test_missing_tfds_data_say_where_they_were_looked_for_and_what_to_run(make_task, tmp_path):
    source = seqio.TfdsDataSource("glue/rte:2.0.0", tfds_data_dir=str(tmp_path))
    task = make_task("rte").replace(source=source)
    with pytest.raises(ValueError, match=r"no glue/rte:2.0.0 in") as error:
        mixtures.leaf_tasks(task, "train")
    assert str(tmp_path) in str(error.value)
    command = f"`hyperdecoders tasks --prepare rte --tfds_data_dir={tmp_path}`"
    assert command in str(error.value)
    assert "--tfds_data_dir" in str(error.value)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["glue/rte:9.9.9", "gleu/rte:2.0.0"])
def test_a_data_set_that_tfds_does_not_know_is_an_error(make_task, tmp_path, name):
    source = seqio.TfdsDataSource(name, tfds_data_dir=str(tmp_path))
    with pytest.raises(ValueError, match=rf"'rte' must be.*TFDS knows; got '{name}'.*Correct"):
        mixtures.check_data_are_there(make_task("rte").replace(source=source), "train")


@pytest.mark.parametrize("pattern", ["a.txt", "*.txt"])
def test_missing_files_are_an_error(make_task, tmp_path, pattern):
    source = seqio.TextLineDataSource({"train": str(tmp_path / pattern)})
    task = make_task("lines").replace(source=source)
    with pytest.raises(ValueError, match=r"no file matches .*txt for split 'train'. Put"):
        mixtures.leaf_tasks(task, "train")


def test_a_function_that_is_not_called_is_no_mixture():
    with pytest.raises(TypeError, match=r"got <function .*write \(\) after its name"):
        mixtures.get_mixture_or_task(mixtures.leaf_tasks)
