from hyperdecoders_jax.data import best_window


def test_the_smallest_score_wins_and_the_first_of_equals():
    assert best_window.answer([("b", 0.5), ("a", 0.25), ("c", 0.25)]) == "a"


def test_exactly_empty_texts_do_not_compete():
    assert best_window.answer([("", 0.1), (" ", 0.2), ("a", 0.3)]) == " "
    assert best_window.answer([("", 0.1), ("", 0.2)]) == ""
    assert best_window.answer([]) == ""
