import pytest

from hyperdecoders_jax.evaluation.config import EvaluationConfig


def test_an_evaluation_of_no_examples_is_refused():
    with pytest.raises(
        ValueError, match=r"at least one example of each task; got -3.*EVAL_EXAMPLES"
    ):
        EvaluationConfig(num_examples=-3)


def test_a_step_of_no_examples_is_refused():
    with pytest.raises(
        ValueError, match=r"at least one example, .*; got 0. Correct EVAL_BATCH_SIZE"
    ):
        EvaluationConfig(batch_size=0)


def test_left_out_metrics_are_a_list():
    with pytest.raises(TypeError, match=r"must be a list .*; got 'xsum/rouge1', one text. Write"):
        EvaluationConfig(left_out_metrics="xsum/rouge1")
