import numpy as np
import seqio
from hypothesis import given, settings
from hypothesis import strategies as st

from hyperdecoders_jax.data import eval_batches
from tests.data.conftest import LENGTHS, _make_task, texts


@settings(max_examples=20, deadline=None)
@given(size=st.integers(1, 13), batch_size=st.integers(1, 3), process_count=st.integers(1, 3))
def test_evaluation_covers_each_example_once(size, batch_size, process_count):
    examples = eval_batches.read_examples(_make_task("a", size), 2, LENGTHS, "train")
    shares = [
        list(examples.batches(batch_size * process_count, index, process_count))
        for index in range(process_count)
    ]
    assert len({len(share) for share in shares}) == 1
    seen = []
    for index, share in enumerate(shares):
        mine = []
        for item in share:
            assert item.batch.encoder_input_tokens.shape == (batch_size, 8)
            assert set(item.batch.task_ids) == {2}
            assert np.all(item.batch.encoder_input_tokens[:, 0] != 0)
            np.testing.assert_array_equal(item.batch.decoder_loss_weights.any(axis=1), item.is_real)
            mine += [t for t, real in zip(texts([item.batch]), item.is_real, strict=True) if real]
        assert mine == [f"a {i}" for i in range(index, size, process_count)]
        seen += mine
    assert sorted(seen) == sorted(f"a {i}" for i in range(size))


def test_evaluation_reads_no_more_than_asked_and_keeps_examples_whole():
    task = _make_task("a", inputs=["x" * 20] * 5, targets=["long"] * 5)
    examples = eval_batches.read_examples(task, 0, LENGTHS, "train", num_examples=3)
    assert len(examples.examples) == 3
    assert len(examples.examples[0]["inputs"]) == 21
    (item,) = examples.batches(3)
    assert list(item.batch.decoder_target_tokens[0]) == [*seqio.ByteVocabulary().encode("lo"), 1]
