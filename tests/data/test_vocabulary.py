"""Vocabularies: every place they load from, the run's vocabulary in SeqIO, every error."""

import copy
import functools
import http.server
import json
import pickle
import threading

import pytest
import sentencepiece
import seqio
import tensorflow as tf
import transformers

from hyperdecoders_jax.data import vocabulary

SENTENCES = ["the cat sat on the mat", "a dog ran to the old house", "cats and dogs sit and run"]
NUM_PIECES = 28


def train_model(file, pad_id=0, eos_id=1, unk_id=2, sentinels=()):
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(SENTENCES * 9),
        model_prefix=str(file.with_suffix("")),
        vocab_size=NUM_PIECES + len(sentinels),
        user_defined_symbols=list(sentinels),
        pad_id=pad_id,
        eos_id=eos_id,
        unk_id=unk_id,
        bos_id=-1,
        minloglevel=2,
    )
    return file


@pytest.fixture(scope="module")
def model_file(tmp_path_factory):
    return train_model(tmp_path_factory.mktemp("vocabulary") / "tiny.model")


@pytest.fixture
def folder(model_file, tmp_path):
    (tmp_path / "spiece.model").write_bytes(model_file.read_bytes())
    return tmp_path


@pytest.fixture
def run_vocabulary():
    yield vocabulary.RUN_VOCABULARY
    vocabulary.set_run_vocabulary(None)


@pytest.fixture
def server(model_file, tmp_path, monkeypatch):
    """A web server on this machine with `good.model`, and `bad.model` that is no model."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    folder = tmp_path / "served"
    folder.mkdir()
    (folder / "good.model").write_bytes(model_file.read_bytes())
    (folder / "bad.model").write_text("<html>Please log in</html>")
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=folder)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{running.server_port}", folder
        running.shutdown()


def test_a_file_has_a_hundred_sentinels_and_a_round_trip(model_file):
    loaded = vocabulary.load_vocabulary(model_file)
    assert loaded.vocab_size == NUM_PIECES + 100
    ids = loaded.encode("the old cat")
    assert loaded.decode(ids) == "the old cat"
    assert loaded.encode("<extra_id_0>")[-1] == NUM_PIECES + 99


def test_the_number_of_sentinels_can_be_chosen(model_file):
    assert vocabulary.load_vocabulary(model_file, extra_ids=7).vocab_size == NUM_PIECES + 7


@pytest.mark.parametrize("mark", ["", "▁"])
def test_a_model_with_its_own_sentinels_gets_no_others(tmp_path, mark):
    file = train_model(tmp_path / "own.model", sentinels=[f"{mark}<extra_id_{i}>" for i in (1, 0)])
    assert vocabulary.load_vocabulary(file).vocab_size == NUM_PIECES + 2


def test_bytes_are_byt5s_vocabulary():
    loaded = vocabulary.load_vocabulary("bytes")
    assert loaded.vocab_size == 384
    assert loaded.encode("hé") == [107, 198, 172]
    assert loaded.decode([107, 198, 172, 1, 107]) == "hé"


def test_a_folder_is_searched_for_its_model(folder, model_file):
    loaded = vocabulary.load_vocabulary(folder)
    assert loaded.encode("a dog") == vocabulary.load_vocabulary(model_file).encode("a dog")


def test_a_hugging_face_folder_says_how_many_sentinels(folder):
    settings = {"tokenizer_class": "T5Tokenizer", "extra_ids": 5}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    assert vocabulary.load_vocabulary(folder).vocab_size == NUM_PIECES + 5
    assert vocabulary.load_vocabulary(folder, extra_ids=3).vocab_size == NUM_PIECES + 3


def test_a_byt5_folder_needs_no_model(tmp_path):
    settings = {"tokenizer_class": "ByT5Tokenizer", "extra_ids": 125}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings))
    assert vocabulary.load_vocabulary(tmp_path) == vocabulary.load_vocabulary("bytes")


def test_a_tokenizer_json_stands_for_a_model_that_is_not_there(folder, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (folder / "config.json").write_text(json.dumps({"model_type": "t5"}))
    settings = {"tokenizer_class": "T5Tokenizer", "extra_ids": 7}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    saved = folder / "saved"
    transformers.AutoTokenizer.from_pretrained(folder).save_pretrained(saved)
    (saved / "spiece.model").unlink(missing_ok=True)  # transformers 4 saves both.
    for path in (saved, saved / "tokenizer.json"):
        loaded = vocabulary.load_vocabulary(path)
        assert loaded.vocab_size == NUM_PIECES + 7
        wanted = vocabulary.load_vocabulary(folder)
        for text in [*SENTENCES, "the <extra_id_6> ﬁne  cat"]:
            assert loaded.encode(text) == wanted.encode(text)
    # A number that a caller gives comes first, as for other files.
    assert vocabulary.load_vocabulary(saved, extra_ids=3).vocab_size == NUM_PIECES + 3
    monkeypatch.setenv("XDG_CACHE_HOME", str(saved / "tokenizer.json"))
    with pytest.raises(ValueError, match=r"must be kept in .*Set XDG_CACHE_HOME to a folder"):
        vocabulary.load_vocabulary(saved)


def test_a_url_is_downloaded_once(server, model_file):
    url, folder = server
    loaded = vocabulary.load_vocabulary(f"{url}/good.model")
    assert vocabulary.fingerprint(loaded) == vocabulary.fingerprint(
        vocabulary.load_vocabulary(model_file)
    )
    (folder / "good.model").unlink()
    assert vocabulary.load_vocabulary(f"{url}/good.model") == loaded


def test_a_fingerprint_tells_content_and_sentinels_but_not_paths(folder, model_file):
    loaded = vocabulary.load_vocabulary(model_file)
    same, other = vocabulary.load_vocabulary(folder), vocabulary.load_vocabulary(folder, 99)
    assert vocabulary.fingerprint(loaded) == vocabulary.fingerprint(same)
    assert vocabulary.fingerprint(loaded) != vocabulary.fingerprint(other)
    assert vocabulary.fingerprint(loaded) != vocabulary.fingerprint(seqio.ByteVocabulary(100))


def test_the_demo_vocabulary_path_names_the_shipped_model():
    assert vocabulary.DEMO_VOCABULARY_PATH.endswith("tasks/demo_data/demo.spiece.model")


def test_a_feature_may_be_made_before_any_vocabulary_is_set(run_vocabulary):
    feature = seqio.Feature(run_vocabulary)
    with pytest.raises(ValueError, match=r"none is set.*--vocabulary="):
        feature.vocabulary.encode("cat")


@pytest.mark.parametrize("kind", ["sentencepiece", "bytes"])
def test_the_run_vocabulary_answers_as_the_one_that_is_set(run_vocabulary, model_file, kind):
    loaded = vocabulary.load_vocabulary(model_file if kind == "sentencepiece" else "bytes")
    vocabulary.set_run_vocabulary(loaded)
    ids = loaded.encode("the cat")
    assert run_vocabulary.encode("the cat") == ids
    assert run_vocabulary.decode([*ids, 1, *ids]) == "the cat"
    assert run_vocabulary.encode_tf(tf.constant("the cat")).numpy().tolist() == ids
    assert run_vocabulary.decode_tf(tf.constant([[*ids, 1, *ids]])).numpy().tolist() == [b"the cat"]
    for name in ("vocab_size", "extra_ids", "pad_id", "eos_id", "unk_id", "bos_id"):
        assert getattr(run_vocabulary, name) == getattr(loaded, name)
    assert vocabulary.fingerprint(run_vocabulary) == vocabulary.fingerprint(loaded)


def test_the_run_vocabulary_works_inside_a_tf_data_graph(run_vocabulary, model_file):
    loaded = vocabulary.load_vocabulary(model_file)
    vocabulary.set_run_vocabulary(loaded)
    dataset = tf.data.Dataset.from_tensor_slices({"inputs": SENTENCES, "targets": SENTENCES})
    features = dict.fromkeys(("inputs", "targets"), seqio.Feature(run_vocabulary, add_eos=True))
    dataset = seqio.preprocessors.tokenize_and_append_eos(dataset, features)
    for sentence, example in zip(SENTENCES, dataset.as_numpy_iterator(), strict=True):
        assert example["inputs"].tolist() == [*loaded.encode(sentence), 1]


def test_a_mixture_accepts_tasks_registered_before_and_after_the_vocabulary(
    run_vocabulary, model_file
):
    def make_task(name):
        return seqio.Task(
            name,
            source=seqio.FunctionDataSource(
                lambda split, shuffle_files, seed=None: tf.data.Dataset.from_tensors({}), ["train"]
            ),
            output_features={"inputs": seqio.Feature(run_vocabulary)},
        )

    before = make_task("before")
    vocabulary.set_run_vocabulary(vocabulary.load_vocabulary(model_file))
    mixture = seqio.Mixture("both", [before, make_task("after")], default_rate=1.0)
    assert mixture.output_features["inputs"].vocabulary is run_vocabulary


def test_the_run_vocabulary_equals_itself_and_the_one_that_is_set(run_vocabulary, model_file):
    loaded = vocabulary.load_vocabulary(model_file)
    assert run_vocabulary == run_vocabulary
    assert run_vocabulary != loaded
    vocabulary.set_run_vocabulary(loaded)
    assert run_vocabulary == loaded
    assert run_vocabulary != seqio.ByteVocabulary()


def test_pickles_and_copies_are_the_run_vocabulary_itself(run_vocabulary):
    assert pickle.loads(pickle.dumps(run_vocabulary)) is run_vocabulary
    assert copy.deepcopy(run_vocabulary) is run_vocabulary


def test_only_a_vocabulary_can_be_set(run_vocabulary):
    with pytest.raises(TypeError, match=r"got 'spiece.model'\. Make one with .*load_vocabulary"):
        vocabulary.set_run_vocabulary("spiece.model")
    with pytest.raises(TypeError, match="and not RUN_VOCABULARY itself; got"):
        vocabulary.set_run_vocabulary(run_vocabulary)


def test_a_missing_file_says_where_it_looked(tmp_path):
    with pytest.raises(ValueError, match=rf"nothing is at {tmp_path}/none\.model\. Pass a local"):
        vocabulary.load_vocabulary(tmp_path / "none.model")


def test_a_folder_without_a_model_says_what_it_holds(tmp_path):
    (tmp_path / "vocab.json").write_text("{}")
    with pytest.raises(ValueError, match=r"must hold spiece\.model or .*holds vocab\.json\."):
        vocabulary.load_vocabulary(tmp_path)


def test_a_file_that_is_no_model_is_named(tmp_path):
    (tmp_path / "spiece.model").write_text("version https://git-lfs.github.com/spec/v1")
    with pytest.raises(ValueError, match=r"spiece\.model could not be parsed.*not a pointer to it"):
        vocabulary.load_vocabulary(tmp_path)


def test_a_model_with_other_special_ids_is_refused(tmp_path):
    file = train_model(tmp_path / "other.model", pad_id=3, eos_id=2, unk_id=0)
    with pytest.raises(ValueError, match=r"must have pad id 0 and EOS id 1; .* has 3 and 2\."):
        vocabulary.load_vocabulary(file)


def test_a_closed_bucket_suggests_a_local_copy(monkeypatch):
    def refuse(*args, **kwargs):
        raise tf.errors.PermissionDeniedError(None, None, "HTTP response code 403")

    monkeypatch.setattr(tf.io.gfile.GFile, "read", refuse)
    with pytest.raises(ValueError, match=r"403.*gs://t5-data is closed to many users.*local file"):
        vocabulary.load_vocabulary("gs://t5-data/vocabs/cc_all.32000/sentencepiece.model")


def test_a_url_that_does_not_answer_suggests_a_local_copy(server):
    with pytest.raises(ValueError, match=r"none\.model did not: .*404.*Pass a local file"):
        vocabulary.load_vocabulary(f"{server[0]}/none.model")


def test_a_page_instead_of_a_model_is_not_kept(server):
    url, folder = server
    with pytest.raises(ValueError, match=r"could not be parsed.*a page of text"):
        vocabulary.load_vocabulary(f"{url}/bad.model")
    (folder / "bad.model").write_bytes((folder / "good.model").read_bytes())
    assert vocabulary.load_vocabulary(f"{url}/bad.model").vocab_size == NUM_PIECES + 100


def test_a_fingerprint_of_another_kind_of_vocabulary_is_refused():
    with pytest.raises(TypeError, match=r"got PassThroughVocabulary\. Make it with"):
        vocabulary.fingerprint(seqio.PassThroughVocabulary(9))
