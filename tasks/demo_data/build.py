"""Builds the demo's data and vocabulary from WordNet and lemminflect's table. Needs no network.

It reads the folder of WordNet 3.0's database files (Debian: `apt-get install wordnet-base`) and
`lemminflect/resources/infl_lu.csv.gz` (PyPI: lemminflect 0.2.3), and writes, next to this file, a
folder of JSON lines per task with `train`, `validation` and `test`, the text for pretraining, and a
SentencePiece model. The same inputs give the same content.

    python -m hyperdecoders_jax.tasks.demo_data.build --lemminflect=…/infl_lu.csv.gz

Nothing leaks between splits: *words* have splits, and a record belongs to the split that all of its
words share; a record whose words disagree is skipped. Words that are each other's antonyms share a
split, which keeps more pairs. Glosses that occur twice are skipped as well.

WordNet's licence and lemminflect's allow this use; their notices are in NOTICE.md.
"""

import argparse
import collections
import dataclasses
import functools
import gzip
import hashlib
import io
import itertools
import json
import pathlib
import re
import tempfile
from collections.abc import Callable, Iterable, Iterator

import sentencepiece
from sentencepiece import sentencepiece_model_pb2

FOLDER = pathlib.Path(__file__).parent
SPLITS = ("train", "validation", "test")
# Of 100 words, 84 are for training and 8 each for validation and test.
TRAIN_PERCENT, VALIDATION_PERCENT = 84, 8

PARTS_OF_SPEECH = ("noun", "verb", "adjective", "adverb")
FILES = {"noun": "noun", "verb": "verb", "adjective": "adj", "adverb": "adv"}
# Lexicographer files of WordNet (man lexnames) whose glosses a reader can tell apart.
TOPICS = {
    4: "act", 5: "animal", 6: "artifact", 8: "body", 10: "communication", 12: "feeling",
    13: "food", 15: "location", 18: "person", 20: "plant", 21: "possession", 23: "quantity",
    27: "substance", 28: "time",
}  # fmt: skip
# Columns of lemminflect's table, in its order.
FORMS = {
    "noun": ("plural",),
    "adj": ("comparative", "superlative"),
    "adv": ("comparative", "superlative"),
    "verb": ("past", "participle", "ing", "third person"),
}
# Records per group (topic, part of speech, …) in train; validation and test have a tenth of it.
NUM_PER_TOPIC = 320
NUM_PER_PART_OF_SPEECH = 900
NUM_GENUS, NUM_PER_GENUS = 4000, 25
NUM_FIND, NUM_PER_FIND = 4000, 20
NUM_RELATION = 2800
NUM_INFLECT, NUM_PER_FORM = 5000, 1000
MAX_WORDS = 16

VOCAB_SIZE = 4000
# Inputs fit 32 pieces: at most 26 of a record's text, 5 of the prompt, EOS.
MAX_PIECES = 26
# Typographic characters that T5's normaliser would map too; its whole table takes 240 KB.
NORMALIZER_RULES = "2018\t27\n2019\t27\n201C\t22\n201D\t22\n2013\t2D\n2014\t2D\nA0\t20\n"
PROMPTS = (
    "topic: ", "part of speech: ", "relation: | ", "genus of : ", "find in: ", "inflect: ",
    "synonym", "antonym", *PARTS_OF_SPEECH, *TOPICS.values(), *itertools.chain(*FORMS.values()),
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Synset:
    """One meaning: `words` that share it, what it is, and sentences that use it."""

    key: str  # part of speech and offset, as in "noun 02084071"
    part_of_speech: str
    lexicographer_file: int
    words: tuple[str, ...]
    definitions: tuple[str, ...]
    examples: tuple[str, ...]
    hypernyms: tuple[str, ...]  # keys
    # Own word, key of the other synset, its word's index.
    antonyms: tuple[tuple[str, str, int], ...]

    @property
    def gloss(self) -> str:
        return self.definitions[0]


def parse_synset(line: str) -> Synset:
    r"""Reads one line of a WordNet `data` file (man wndb).

    >>> parse_synset('00001740 03 n 01 entity 0 001 @ 00000012 n 0000 | what is; "it is"').gloss
    'what is'
    """
    names = {"n": "noun", "v": "verb", "a": "adjective", "s": "adjective", "r": "adverb"}
    data, gloss = line.rstrip().split(" | ")
    fields = iter(data.split(" "))
    offset, lexicographer_file, kind = next(fields), int(next(fields)), names[next(fields)]
    words = []
    for _ in range(int(next(fields), 16)):
        words.append(re.sub(r"\(\w+\)$", "", next(fields)).replace("_", " "))
        next(fields)  # lexical id
    hypernyms, antonyms = [], []
    for _ in range(int(next(fields))):
        pointer, target, target_kind, ends = (next(fields) for _ in range(4))
        key = f"{names[target_kind]} {target}"
        if pointer == "@":
            hypernyms.append(key)
        elif pointer == "!":
            antonyms.append((words[int(ends[:2], 16) - 1], key, int(ends[2:], 16) - 1))
    examples = re.findall(r'"([^"]+)"', gloss)
    definitions = [part.strip() for part in re.sub(r'"[^"]*"', "", gloss).split(";")]
    return Synset(
        key=f"{kind} {offset}",
        part_of_speech=kind,
        lexicographer_file=lexicographer_file,
        words=tuple(words),
        definitions=tuple(part for part in definitions if re.search(r"\w", part)) or ("",),
        examples=tuple(example.strip() for example in examples),
        hypernyms=tuple(hypernyms),
        antonyms=tuple(antonyms),
    )


def read_wordnet(folder: pathlib.Path) -> dict[str, Synset]:
    """All synsets by key, without those whose first definition another synset shares."""
    synsets = {}
    for name in FILES.values():
        with open(folder / f"data.{name}", encoding="utf-8") as file:
            for line in file:
                if not line.startswith("  "):  # the licence
                    synset = parse_synset(line)
                    synsets[synset.key] = synset
    counts = collections.Counter(synset.gloss for synset in synsets.values())
    return {key: synset for key, synset in synsets.items() if counts[synset.gloss] == 1}


def read_inflections(path: pathlib.Path) -> Iterator[tuple[str, str, str, str]]:
    """Yields (part of speech, lemma, form's name, the form), the first spelling of each."""
    with gzip.open(path, "rt", encoding="utf-8") as file:
        for line in file:
            lemma, part_of_speech, *forms = line.rstrip("\n").split(",")
            for name, form in zip(FORMS[part_of_speech], forms, strict=False):
                if form and is_word(lemma):
                    yield part_of_speech, lemma, name, form.split("/")[0]


def is_word(text: str) -> bool:
    """Whether `text` is one lower-case English word of at least three letters."""
    return re.fullmatch("[a-z]{3,}", text) is not None


def number(text: str) -> int:
    """A number that depends on `text` alone: the order and the splits of everything."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")


def shuffled(records: Iterable[dict]) -> list[dict]:
    """The records in an order that depends on nothing but their content."""
    return sorted(records, key=lambda record: number(json.dumps(record, sort_keys=True)))


class Splitter:
    """Gives words their splits; words joined by a chain of antonyms share one."""

    def __init__(self, pairs: Iterable[tuple[str, str]]):
        self._parents: dict[str, str] = {}
        for first, second in pairs:
            first, second = sorted((self._root(first), self._root(second)))
            if first != second:
                self._parents[second] = first

    def _root(self, word: str) -> str:
        while (parent := self._parents.get(word, word)) != word:
            word = parent
        return word

    def split(self, *words: str) -> str | None:
        """The split that all `words` share, or None."""
        splits = {self._word_split(word.lower()) for word in words}
        return splits.pop() if len(splits) == 1 else None

    @functools.cache  # noqa: B019 (one splitter a process)
    def _word_split(self, word: str) -> str:
        percent = number(f"split {self._root(word)}") % 100
        if percent < TRAIN_PERCENT:
            return "train"
        return "validation" if percent < TRAIN_PERCENT + VALIDATION_PERCENT else "test"


def is_short(text: str) -> bool:
    """Whether a tiny model can read `text`: plain ASCII, 3 to 16 words."""
    return text.isascii() and 3 <= len(text.split()) <= MAX_WORDS


def num_wanted(num_train: int, split: str) -> int:
    """Validation and test get a tenth."""
    return num_train if split == "train" else num_train // 10


def take(
    records: Iterable[dict], group: Callable[[dict], object], num_train: int, split_of: Callable
) -> dict[str, list[dict]]:
    """Picks `num_train` records of every group for train, a tenth for validation and test."""
    taken = {split: [] for split in SPLITS}
    counts: collections.Counter = collections.Counter()
    for record in shuffled(records):
        split = split_of(record)
        key = (split, group(record))
        if split and counts[key] < num_wanted(num_train, split):
            counts[key] += 1
            taken[split].append(record)
    return taken


def first_records(records: dict[str, list[dict]], num_train: int) -> dict[str, list[dict]]:
    """The first `num_train` records of train, a tenth of that of the others."""
    return {split: rows[: num_wanted(num_train, split)] for split, rows in records.items()}


def antonym_pairs(synsets: dict[str, Synset]) -> list[tuple[str, str, str]]:
    """(part of speech, word, antonym), each pair once."""
    pairs = set()
    for synset in synsets.values():
        for word, key, index in synset.antonyms:
            if key in synsets and is_word(word) and is_word(other := synsets[key].words[index]):
                pairs.add((synset.part_of_speech, *sorted((word, other))))
    return sorted(pairs)


def synonym_pairs(synsets: dict[str, Synset]) -> list[tuple[str, str, str]]:
    """(part of speech, word, synonym), each pair once."""
    pairs = {
        (synset.part_of_speech, *sorted(pair))
        for synset in synsets.values()
        for pair in itertools.combinations(filter(is_word, synset.words), 2)
    }
    return sorted(pairs)


def build_topic(synsets: dict[str, Synset], splitter: Splitter) -> dict[str, list[dict]]:
    """Glosses of nouns with their topic, about as many of each."""
    rows = {
        synset.gloss: synset
        for synset in synsets.values()
        if synset.lexicographer_file in TOPICS and is_short(synset.gloss)
    }
    records = [
        {"text": text, "label": TOPICS[row.lexicographer_file]} for text, row in rows.items()
    ]
    return take(
        records,
        lambda record: record["label"],
        NUM_PER_TOPIC,
        lambda record: splitter.split(*rows[record["text"]].words),
    )


def build_part_of_speech(synsets: dict[str, Synset], splitter: Splitter) -> dict[str, list[dict]]:
    """Glosses with the part of speech of what they explain, as many of each."""
    rows = {synset.gloss: synset for synset in synsets.values() if is_short(synset.gloss)}
    return take(
        [{"text": text, "label": row.part_of_speech} for text, row in rows.items()],
        lambda record: record["label"],
        NUM_PER_PART_OF_SPEECH,
        lambda record: splitter.split(*rows[record["text"]].words),
    )


def build_genus(synsets: dict[str, Synset], splitter: Splitter) -> dict[str, list[dict]]:
    """Glosses that name, exactly once, a word of the next more general meaning."""
    words, records = {}, []
    for synset in synsets.values():
        tokens = re.findall(r"[\w-]+", synset.gloss)
        kinds = {
            word
            for key in synset.hypernyms
            if key in synsets
            for word in synsets[key].words
            if is_word(word) and tokens.count(word) == 1
        }
        if synset.part_of_speech == "noun" and len(kinds) == 1 and is_short(synset.gloss):
            word = synset.words[0]
            if word.isascii() and word not in synset.gloss:
                records.append({"word": word, "text": synset.gloss, "answer": kinds.pop()})
                words[synset.gloss] = synset.words
    taken = take(
        records,
        lambda record: record["answer"],
        NUM_PER_GENUS,
        lambda record: splitter.split(*words[record["text"]]),
    )
    return first_records(taken, NUM_GENUS)


def build_find(
    synsets: dict[str, Synset], splitter: Splitter, inflections: Iterable[tuple]
) -> dict[str, list[dict]]:
    """Sentences that hold, exactly once, an inflected form of a word they are an example of."""
    forms = collections.defaultdict(set)
    for part_of_speech, lemma, _, form in inflections:
        if form != lemma and is_word(form):
            forms[part_of_speech, lemma].add(form)
    found = collections.defaultdict(list)  # a sentence's words with their forms
    for synset in synsets.values():
        for text, word in itertools.product(synset.examples, synset.words):
            tokens = re.findall(r"[\w-]+", text)
            for token in tokens:
                if token in forms[FILES[synset.part_of_speech], word]:
                    found[text].append((word, token))
    records = [
        {"word": word, "text": text, "answer": answer}
        for text, [(word, answer), *others] in found.items()
        if not others and is_short(text) and word not in text.split()
    ]
    taken = take(
        records,
        lambda record: record["word"],
        NUM_PER_FIND,
        lambda record: splitter.split(record["word"]),
    )
    return first_records(taken, NUM_FIND)


def build_relation(
    synsets: dict[str, Synset], splitter: Splitter, antonyms: list[tuple[str, str, str]]
) -> dict[str, list[dict]]:
    """As many synonyms as antonyms of each part of speech, in either order."""

    def to_record(pair: tuple[str, str, str], label: str) -> dict:
        _, first, second = pair
        if number(f"order {first} {second}") % 2:
            first, second = second, first
        return {"first": first, "second": second, "label": label}

    known = {pair[1:] for pair in antonyms}
    synonyms = [pair for pair in synonym_pairs(synsets) if pair[1:] not in known]
    taken = {split: [] for split in SPLITS}
    for split, part_of_speech in itertools.product(SPLITS, PARTS_OF_SPEECH):
        pools = [
            shuffled(
                to_record(pair, label)
                for pair in pairs
                if pair[0] == part_of_speech and splitter.split(*pair[1:]) == split
            )
            for label, pairs in (("antonym", antonyms), ("synonym", synonyms))
        ]
        num = min(map(len, pools))
        taken[split] += pools[0][:num] + pools[1][:num]
    return {
        split: shuffled(rows)[: num_wanted(2 * NUM_RELATION, split)]
        for split, rows in taken.items()
    }


def build_inflect(
    synsets: dict[str, Synset], splitter: Splitter, inflections: Iterable[tuple]
) -> dict[str, list[dict]]:
    """Forms of words that WordNet defines."""
    known = {(FILES[s.part_of_speech], word) for s in synsets.values() for word in s.words}
    records = {
        (lemma, name): {"word": lemma, "form": name, "answer": form}
        for part_of_speech, lemma, name, form in inflections
        if (part_of_speech, lemma) in known and is_word(form) and form != lemma
    }
    taken = take(
        records.values(),
        lambda record: record["form"],
        NUM_PER_FORM,
        lambda record: splitter.split(record["word"]),
    )
    return first_records(taken, NUM_INFLECT)


def pretraining_text(synsets: dict[str, Synset], splitter: Splitter) -> list[dict]:
    """Dictionary entries of words for training: those with example sentences first."""
    entries = []
    for synset in synsets.values():
        parts = [*synset.definitions, *synset.examples]
        text = f"{', '.join(synset.words)}: {'; '.join(parts)}"
        if splitter.split(*synset.words) == "train" and text.isascii() and text[0].islower():
            entries.append((not synset.examples, number(text), text))
    return [{"text": text} for _, _, text in sorted(entries)]


def to_gzip(records: Iterable[dict]) -> bytes:
    """JSON lines, compressed, without the time of day."""
    lines = "".join(json.dumps(record) + "\n" for record in records)
    return gzip.compress(lines.encode(), compresslevel=9, mtime=0)


def write(folder: pathlib.Path, tasks: dict[str, dict[str, list[dict]]]) -> int:
    """Writes `<task>/<split>.jsonl.gz`; returns the number of bytes."""
    num_bytes = 0
    for task, splits in tasks.items():
        (folder / task).mkdir(parents=True, exist_ok=True)
        for split, records in splits.items():
            content = to_gzip(records)
            (folder / task / f"{split}.jsonl.gz").write_bytes(content)
            num_bytes += len(content)
            print(f"{task:15} {split:10} {len(records):6,} records {len(content):8,} bytes")
    return num_bytes


def fit(records: list[dict], max_bytes: int) -> list[dict]:
    """As many of the first records as fit into `max_bytes` when compressed."""
    low, high = 0, len(records)
    while low < high:
        middle = (low + high + 1) // 2
        is_fitting = len(to_gzip(records[:middle])) <= max_bytes
        low, high = (middle, high) if is_fitting else (low, middle - 1)
    return records[:low]


def train_vocabulary(texts: Iterable[str]) -> bytes:
    """A unigram model with T5's special ids that knows all of ASCII."""
    model = io.BytesIO()
    with tempfile.NamedTemporaryFile("w", suffix=".tsv") as rules:
        rules.write(NORMALIZER_RULES)
        rules.flush()
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(texts),
            model_writer=model,
            model_type="unigram",
            vocab_size=VOCAB_SIZE,
            pad_id=0,
            eos_id=1,
            unk_id=2,
            bos_id=-1,
            normalization_rule_tsv=rules.name,
            character_coverage=1.0,
            required_chars="".join(map(chr, range(33, 127))),
            num_threads=1,
            minloglevel=2,
        )
    proto = sentencepiece_model_pb2.ModelProto.FromString(model.getvalue())
    proto.normalizer_spec.ClearField("normalization_rule_tsv")  # the temporary file's name
    return proto.SerializeToString(deterministic=True)


def drop_long(tasks: dict[str, dict[str, list[dict]]], model: bytes) -> None:
    """Removes the records whose inputs would take more than 32 pieces."""
    processor = sentencepiece.SentencePieceProcessor(model_proto=model)
    for splits in tasks.values():
        for rows in splits.values():
            rows[:] = [row for row in rows if num_pieces(processor, row) <= MAX_PIECES]


def num_pieces(processor: sentencepiece.SentencePieceProcessor, record: dict) -> int:
    """Pieces of what an input shows of a record."""
    given = [text for name, text in record.items() if name not in ("label", "answer")]
    return sum(len(processor.encode(text)) for text in given)


def main() -> None:
    """Builds everything; `--help` explains."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--wordnet", type=pathlib.Path, default="/usr/share/wordnet")
    parser.add_argument("--lemminflect", type=pathlib.Path, required=True, help="infl_lu.csv.gz")
    parser.add_argument("--output", type=pathlib.Path, default=FOLDER)
    parser.add_argument("--max_bytes", type=int, default=960_000, help="of all files together")
    arguments = parser.parse_args()

    synsets = read_wordnet(arguments.wordnet)
    inflections = list(read_inflections(arguments.lemminflect))
    antonyms = antonym_pairs(synsets)
    splitter = Splitter(pair[1:] for pair in antonyms)
    tasks = {
        "topic": build_topic(synsets, splitter),
        "part_of_speech": build_part_of_speech(synsets, splitter),
        "relation": build_relation(synsets, splitter, antonyms),
        "genus": build_genus(synsets, splitter),
        "find": build_find(synsets, splitter, inflections),
        "inflect": build_inflect(synsets, splitter, inflections),
    }
    texts = [
        *(value for splits in tasks.values() for row in splits["train"] for value in row.values()),
        *(record["text"] for record in pretraining_text(synsets, splitter)[:20_000]),
        *PROMPTS * 50,
    ]
    model = train_vocabulary(texts)
    drop_long(tasks, model)
    arguments.output.mkdir(parents=True, exist_ok=True)
    (arguments.output / "demo.spiece.model").write_bytes(model)
    num_bytes = len(model) + write(arguments.output, tasks)
    entries = fit(pretraining_text(synsets, splitter), arguments.max_bytes - num_bytes)
    num_bytes += write(arguments.output, {"pretrain": {"train": entries}})
    print(f"{VOCAB_SIZE} pieces, {len(model):,} bytes; together {num_bytes:,} bytes")


if __name__ == "__main__":
    main()
