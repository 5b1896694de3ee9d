import numpy as np
import pytest

from benchmarks import packed
from hyperdecoders_jax.data.pipeline import PipelineConfig


def test_a_packed_batch_holds_about_the_examples_that_are_wanted():
    lengths = {"inputs": 30, "targets": 4}
    row = {"inputs": 60, "targets": 16}
    data = PipelineConfig("m", lengths, pack=True, row_lengths=row, max_segments=6)
    draw, task_names = packed.make_reader(data, "10x2,20x3@3")
    assert task_names is None
    examples = [draw() for _ in range(2000)]
    assert np.mean([x.task_id for x in examples]) == pytest.approx(0.75, abs=0.05)
    of_first = [len(x.inputs) for x in examples if x.task_id == 0]
    assert np.mean(of_first) == pytest.approx(10, rel=0.1)
    assert max(len(x.inputs) for x in examples) == 30  # Cut there, as in training.
    batch, num_examples, fill = packed.make_batch(data, 40, 4, draw)
    assert num_examples == (batch.decoder_positions == 0)[batch.decoder_segment_ids > 0].sum()
    assert num_examples == pytest.approx(40, rel=0.2)
    assert len(batch.task_ids) % 4 == 0
    assert fill == np.mean(np.hstack([batch.encoder_segment_ids, batch.decoder_segment_ids]) > 0)
    assert fill > 0.7


@pytest.mark.parametrize("lengths", ["45", "45x3x2", "0x1", "4x2@0"])
def test_lengths_that_mean_nothing_are_refused(lengths):
    with pytest.raises(ValueError, match=r"must be INPUTSxTARGETS .* got .*Write 45x3"):
        packed.parse_lengths(lengths)
