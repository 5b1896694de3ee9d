"""Records and examples are the same in memory and on disk; what they are made of can be told."""

import functools
import tracemalloc

import numpy as np
import pytest

from hyperdecoders_jax.data import packed_records
from hyperdecoders_jax.data.packed_records import PackedExamples, PackedRecords

RECORDS = [{"word": f"ä{i}\u2028", "n": i, "rate": i / 3} for i in range(7)]


@pytest.mark.parametrize("memory_bytes", [1, 1 << 26])
def test_records_are_read_in_any_order(monkeypatch, memory_bytes):
    monkeypatch.setattr(packed_records, "_MEMORY_BYTES", memory_bytes)
    records = PackedRecords(iter(RECORDS))
    assert len(records) == 7
    assert [records[i] for i in np.array([5, 0, -1, 3])] == [RECORDS[i] for i in (5, 0, 6, 3)]
    assert [*records] == records[:] == RECORDS
    assert records.kinds == {"word": {str}, "n": {int}, "rate": {float}}
    with pytest.raises(IndexError):
        records[7]


def test_records_beyond_some_memory_lie_on_the_disk(monkeypatch):
    monkeypatch.setattr(packed_records, "_MEMORY_BYTES", 1 << 20)
    tracemalloc.start()
    try:
        records = PackedRecords({"text": f"{i} " + "0" * 999} for i in range(20_000))
        assert tracemalloc.get_traced_memory()[1] < 4_000_000  # Of 20 MB.
    finally:
        tracemalloc.stop()
    assert records[19_999]["text"].startswith("19999 ")


@pytest.mark.parametrize("memory_bytes", [1, 1 << 26])
def test_examples_keep_the_types_of_their_values(monkeypatch, memory_bytes):
    monkeypatch.setattr(packed_records, "_MEMORY_BYTES", memory_bytes)
    made = [{"inputs": np.arange(i, dtype=np.int32), "text": b"\xff", "n": i} for i in range(3)]
    examples = PackedExamples(iter(made))
    assert len(examples) == 3
    for example, wanted in zip(examples, made, strict=True):
        np.testing.assert_array_equal(example["inputs"], wanted["inputs"], strict=True)
        assert (example["text"], example["n"]) == (wanted["text"], wanted["n"])
    assert [example["n"] for example in examples[1:]] == [1, 2]


def test_a_fingerprint_is_of_the_records_in_their_order():
    prints = [
        PackedRecords(records).fingerprint
        for records in (RECORDS, list(RECORDS), RECORDS[::-1], RECORDS[1:], [{"a": "b"}, *RECORDS])
    ]
    assert prints[0] == prints[1]
    assert len(set(prints)) == 4


@pytest.mark.parametrize("memory_bytes", [1, 1 << 26])
def test_chunks_hold_the_records_of_an_order(monkeypatch, memory_bytes):
    monkeypatch.setattr(packed_records, "_MEMORY_BYTES", memory_bytes)
    records = PackedRecords(RECORDS)
    order = np.array([5, 0, 6, 3, 3])
    chunks = list(records.chunks(order, max_records=2))
    assert [len(chunk) for chunk in chunks] == [2, 2, 1]
    assert [record for chunk in chunks for record in chunk] == [RECORDS[i] for i in order]
    assert list(records.chunks([])) == []


def test_chunks_of_long_records_are_short():
    records = PackedRecords({"text": str(i) * length} for i, length in enumerate([1, 50, 500, 1]))
    chunks = records.chunks(range(4), max_bytes=200)
    assert [len(chunk) for chunk in chunks] == [2, 1, 1]


def test_a_full_disk_is_told_with_what_helps(monkeypatch):
    monkeypatch.setattr(packed_records, "_MEMORY_BYTES", 100)
    # Refuses all that is written, as a full disk does.
    full = functools.partial(open, "/dev/full", "wb")
    monkeypatch.setattr(packed_records.tempfile, "TemporaryFile", full)
    with pytest.raises(ValueError, match=r"gave: No space left .*Name a folder .* TMPDIR"):
        PackedRecords(RECORDS)
