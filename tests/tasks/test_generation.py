"""What the original generates its tasks with."""

import pytest

from hyperdecoders_jax.tasks import generation


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        # Hugging Face's max_length less the decoder's start token, and beams.
        ("glue_cola_v200", (2, 1)),
        ("anli_v010", (2, 1)),
        ("squad_v300", (15, 1)),
        ("mrqa_squad_v100", (63, 1)),
        ("xsum", (59, 6)),
        ("cnn_dailymail_v340", (59, 4)),
        ("wiki_lingua_english_en_v110", (59, 4)),
        ("wmt16_en_ro_v100", (299, 4)),
    ],
)
def test_lengths_and_beams_are_the_originals(name, expected):
    assert generation.original()[name] == expected


def test_what_a_run_changes_stays_with_it():
    generation.original()["xsum"] = generation.Generation(9, 1)
    assert generation.original()["xsum"] == (59, 6)
