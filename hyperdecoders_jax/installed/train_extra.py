"""The extra `[train]`: what training, evaluation and SeqIO tasks need beyond the core."""

from __future__ import annotations

import importlib.util

# Distribution -> its module; setup.py has the versions. TensorFlow comes with seqio.
PACKAGES = {
    "clu": "clu",
    "importlib_resources": "importlib_resources",
    "nltk": "nltk",
    "pyarrow": "pyarrow",
    "rouge-score": "rouge_score",
    "sacrebleu": "sacrebleu",
    "scikit-learn": "sklearn",
    "scipy": "scipy",
    "seqio": "seqio",
    "tensorboard": "tensorboard",
    "tensorflow-datasets": "tensorflow_datasets",
    "threadpoolctl": "threadpoolctl",
}


# What else of it a user's module may import.
_BROUGHT = ("tensorflow", "tensorflow_text")


def missing() -> list[str]:
    """The `PACKAGES` that are not installed."""
    # Without an import, which takes seconds.
    return [name for name, module in PACKAGES.items() if importlib.util.find_spec(module) is None]


def check_for(error: ModuleNotFoundError) -> None:
    """Raises ImportError if a module was not found because the extra is not installed."""
    if (error.name or "").partition(".")[0] in (*PACKAGES.values(), *_BROUGHT):
        check()


def check() -> None:
    """Raises ImportError unless the extra is installed."""
    if absent := missing():
        raise ImportError(
            "Training, evaluation and SeqIO tasks need TensorFlow, SeqIO and other packages; not "
            f"installed: {', '.join(absent)}. Run: pip install 'hyperdecoders_jax[train]'. (To "
            "load, export or convert a trained model, and to predict for texts with hyperdecoders "
            "infer --checkpoint=FOLDER --input=FILE, they are not needed.)"
        )
