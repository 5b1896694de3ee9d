import collections
import dataclasses
import functools
import itertools
import json

import numpy as np
import pytest
import seqio
from hypothesis import given, settings
from hypothesis import strategies as st

from hyperdecoders_jax.data import feature_converter, mixer, packing, preflight, train_batches
from tests.data.conftest import _make_task, config_of, mixture_of

LENGTHS = {"inputs": 20, "targets": 9}
# What is read ahead would never be asked for.
iterate = functools.partial(train_batches.TrainIterator, prefetch=1)


def make_example(number, num_inputs=2, num_targets=2):
    inputs, targets = (np.full(n, number % 90 + 2, np.int32) for n in (num_inputs, num_targets))
    return packing.Example(inputs, targets, number % 3, (f"task {number % 3}", 0, number))


def packed_config(**kwargs):
    """Streamed and small tasks, whose rows hold up to six examples."""
    mixture = mixture_of((3, 1), (7, 2), (40, 3))
    kwargs = {"max_segments": 6, "pack": True, **kwargs}
    config = config_of(mixture, shuffle_buffer_size=10, examples_per_turn=20, **kwargs)
    return dataclasses.replace(config, task_feature_lengths=LENGTHS)


def unpack(batch):
    """(inputs, targets, task number) of each example of a packed batch, as tuples."""
    found = []
    for row in range(len(batch.task_ids)):
        for segment in range(1, batch.encoder_segment_ids[row].max(initial=0) + 1):
            inputs = batch.encoder_input_tokens[row][batch.encoder_segment_ids[row] == segment]
            targets = batch.decoder_target_tokens[row][batch.decoder_segment_ids[row] == segment]
            ids = (tuple(x.tolist()) for x in (inputs, targets))
            found.append((*ids, int(batch.task_ids[row, segment - 1])))
    return found


@settings(max_examples=25)
@given(
    st.lists(st.tuples(st.integers(1, 20), st.integers(0, 9)), min_size=50, max_size=50),
    st.integers(1, 5),
    st.integers(1, 4),
)
def test_every_example_is_packed_once_and_none_waits_for_two_steps(sizes, num_rows, max_segments):
    packer = packing.Packer(LENGTHS, num_rows, max_segments)
    drawn = (make_example(i, *size) for i, size in enumerate(itertools.cycle(sizes)))
    num_drawn = 0

    def draw():
        nonlocal num_drawn
        num_drawn += 1
        return next(drawn)

    packed = []
    for _ in range(4):
        waited = [example.origin for example in packer.left_over]
        rows = packer.next_rows(draw)
        found = [example.origin for row in rows for example in row]
        assert set(waited) <= set(found)
        packed += found
        for row in rows:
            assert len(row) <= max_segments
            for name, length in LENGTHS.items():
                assert sum(len(getattr(example, name)) for example in row) <= length
    packed += [example.origin for example in packer.left_over]
    assert sorted(number for _, _, number in packed) == list(range(num_drawn))


def test_rows_are_filled_first_fit():
    packer = packing.Packer({"inputs": 10, "targets": 10}, num_rows=2, max_segments=3)
    sizes = iter([6, 5, 4, 3, 2, 1, 1, 10, 10, 10])
    rows = packer.next_rows(lambda: make_example(0, next(sizes), 1))
    assert [[len(example.inputs) for example in row] for row in rows] == [[6, 4], [5, 3, 2]]
    assert [len(example.inputs) for example in packer.left_over] == [1, 1]


def test_a_segment_is_an_example_shifted_right_by_itself():
    examples = [make_example(0, 3, 2), make_example(1, 2, 1), make_example(2, 4, 3)]
    batch = packing.packed_batch([examples[:2], examples[2:]], LENGTHS, max_segments=3)
    for row, column, example in ((0, 0, examples[0]), (0, 1, examples[1]), (1, 0, examples[2])):
        inputs, targets = example.inputs[None], example.targets[None]
        alone = feature_converter.task_batch(inputs, targets, np.array([example.task_id]))
        of_encoder = batch.encoder_segment_ids[row] == column + 1
        of_decoder = batch.decoder_segment_ids[row] == column + 1
        for name in ("decoder_input_tokens", "decoder_target_tokens", "decoder_loss_weights"):
            found = getattr(batch, name)[row][of_decoder]
            np.testing.assert_array_equal(found, getattr(alone, name)[0])
        np.testing.assert_array_equal(batch.encoder_input_tokens[row][of_encoder], inputs[0])
        np.testing.assert_array_equal(
            batch.encoder_positions[row][of_encoder], range(len(inputs[0]))
        )
        assert batch.task_ids[row, column] == example.task_id
    assert not batch.encoder_input_tokens[batch.encoder_segment_ids == 0].any()
    assert not batch.decoder_loss_weights[batch.decoder_segment_ids == 0].any()


def test_an_example_without_inputs_is_refused():
    packer = packing.Packer(LENGTHS, 1, 2)
    with pytest.raises(ValueError, match=r"one token of inputs .*example 7 of task 'task 1'"):
        packer.next_rows(lambda: make_example(7, num_inputs=0))


@functools.cache
def unbroken_run():
    """Batches, and as JSON the position before each and behind the last."""
    with iterate(packed_config()) as iterator:
        positions, batches = [json.dumps(iterator.position())], []
        for batch in itertools.islice(iterator, 10):
            batches.append(batch)
            positions.append(json.dumps(iterator.position()))
    return batches, positions


def test_packed_batches_hold_the_examples_that_are_drawn():
    config = packed_config()
    batches, positions = unbroken_run()
    position = json.loads(positions[-1])
    found = [example for batch in batches for example in unpack(batch)]
    assert len(found) == position["packed"]["examples"]
    # Per task and epoch block each example once: those that wait come in the next step.
    plain = mixer.Mixer(config, 0, 1)
    for number, stream in enumerate(plain._streams):
        of_task = collections.Counter(x for x in found if x[2] == plain._numbers[number])
        waiting = sum(origin[0] == stream.task.name for origin in position["left_over"])
        rows = stream.take(of_task.total() + waiting)
        drawn = collections.Counter(
            (*(tuple(rows[name][i, : rows[f"{name}_len"][i]].tolist()) for name in LENGTHS),
             plain._numbers[number])
            for i in range(len(rows["inputs"]))
        )  # fmt: skip
        assert of_task <= drawn
        assert drawn.total() - of_task.total() == waiting


# Within the blocks of all tasks; where one's block has ended, of which examples wait.
@pytest.mark.parametrize("stopped", [1, 5])
def test_a_restored_iterator_continues_with_the_same_packed_rows(stopped):
    batches, positions = unbroken_run()
    position = json.loads(positions[stopped])
    assert position["left_over"]
    with iterate(packed_config()) as iterator:
        iterator.restore(position)
        resumed = list(itertools.islice(iterator, 4))
        assert iterator.packing()["fill"] > 0.7
        assert iterator.position() == json.loads(positions[stopped + 4])
    for batch, other in zip(batches[stopped : stopped + 4], resumed, strict=True):
        for name, value in vars(batch).items():
            np.testing.assert_array_equal(value, getattr(other, name))


def test_examples_that_wait_at_the_end_of_an_epoch_block_are_read_again():
    task = _make_task("border", 12)
    config = config_of(task, pack=True, max_segments=2, examples_per_turn=0, batch_size=2)
    config = dataclasses.replace(config, task_feature_lengths=LENGTHS)
    reader = mixer.make(config)
    steps = [reader.next_batch()[:2] for _ in range(9)]
    num_tried = 0
    for (_, position), (batch, _) in itertools.pairwise(steps):
        now = position["tasks"]["border"]
        # Waiting examples of the block before, or of one that has been read to its end.
        if now["offset"] == 12 or any(block < now["turn"] for _, block, _ in position["left_over"]):
            again = mixer.make(config)
            again.restore(position)
            for name, value in vars(again.next_batch()[0]).items():
                np.testing.assert_array_equal(value, getattr(batch, name))
            num_tried += 1
    assert num_tried > 1


def test_row_lengths_are_advised_where_targets_end_the_rows(caplog):
    lengths = {"inputs": 20, "targets": 3}
    config = dataclasses.replace(packed_config(), task_feature_lengths=lengths)
    config = dataclasses.replace(config, shuffle_buffer_size=100, examples_per_turn=10_000)
    with iterate(config) as iterator:
        list(itertools.islice(iterator, 20))
    (warning,) = [x.getMessage() for x in caplog.records if "ROW_LENGTHS" in x.getMessage()]
    assert "Targets end most packed rows, not inputs, of which 2" in warning
    assert "Set ROW_LENGTHS = {'inputs': 20, 'targets': 16}, now" in warning
    # With these, inputs end them, or the number of segments.
    config = dataclasses.replace(config, row_lengths={"inputs": 20, "targets": 16})
    reader = mixer.make(config)
    for _ in range(20):
        reader.next_batch()
    assert reader.advice() is None


def test_a_position_of_rows_that_are_packed_otherwise_is_refused():
    packed, plain = packed_config(), packed_config(pack=False)
    with iterate(packed) as iterator:
        next(iterator)
        position = iterator.position()
    with (
        iterate(plain) as other,
        pytest.raises(ValueError, match=r"has PACK=True, this run PACK=False\. Set PACK"),
    ):
        other.restore(position)


def test_examples_per_step_choose_the_rows():
    config = packed_config(examples_per_step=60)
    # In memory, or every few examples would start SeqIO anew.
    config = dataclasses.replace(config, shuffle_buffer_size=100, examples_per_turn=10_000)
    sized = train_batches.with_examples_per_step(config, multiple=4)
    assert sized.batch_size % 4 == 0
    with iterate(sized) as iterator:
        list(itertools.islice(iterator, 8))
        assert iterator.packing()["examples_per_step"] == pytest.approx(60, rel=0.15)
    plain = packed_config()
    assert train_batches.with_examples_per_step(plain, multiple=4) is plain


def test_a_continued_run_keeps_its_rows():
    config = packed_config(examples_per_step=60)
    kept = train_batches.with_examples_per_step(config, multiple=4, begun_rows=12)
    assert kept.batch_size == 12
    with pytest.raises(
        ValueError, match=r"12 rows, and 8 parts .*of 1, 2, 3, 4, 6 or 12, or start"
    ):
        train_batches.with_examples_per_step(config, multiple=8, begun_rows=12)


def test_seqio_packs_the_same_segments():
    tasks = [_make_task(f"packed_{name}", 10) for name in "abc"]
    mixture = seqio.Mixture("of_three", [(task, 1.0) for task in tasks])
    numbered = feature_converter.with_task_ids(mixture, [task.name for task in tasks])
    converter = feature_converter.TaskIdFeatureConverter(pack=True, max_segments=4)
    ds = seqio.get_dataset(numbered, LENGTHS, converter, num_epochs=1, seed=0)
    theirs = next(ds.batch(64).as_numpy_iterator())
    batch = packing.packed_batch([], LENGTHS, 4).replace(**theirs)
    examples = unpack(batch)
    # Packed by us, row for row as SeqIO did: every array is equal.
    again = iter(
        packing.Example(np.array(inputs, np.int32), np.array(targets, np.int32), number)
        for inputs, targets, number in examples
    )
    ours = packing.packed_batch(
        [[next(again) for _ in range(row.max())] for row in batch.encoder_segment_ids], LENGTHS, 4
    )
    for name, value in theirs.items():
        np.testing.assert_array_equal(getattr(ours, name), value, err_msg=name)
    encode = tasks[0].output_features["inputs"].vocabulary.encode
    for number, name in enumerate("abc"):
        wanted = {(*encode(f"packed_{name} {i}"), 1) for i in range(10)}
        found = [inputs for inputs, _, task_id in examples if task_id == number]
        assert set(found) <= wanted
        assert found


def test_processes_pack_shares_of_their_own_and_continue_them():
    config = packed_config(batch_size=4)
    shares = []
    for index in range(2):
        with iterate(config, index, 2) as iterator:
            batches = [next(iterator)]
            middle = iterator.position()
            batches += itertools.islice(iterator, 3)
            position = iterator.position()
        assert {len(batch.task_ids) for batch in batches} == {2}
        with iterate(config, index, 2) as iterator:
            iterator.restore(middle)
            list(itertools.islice(iterator, 3))
            assert iterator.position() == position
        shares.append({inputs for batch in batches for inputs, _, _ in unpack(batch)})
    assert not shares[0] & shares[1]


def test_a_position_beyond_data_that_shrank_is_an_error():
    def config(count):
        task = _make_task("shrinking", count, counts=False)
        kwargs = {"pack": True, "max_segments": 9, "batch_size": 2, "examples_per_turn": 0}
        return dataclasses.replace(config_of(task, **kwargs), task_feature_lengths=LENGTHS)

    with iterate(config(40)) as iterator:
        while not (iterator.position().get("left_over") and position_of(iterator)["offset"] > 30):
            next(iterator)
        position = iterator.position()

    def continue_with(count):
        with iterate(config(count)) as iterator:
            iterator.restore(position)
            next(iterator)

    with pytest.raises(ValueError, match="must lie within the data"):
        continue_with(25)


def position_of(iterator):
    (position,) = iterator.position()["tasks"].values()
    return position


def test_preflight_finds_an_example_that_cannot_be_packed():
    task = _make_task("empty", inputs=["a", "", "b"], append_eos=lambda ds: ds)
    config = config_of(task, pack=True, is_small_vocabulary_allowed=True)
    with pytest.raises(ValueError, match=r"example 1 of task .empty. has none\. Append EOS"):
        preflight.preflight(config)
    preflight.preflight(dataclasses.replace(config, pack=False))
