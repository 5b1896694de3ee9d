"""transformers' tokenizers of an exported folder give the ids of training, text for text."""

import io
import json
import pathlib
import random
import unicodedata

import pytest
import sentencepiece
import transformers

from hyperdecoders_jax.data import tokenizer, vocabulary
from hyperdecoders_jax.hub import tokenizer_files
from hyperdecoders_jax.types import EOS_ID
from hyperdecoders_jax.weights.trained_model import Vocabulary

NUM_SENTINELS = 7
WORDS = """
the Hyperdecoder walked past: 1,000 don't x² naïve straße ﬁne Ⅻ ½ 東京 中文字符 한국어 русский Việt
Ελληνικά עִבְרִית العربية ไทย हिन्दी 👍 👩‍👩‍👧 ｆｕｌｌ ™ … “q” — <a> </ > \\ | ` _ a_b ▁ \u00ad \x07
""".split()  # noqa: SIM905
SPACES = " " * 9 + "\t\n\u00a0\u3000\u2028"


def letter(rng):
    """Any that is no mark; marks stand where texts have them."""
    while True:
        found = chr(rng.choice([rng.randrange(33, 0x2500), rng.randrange(0x3001, 0xD800)]))
        if found.isprintable() and unicodedata.category(found)[0] != "M":
            return found


def make_texts(num_texts=1000, num_sentinels=NUM_SENTINELS):
    """Words of many scripts, composed or not, sentinels, runs of whitespace; some are long."""
    rng = random.Random(0)

    def word():
        if rng.random() < 0.1:
            sentinel = f"<extra_id_{rng.randrange(num_sentinels)}>"
            return rng.choice(["", "a", "."]) + sentinel + rng.choice(["", "b", ",", sentinel])
        if rng.random() < 0.1:
            return letter(rng)
        return unicodedata.normalize(rng.choice(["NFC", "NFD", "NFKC"]), rng.choice(WORDS))

    def space():
        return "".join(rng.choices(SPACES, k=rng.choice([1, 1, 1, 2, 3])))

    def text():
        num_words = rng.choice([0, 1, 2, 5, 20, 20, 20, 2000 if rng.random() < 0.02 else 9])
        words = "".join(word() + space() for _ in range(num_words))
        return rng.choice(["", " ", "\n"]) + rng.choice([words, words.rstrip()])

    return [text() for _ in range(num_texts)]


def train(**options):
    """A SentencePiece model of such words, as T5's is made."""
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(make_texts(300, 1)),
        model_writer=model,
        hard_vocab_limit=False,
        minloglevel=2,
        **dict(vocab_size=400, pad_id=0, eos_id=1, unk_id=2, bos_id=-1) | options,
    )
    return model.getvalue()


def demo():
    return pathlib.Path(vocabulary.DEMO_VOCABULARY_PATH).read_bytes()


VOCABULARIES = {
    "demo": lambda: Vocabulary(demo(), NUM_SENTINELS),
    "nmt_nfkc": lambda: Vocabulary(train(), NUM_SENTINELS),
    "spaces kept": lambda: Vocabulary(
        train(remove_extra_whitespaces=False, normalization_rule_name="identity"), NUM_SENTINELS
    ),
    "own sentinels": lambda: Vocabulary(
        train(user_defined_symbols=[f"▁<extra_id_{i}>" for i in range(NUM_SENTINELS)]), 0
    ),
    "no sentinels": lambda: Vocabulary(train(add_dummy_prefix=False), 0),
}


def ids_of(kept, texts):
    encode = tokenizer.make(kept.model, kept.num_sentinels).encode
    return [[*encode(text), EOS_ID] for text in texts]


def differing(theirs, kept, texts):
    wanted = ids_of(kept, texts)
    found = [theirs(text).input_ids for text in texts]
    return [text for text, a, b in zip(texts, found, wanted, strict=True) if a != b]


@pytest.mark.parametrize("name", VOCABULARIES)
def test_a_thousand_texts_have_the_ids_of_training(tmp_path, name):
    kept, texts = VOCABULARIES[name](), make_texts()
    tokenizer_files.write(tmp_path, kept, max_len=48)
    slow = transformers.T5Tokenizer.from_pretrained(tmp_path)
    assert not differing(slow, kept, [*texts, "a</s>b <pad>", "\u00a0\u0316", "a\u0316\u0300\x00"])
    fast = transformers.AutoTokenizer.from_pretrained(tmp_path)
    assert fast.is_fast
    assert not differing(fast, kept, texts)


def test_a_thousand_texts_have_the_ids_of_bytes(tmp_path):
    kept = Vocabulary(tokenizer.BYTES_MODEL, 125)
    tokenizer_files.write(tmp_path, kept, max_len=48)
    assert sorted(file.name for file in tmp_path.iterdir()) == [
        "special_tokens_map.json",
        "tokenizer_config.json",
    ]
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path)
    assert not differing(theirs, kept, [*make_texts(), "a</s>b <pad>"])
    assert len(theirs) == 384


@pytest.mark.parametrize("kind", ["T5Tokenizer", "AutoTokenizer"])
def test_a_tokenizer_cuts_pads_names_sentinels_and_decodes(tmp_path, kind):
    kept = Vocabulary(demo(), NUM_SENTINELS)
    tokenizer_files.write(tmp_path, kept, max_len=5)
    theirs = getattr(transformers, kind).from_pretrained(tmp_path)
    ours = tokenizer.make(kept.model, kept.num_sentinels)
    texts = ["the dog walked past a small tree", "a dog"]
    batch = theirs(texts, padding=True, truncation=True)
    long, short = (ours.encode(text) for text in texts)
    assert batch.input_ids == [[*long[:4], EOS_ID], [*short, EOS_ID, 0, 0][:5]]
    assert list(batch) == ["input_ids", "attention_mask"]
    sentinels = [f"<extra_id_{i}>" for i in (0, NUM_SENTINELS - 1)]
    assert theirs.convert_tokens_to_ids(sentinels) == [ours.encode(x)[0] for x in sentinels]
    assert len(theirs) == ours.num_text_ids
    for text in ["the dog 's tail", "  walked past :  it ."]:
        decoded = theirs.decode([*ours.encode(text), EOS_ID, 0], skip_special_tokens=True)
        assert decoded == ours.decode(ours.encode(text))


def test_the_vocabulary_of_a_folder_is_that_of_training(tmp_path):
    kept = Vocabulary(demo(), NUM_SENTINELS)
    tokenizer_files.write(tmp_path, kept, max_len=5)
    found = vocabulary.load_vocabulary(tmp_path)
    assert vocabulary.fingerprint(found) == kept.fingerprint
    assert found.vocab_size == tokenizer.make(kept.model, kept.num_sentinels).num_text_ids
    again = tokenizer_files.with_own_sentinels(Vocabulary(*vocabulary.content(found)))
    assert again == tokenizer_files.with_own_sentinels(kept)


def test_what_tokenizers_cannot_compute_is_left_to_sentencepiece(tmp_path):
    kept = Vocabulary(train(byte_fallback=True, vocab_size=600), NUM_SENTINELS)
    tokenizer_files.write(tmp_path, kept, max_len=48)
    assert not (tmp_path / tokenizer_files.TOKENIZER_FILE).exists()
    config = json.loads((tmp_path / tokenizer_files.CONFIG_FILE).read_text())
    assert config["tokenizer_class"] == "T5Tokenizer"
    theirs = transformers.T5Tokenizer.from_pretrained(tmp_path)
    assert not differing(theirs, kept, make_texts(50))
