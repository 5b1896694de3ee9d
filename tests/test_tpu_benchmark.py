from benchmarks import tpu
from tests.planning import test_program_text


def test_choices_are_read_from_a_flag():
    assert tpu.read_choices("").dropout == "positions"
    found = tpu.read_choices("dropout=broadcast,attention_heads=4")
    assert (found.dropout, found.attention_heads) == ("broadcast", 4)


def test_collectives_are_listed_by_the_operation_that_needs_them():
    named = "{'b'}, metadata={op_name=\"jit(train_step)/jvp(T)/decoder/layers_1/mlp\"}"
    rows = tpu.collectives(test_program_text.PROGRAM.replace("{'b'}", named))
    assert ("1", "0.00", "all-to-all", "jvp(T)/decoder/layers_*/mlp") in rows
    assert ("3", "0.00", "all-reduce", "") in rows  # In a loop.
