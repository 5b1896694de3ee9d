import dataclasses
import json

import pytest

from hyperdecoders_jax.planning import estimate, table
from hyperdecoders_jax.planning.chips import Chip
from hyperdecoders_jax.planning.estimate import Choice, Estimate, Memory, Work
from hyperdecoders_jax.planning.programs import Figures

# Of round numbers: 1,000 bytes; in a second 100 FLOPs, 50 bytes from memory, 10 sent, 20 cycles.
CHIP = Chip(1000, 100.0, 50.0, 10.0, 20.0, "v0:2x2")
FIGURES = Figures(
    cycles=60, moved_bytes=75, argument_bytes=400, temporary_bytes=300,
    program_bytes=50, sent_bytes={"all-reduce": 8, "all-gather": 2},
    num_collectives={"all-reduce": 3, "all-gather": 1}, compile_secs=7.0,
)  # fmt: skip
MEMORY = Memory(
    weights=250, optimiser=100, batch=30, temporaries=300, logits=90, program=50, other=20
)
MADE = Estimate(
    Choice("v0:2x2", 2, 1, "none"), CHIP, 4, Work(900, 32, 320.0), FIGURES, MEMORY, price=1.5
)


def test_seconds_are_of_cycles_and_of_what_is_sent():
    assert MADE.sent_secs == 1.0
    assert MADE.secs == 60 / 20 + 1.0
    assert MADE.moved_secs == 1.5


def test_the_roofline_is_of_the_mathematics():
    assert MADE.flops_secs == 320 / 4 / 100


def test_utilisation_is_of_the_mathematics_alone():
    assert MADE.mfu == 320 / 4 / 100 / 4


def test_rate_hours_and_cost_are_of_the_whole_slice():
    assert MADE.examples_per_sec == 8.0
    assert MADE.hours == 1.0
    assert MADE.cost == 4 * 1.5
    assert dataclasses.replace(MADE, price=None).cost == 4.0


def test_memory_fits_up_to_the_last_byte():
    assert MEMORY.peak == 750  # Logits are among the temporaries.
    assert MADE.headroom_bytes == 250
    full = dataclasses.replace(MADE, memory=dataclasses.replace(MEMORY, weights=500))
    assert full.fits
    assert not dataclasses.replace(MADE, memory=dataclasses.replace(MEMORY, weights=501)).fits


def test_the_cheapest_that_fits_is_picked():
    dear = dataclasses.replace(MADE, price=9.0)
    unfit = dataclasses.replace(MADE, price=0.1, memory=None, figures=None, problem="too large")
    assert estimate.pick([dear, unfit, MADE]) is MADE
    assert estimate.pick([unfit]) is None


@pytest.mark.parametrize("text", ["dear", "0", "-1", "v5p=3", "v5e=nan", "inf"])
def test_a_price_that_is_none_is_told(text):
    message = rf"--price must be what a chip costs an hour, for each of v5e; got '{text}'\. Write"
    with pytest.raises(ValueError, match=message):
        estimate.parse_prices(text, ["v5e"])


def test_tables_have_a_row_for_each_choice():
    unfit = dataclasses.replace(MADE, memory=None, figures=None, problem="It is too large.")
    header, row, without, problem = table.summary([MADE, unfit]).splitlines()
    assert header.split()[:6] == [
        "slice",
        "MODEL_PARALLEL",
        "NUM_MICROBATCHES",
        "REMAT",
        "fits",
        "GiB",
    ]
    assert row.split()[:5] == ["v0:2x2", "2", "1", "none", "yes"]
    assert row.split()[-5:] == ["20.0%", "8", "1.00", "6.00", "7"]
    assert without.split()[4:6] == ["no", "-"]
    assert problem == "v0:2x2 2 1 none: It is too large."
    assert len(table.memory([MADE, unfit]).splitlines()) == 2
    assert table.communication([MADE, unfit]).splitlines()[1].split()[4:8] == [
        "0.00", "(1)", "0.00", "(3)",
    ]  # fmt: skip


def test_the_whole_models_compile_time_is_unknown_from_few_layers():
    extended = dataclasses.replace(FIGURES, compile_secs=None)
    row = table.summary([dataclasses.replace(MADE, figures=extended)]).splitlines()[1]
    assert row.split()[-2:] == ["6.00", "-"]


def test_decoding_has_no_roofline():
    decoding = dataclasses.replace(MADE, work=Work(900, 32, None))
    assert decoding.flops_secs is decoding.moved_secs is None
    _, row, decoded = table.summary([MADE, decoding]).splitlines()
    assert row.split()[9:12] == ["0.8000", "1.5000", "1.0000"]
    assert decoded.split()[9:12] == ["-", "-", "1.0000"]


def test_json_holds_all_numbers():
    told = json.loads(json.dumps(MADE.to_dict()))
    assert told["memory"]["peak"] == 750
    assert told["compiled"]["cycles"] == 60
    assert (told["fits"], told["cost"], told["model_parallel"]) == (True, 6.0, 2)
    unfit = dataclasses.replace(MADE, memory=None, figures=None, problem="too large")
    assert unfit.to_dict()["problem"] == "too large"
