from benchmarks import tpu


def test_choices_are_read_from_a_flag():
    assert tpu.read_choices("").dropout == "positions"
    found = tpu.read_choices("dropout=broadcast,attention_heads=4")
    assert (found.dropout, found.attention_heads) == ("broadcast", 4)
