"""T5's vocabularies from a path, a folder or a URL, as SeqIO's.

A task is registered when its file is imported, long before a run says which T5 it uses. Tasks are
therefore registered with `RUN_VOCABULARY`, which passes every call on to the vocabulary that the
run sets once with `set_run_vocabulary`, so that they work with every T5 under either runner.

T5's SentencePiece models hold 32,000 pieces; 100 sentinels (`<extra_id_0>` …) follow them, in
descending order (Raffel et al. 2020, arXiv:1910.10683). mT5's model holds its sentinels itself, as
the last of 250,100 pieces (Xue et al. 2021, arXiv:2010.11934). ByT5 reads bytes: 3 special ids, 256
bytes, 125 sentinels (Xue et al. 2022, arXiv:2105.13626).
"""

import hashlib
import importlib.util
import json
import os
import pathlib
import tempfile
import urllib.error
import urllib.request

import seqio
import tensorflow as tf

from hyperdecoders_jax.data import tokenizer, tokenizer_json
from hyperdecoders_jax.types import EOS_ID, PAD_ID

BYTES = "bytes"
MODEL_FILE_NAMES = ("spiece.model", "sentencepiece.model")
DOWNLOAD_TIMEOUT_SECS = 30

_LOCAL_COPY_HINT = (
    "Pass a local file instead, for example the spiece.model of a Hugging Face T5 folder: "
    "--vocabulary=FOLDER."
)


def _find_demo_vocabulary() -> str:
    # find_spec finds the folder without importing a task; setup.py maps it into the package.
    spec = importlib.util.find_spec("hyperdecoders_jax.tasks")
    locations = spec.submodule_search_locations if spec else None
    folder = pathlib.Path(next(iter(locations or [pathlib.Path(__file__).parents[2] / "tasks"])))
    return str(folder / "demo_data" / "demo.spiece.model")


DEMO_VOCABULARY_PATH = _find_demo_vocabulary()


def load_vocabulary(path: str | os.PathLike[str], extra_ids: int | None = None) -> seqio.Vocabulary:
    """Loads a T5 vocabulary, and its model at once, so that a wrong path fails here.

    >>> load_vocabulary("bytes").vocab_size
    384

    Args:
        path: a SentencePiece model file; a folder with `spiece.model` or `sentencepiece.model`, as
            Hugging Face's (a ByT5 folder holds settings only), or with the `tokenizer.json` alone
            that transformers 5 saves; a `gs://` or `http(s)://` URL of a model file; or `"bytes"`.
            A model from a URL or a `tokenizer.json` is kept in `~/.cache/hyperdecoders_jax`.
        extra_ids: number of sentinels after the pieces. Default: what a Hugging Face folder says,
            else 100, none if the model holds its own, for bytes 125.

    Raises ValueError if nothing is there, the URL does not answer, or it is no SentencePiece model
    with T5's pad and end-of-sequence ids.
    """
    path, given = os.fspath(path), extra_ids
    if path == BYTES:
        return seqio.ByteVocabulary(
            tokenizer.NUM_BYTE_SENTINELS if extra_ids is None else extra_ids
        )
    if path.startswith(("http://", "https://")):
        file = _downloaded(path)
    elif "://" in path:
        file = path
    else:
        path = os.path.expanduser(path)
        file = pathlib.Path(path) / "tokenizer_config.json"  # Hugging Face's.
        settings = json.loads(file.read_text()) if file.is_file() else {}
        if extra_ids is None:
            extra_ids = settings.get("extra_ids")
        if settings.get("tokenizer_class") == "ByT5Tokenizer":
            return load_vocabulary(BYTES, extra_ids)
        file = _find_model_file(path)
        if os.path.basename(file) == tokenizer_json.FILE:
            file, num_sentinels = _rebuilt(file)
            extra_ids = num_sentinels if given is None else given
    vocabulary = seqio.SentencePieceVocabulary(file, extra_ids=extra_ids or 0)
    try:
        _check_model(vocabulary)
    except ValueError:
        if file != path and path.startswith("http"):
            os.remove(file)  # What came is no vocabulary; ask the URL again next time.
        raise
    if extra_ids is None:
        model, _ = content(vocabulary)  # Only its pieces tell whether sentinels are among them.
        return seqio.SentencePieceVocabulary(file, extra_ids=tokenizer.default_sentinels(model))
    return vocabulary


def fingerprint(vocabulary: seqio.Vocabulary) -> str:
    """Identifies a vocabulary by what it computes; see `tokenizer.fingerprint`."""
    return fingerprints(vocabulary)[0]


def fingerprints(vocabulary: seqio.Vocabulary) -> tuple[str, ...]:
    """The fingerprint, and those of earlier versions; see `tokenizer.fingerprints`."""
    return tokenizer.fingerprints(*content(vocabulary))


def content(vocabulary: seqio.Vocabulary) -> tuple[bytes, int]:
    """The bytes of the model, or `tokenizer.BYTES_MODEL`, and the number of sentinels."""
    vocabulary = getattr(vocabulary, "current", vocabulary)  # Of a `RunVocabulary`.
    if isinstance(vocabulary, seqio.SentencePieceVocabulary):
        with tf.io.gfile.GFile(vocabulary.sentencepiece_model_file, "rb") as file:
            return file.read(), vocabulary.extra_ids
    if isinstance(vocabulary, seqio.ByteVocabulary):
        return tokenizer.BYTES_MODEL, vocabulary.extra_ids
    raise TypeError(
        "Only SentencePiece and byte vocabularies have a fingerprint; got "
        f"{type(vocabulary).__name__}. Make it with vocabulary.load_vocabulary."
    )


def _passed_on(name: str) -> property:
    """An attribute or method of the vocabulary that is set."""
    return property(lambda self: getattr(self.current, name))


class RunVocabulary(seqio.Vocabulary):
    """Proxy of this run's vocabulary: every call goes to the one that was set last.

    It may be put into a `seqio.Feature` before any vocabulary is set. It equals itself and the
    vocabulary it stands for; it is pickled and copied by name, so another process must set the
    vocabulary too. A tf.data pipeline keeps the vocabulary that was set when it was built.
    """

    def __init__(self):
        self._current: seqio.Vocabulary | None = None

    @property
    def current(self) -> seqio.Vocabulary:
        """The vocabulary that is set."""
        if self._current is None:
            raise ValueError(
                "The run's vocabulary must be set before text becomes tokens; none is set. Start "
                "with --vocabulary=PATH (a spiece.model, a Hugging Face T5 folder, a URL or "
                "'bytes'), or call vocabulary.set_run_vocabulary(vocabulary.load_vocabulary(PATH))."
            )
        return self._current

    bos_id, eos_id, unk_id, pad_id = map(_passed_on, ("bos_id", "eos_id", "unk_id", "pad_id"))
    extra_ids, vocab_size = map(_passed_on, ("extra_ids", "vocab_size"))
    _base_vocab_size = _passed_on("_base_vocab_size")
    # The private four are abstract; the public ones of the base class, replaced here, call them.
    encode = _encode = _passed_on("encode")
    decode = _decode = _passed_on("decode")
    encode_tf = _encode_tf = _passed_on("encode_tf")
    decode_tf = _decode_tf = _passed_on("decode_tf")

    def __eq__(self, other: object) -> bool:
        if isinstance(other, RunVocabulary):
            return self is other
        return self._current is not None and self._current == other

    def __hash__(self) -> int:
        return id(self)

    def __reduce__(self) -> str:
        return "RUN_VOCABULARY"

    def __str__(self) -> str:
        return f"RunVocabulary({self._current if self._current is not None else 'not set'})"


RUN_VOCABULARY = RunVocabulary()


def set_run_vocabulary(vocabulary: seqio.Vocabulary | None) -> None:
    """Sets the vocabulary that `RUN_VOCABULARY` stands for; None unsets it."""
    if isinstance(vocabulary, RunVocabulary) or not isinstance(vocabulary, seqio.Vocabulary | None):
        raise TypeError(
            "The vocabulary of a run must be a seqio.Vocabulary, and not RUN_VOCABULARY itself; "
            f"got {vocabulary!r}. Make one with vocabulary.load_vocabulary(PATH)."
        )
    RUN_VOCABULARY._current = vocabulary


def _find_model_file(path: str) -> str:
    if os.path.isfile(path):
        return path
    if not os.path.isdir(path):
        raise ValueError(
            "A vocabulary must be a file, a folder, a URL or 'bytes'; nothing is at "
            f"{os.path.abspath(path)}. {_LOCAL_COPY_HINT}"
        )
    for name in (*MODEL_FILE_NAMES, tokenizer_json.FILE):
        if os.path.isfile(file := os.path.join(path, name)):
            return file
    found = ", ".join(sorted(os.listdir(path))[:8]) or "nothing"
    raise ValueError(
        f"A vocabulary folder must hold {' or '.join(MODEL_FILE_NAMES)}; {os.path.abspath(path)} "
        f"holds {found}. Copy the model there, or pass its file."
    )


def _check_model(vocabulary: seqio.SentencePieceVocabulary) -> None:
    file = vocabulary.sentencepiece_model_file
    try:
        vocabulary.load_model()
    except (tf.errors.OpError, OSError) as error:
        closed = " gs://t5-data is closed to many users." if file.startswith("gs://") else ""
        raise ValueError(
            f"A vocabulary must be readable; {file} could not be read: {error}.{closed} "
            f"{_LOCAL_COPY_HINT}"
        ) from error
    except Exception as error:  # protobuf's DecodeError and SentencePiece's RuntimeError
        raise ValueError(
            f"A vocabulary must be a SentencePiece model; {file} could not be parsed: {error}. It "
            f"must be the model, not a pointer to it or a page of text. {_LOCAL_COPY_HINT}"
        ) from error
    pad_id, eos_id = vocabulary.tokenizer.pad_id(), vocabulary.tokenizer.eos_id()
    if (pad_id, eos_id) != (PAD_ID, EOS_ID):
        raise ValueError(
            f"A T5 vocabulary must have pad id {PAD_ID} and EOS id {EOS_ID}; {file} has "
            f"{pad_id} and {eos_id}. It belongs to another kind of model: pass T5's own."
        )


def _rebuilt(file: str) -> tuple[str, int]:
    """A file of the model in a `tokenizer.json`, and the number of its sentinels."""
    model, num_sentinels = tokenizer_json.read(file)
    made = _cache_file(model)
    if not made.exists():
        _keep(made, model)
    return str(made), num_sentinels


def _cache_file(key: bytes) -> pathlib.Path:
    folder = pathlib.Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser()
    return folder / "hyperdecoders_jax" / f"{hashlib.sha256(key).hexdigest()[:16]}.model"


def _keep(file: pathlib.Path, content: bytes) -> None:
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        # Processes of one run may write at once: each writes its own file, the last rename wins.
        with tempfile.NamedTemporaryFile(dir=file.parent, delete=False) as part:
            part.write(content)
        os.replace(part.name, file)
    except OSError as error:
        raise ValueError(
            f"A vocabulary's model must be kept in {file.parent}; it could not be written: "
            f"{error}. Set XDG_CACHE_HOME to a folder that can be written."
        ) from error


def _downloaded(url: str) -> str:
    file = _cache_file(url.encode())
    if not file.exists():
        try:
            with urllib.request.urlopen(url, timeout=DOWNLOAD_TIMEOUT_SECS) as response:
                content = response.read()
        except (urllib.error.URLError, OSError) as error:
            raise ValueError(
                f"A vocabulary's URL must answer; {url} did not: {error}. {_LOCAL_COPY_HINT}"
            ) from error
        _keep(file, content)
    return str(file)
