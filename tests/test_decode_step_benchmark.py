import jax
import jaxtyping

from benchmarks import decode_step
from hyperdecoders_jax.model import Model
from tests import tiny


def test_a_step_has_logits_for_each_hypothesis(monkeypatch):
    # The cache is of shapes here, not of arrays.
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    model = Model(tiny.make_config(num_encoder_layers=1, num_decoder_layers=1))
    step, shapes = decode_step.our_step(model, tiny.make_batch(), num_beams=4, max_len=6)
    logits, cache = jax.eval_shape(step, *shapes)
    assert logits.shape == (3, 4, tiny.VOCAB_SIZE)
    assert jax.tree.map(lambda x: x.shape, cache) == jax.tree.map(lambda x: x.shape, shapes[1])
    # A CPU's compiler writes no cycles.
    cycles, _, peak_mib, _ = decode_step.measure(step, shapes, jax.devices()[0])
    assert (cycles, peak_mib) == ("0.000", "0")
