"""Parts of the reader; a whole study is in test_study.py."""

import jax
import jax.numpy as jnp
import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from hyperdecoders_jax.analysis import examples_reader
from hyperdecoders_jax.tasks import postprocessors


@given(st.lists(st.integers(1, 40), min_size=1, max_size=6), st.integers(1, 90))
def test_as_many_are_drawn_as_there_may_be(sizes, limit):
    drawn = [int(rows.sum()) for rows in examples_reader.draw(sizes, limit)]
    assert sum(drawn) <= limit
    assert sum(drawn) > min(sum(sizes), limit) - len(sizes)
    most = max(drawn)
    assert all(count in (size, most) for count, size in zip(drawn, sizes, strict=True))


def test_windows_of_a_question_are_a_group():
    windows = [{"qid": b"a"}, {"qid": b"a"}, {"qid": b"b"}]
    assert examples_reader.groups_of(windows, ["x"] * 3) == [b"a", b"a", b"b"]
    answers = [postprocessors.Grouped((3, question), 1) for question in (0, 0, 1)]
    assert examples_reader.groups_of([{"inputs": "x"}] * 3, answers) == [(3, 0), (3, 0), (3, 1)]
    # A column of somebody's own may have any name.
    assert examples_reader.groups_of([{"inputs": "x", "group": 1}], [1]) is None


def test_sketches_keep_products_on_average():
    x = jax.random.normal(jax.random.key(1), (2, 3, 5000))
    found = examples_reader.sketch(x, 1000)
    assert found.shape == (2, 3, 1000)
    expected = jnp.einsum("abi,cdi->abcd", x, x) / 5000
    products = jnp.einsum("abi,cdi->abcd", found, found) / 5000
    np.testing.assert_allclose(products, expected, atol=0.15)
    np.testing.assert_array_equal(examples_reader.sketch(x, 5000), x)


def test_sketches_of_sketches_keep_lengths():
    twice = examples_reader.sketch(examples_reader.sketch(jnp.ones(8192), 4096), 512)
    assert 0.8 < jnp.sum(twice**2) / 8192 < 1.25


def test_an_answer_is_right_if_it_is_one_of_several():
    assert examples_reader.is_same({"answers": ["one", "two"]}, "two")
    assert examples_reader.is_same([1.0, 2.0], [1.0, 2.0])
    assert not examples_reader.is_same("one", "two")
    assert examples_reader.is_same(postprocessors.Grouped((3, 7), ["one", "two"]), "two")
    assert not examples_reader.is_same(postprocessors.Grouped((1, 7), 0), 1)
