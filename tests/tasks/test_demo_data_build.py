"""The demo data's builder: reading WordNet's lines, choosing splits, filling a size."""

import gzip
import itertools
import json

from hypothesis import given
from hypothesis import strategies as st

from hyperdecoders_jax.tasks.demo_data import build

WORDS = st.text("abc", min_size=1, max_size=4)


def test_a_synset_has_words_definitions_examples_and_pointers():
    line = (
        "01646941 00 s 02 live(a) 0 wide_awake 1 002 ! 00095280 a 0101 @ 00004258 n 0000 | "
        'having life; not dead; "a live canary"; "they\'re (still) live"  \n'
    )
    assert build.parse_synset(line) == build.Synset(
        key="adjective 01646941",
        part_of_speech="adjective",
        lexicographer_file=0,
        words=("live", "wide awake"),
        definitions=("having life", "not dead"),
        examples=("a live canary", "they're (still) live"),
        hypernyms=("noun 00004258",),
        antonyms=(("live", "adjective 00095280", 0),),
    )


def test_a_meaning_whose_definition_is_another_meanings_too_is_left_out(tmp_path):
    line = "0000000{} 05 n 01 w{} 0 000 | {}\n"
    rows = [("a dog",), ("a cat",), ("a dog",)]
    text = "".join(line.format(i, i, *row) for i, row in enumerate(rows))
    for name in build.FILES.values():
        (tmp_path / f"data.{name}").write_text("  1 licence\n" + text * (name == "noun"))
    synsets = build.read_wordnet(tmp_path)
    assert [synset.gloss for synset in synsets.values()] == ["a cat"]


def test_the_inflection_table_gives_the_first_spelling_of_each_form(tmp_path):
    path = tmp_path / "table.csv.gz"
    path.write_bytes(
        gzip.compress(b"focus,verb,focused/focussed,focused,focusing,focuses\nNew,noun,News\n")
    )
    assert list(build.read_inflections(path)) == [
        ("verb", "focus", "past", "focused"),
        ("verb", "focus", "participle", "focused"),
        ("verb", "focus", "ing", "focusing"),
        ("verb", "focus", "third person", "focuses"),
    ]


@given(st.lists(st.tuples(WORDS, WORDS), max_size=9))
def test_words_joined_by_antonyms_share_a_split(pairs):
    splitter = build.Splitter(pairs)
    for first, second in pairs:
        assert splitter.split(first, second) == splitter.split(first) is not None


def test_words_of_different_splits_have_none_together():
    splitter = build.Splitter([])
    words = [f"word{i}" for i in range(60)]
    for first, second in itertools.combinations(words, 2):
        same = splitter.split(first) == splitter.split(second)
        assert splitter.split(first, second) == (splitter.split(first) if same else None)


def test_about_84_of_100_words_are_for_training():
    splits = [build.Splitter([]).split(f"word{i}") for i in range(2000)]
    assert 0.81 < splits.count("train") / 2000 < 0.87
    assert 0.06 < splits.count("test") / 2000 < 0.10


def test_a_group_gives_a_tenth_to_validation_and_test():
    rows = [{"text": f"w{i}", "label": i % 2} for i in range(900)]
    split_of = lambda row: build.SPLITS[int(row["text"][1:]) % 3]  # noqa: E731
    taken = build.take(rows, lambda row: row["label"], 40, split_of)
    assert {split: len(taken[split]) for split in taken} == {
        "train": 80,
        "validation": 8,
        "test": 8,
    }
    assert taken == build.take(rows[::-1], lambda row: row["label"], 40, split_of)


def test_the_text_for_pretraining_fills_its_size():
    records = [{"text": f"entry {build.number(str(i))}"} for i in range(400)]
    kept = build.fit(records, 3_000)
    assert kept == records[: len(kept)]
    assert len(build.to_gzip(kept)) <= 3_000 < len(build.to_gzip(records[: len(kept) + 1]))


def test_json_lines_do_not_depend_on_the_time_of_day():
    content = build.to_gzip([{"text": "a"}, {"text": "b"}])
    assert content[4:8] == bytes(4)
    assert list(map(json.loads, gzip.decompress(content).splitlines())) == [
        {"text": "a"},
        {"text": "b"},
    ]
