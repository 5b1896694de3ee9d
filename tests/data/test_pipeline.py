import pytest

from hyperdecoders_jax.data import pipeline
from tests.data.conftest import LENGTHS


@pytest.mark.parametrize("lengths", [{}, {"inputs": 8}, {"inputs": 4, "targets": 0}])
def test_lengths_must_be_given(lengths):
    with pytest.raises(ValueError, match=r"at least 1; got .*TASK_FEATURE_LENGTHS"):
        pipeline.PipelineConfig("m", lengths)


def test_a_length_of_another_name_is_refused():
    with pytest.raises(ValueError, match=r"got .target., too. Did you mean .targets.\?"):
        pipeline.PipelineConfig("m", {"inputs": 8, "targets": 4, "target": 4})


@pytest.mark.parametrize(
    ("field", "value"),
    [("batch_size", 0), ("seed", -1), ("shuffle_buffer_size", 0), ("examples_per_turn", -1)],
)
def test_numbers_out_of_range_are_refused(field, value):
    with pytest.raises(ValueError, match=rf"PipelineConfig.{field} must be .* got {value}. Set"):
        pipeline.PipelineConfig("m", LENGTHS, **{field: value})


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("batch_size", "64x", "must be a whole number; got '64x', a str. Set batch_size"),
        ("seed", 0.5, "must be a whole number; got 0.5, a float. Set seed"),
        ("task_names", "a", r"must be a list of names; got 'a', one text. Write .*'a',"),
    ],
)
def test_values_of_another_type_are_refused(field, value, message):
    with pytest.raises(TypeError, match=f"PipelineConfig.{field} {message}"):
        pipeline.PipelineConfig("m", LENGTHS, **{field: value})


def test_examples_of_a_step_choose_rows_only_where_they_are_packed():
    with pytest.raises(ValueError, match="examples_per_step must be None unless rows are packed"):
        pipeline.PipelineConfig("m", LENGTHS, examples_per_step=128)
    with pytest.raises(ValueError, match="examples_per_step must be an integer of at least 1"):
        pipeline.PipelineConfig("m", LENGTHS, examples_per_step=0, pack=True)


def test_a_packed_row_has_room_for_one_example():
    short = {"inputs": LENGTHS["inputs"] - 1, "targets": LENGTHS["targets"]}
    with pytest.raises(ValueError, match="row_lengths must have room for one example"):
        pipeline.PipelineConfig("m", LENGTHS, pack=True, row_lengths=short)
    assert pipeline.PipelineConfig("m", LENGTHS, row_lengths=short).row_lengths == short
    assert pipeline.PipelineConfig("m", LENGTHS, pack=True).packed_lengths == LENGTHS


def test_gin_flags_find_the_class_by_its_module():
    assert pipeline.PipelineConfig.__module__ == "hyperdecoders_jax.data.pipeline"


@pytest.mark.parametrize("field", ["shuffle", "truncate_targets", "use_cached", "pack"])
def test_switches_are_true_or_false(field):
    with pytest.raises(ValueError, match=f"PipelineConfig.{field} must be True or .* got 'False'"):
        pipeline.PipelineConfig("m", LENGTHS, **{field: "False"})
