import jax

from benchmarks import decode_step, tpu
from hyperdecoders_jax.model import Model
from tests import tiny


def test_choices_are_read_from_a_flag():
    assert tpu.read_choices("").dropout == "positions"
    found = tpu.read_choices("dropout=broadcast,attention_heads=4")
    assert (found.dropout, found.attention_heads) == ("broadcast", 4)


def test_a_step_of_decoding_gives_logits_for_each_hypothesis():
    model, batch = Model(tiny.make_config()), tiny.make_batch()
    step, shapes = decode_step.our_step(model, batch, num_beams=3, max_len=6)
    logits, cache = jax.eval_shape(step, *shapes)
    assert logits.shape == (3, 3, tiny.VOCAB_SIZE)
    assert cache == shapes[1]
