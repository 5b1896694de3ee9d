"""Packaging: installs `tasks/` and `gin_configs/` inside the package, with their data files.

`tasks` is too general a name for anyone's site-packages, so `package_dir` maps the two top-level
folders to `hyperdecoders_jax.tasks` and `hyperdecoders_jax.gin_configs`, in editable and in wheel
installs alike.
"""

import setuptools

# Folders of the repository -> the packages that they are installed as.
PACKAGE_DIRS = {
    "hyperdecoders_jax": "hyperdecoders_jax",
    "hyperdecoders_jax.tasks": "tasks",
    "hyperdecoders_jax.gin_configs": "gin_configs",
}

DATA_FILES = (
    "*.css",
    "*.gin",
    "*.gz",
    "*.html",
    "*.js",
    "*.json",
    "*.jsonl",
    "*.md",
    "*.model",
    "*.safetensors",
    "py.typed",
    "NOTICE*",
)

# Enough to load, predict, convert, export and count: no TensorFlow. Lower bounds are what the tests
# run on; with jax 0.9.2, the oldest, pip takes flax 0.12.6.
CORE = [
    "absl-py>=2.5",
    "etils[epath]>=1.15",
    "flax>=0.12.6",
    "gin-config>=0.5.0",
    "jax>=0.9.2",
    "jaxtyping>=0.3.11",
    "ml_dtypes>=0.6",
    # Flax brings it; interop reads Flax's files with it.
    "msgpack>=1.2",
    "numpy>=2.4",
    "optax>=0.2.8",
    "orbax-checkpoint>=0.12.8",
    # What reads a SentencePiece model; TensorFlow and Orbax choose its release.
    "protobuf",
    "safetensors>=0.8",
    "sentencepiece>=0.2.3",
    "tensorstore>=0.1.86",
    "tqdm>=4.70",
]

# To train, to evaluate, and to read SeqIO tasks; `train_extra` has the same names.
# TensorFlow comes with seqio; naming it here would allow two builds of it side by side.
TRAIN = [
    "clu>=0.0.12",
    # What tensorflow-datasets imports, and names nowhere.
    "importlib_resources>=7.1",
    "nltk>=3.10",
    "pyarrow>=26.0",
    "rouge-score>=0.1.2",
    "sacrebleu>=2.6",
    "scikit-learn>=1.9",
    "scipy>=1.17",
    "seqio>=0.0.20",
    # What clu's metric writers import, and name nowhere.
    "tensorboard>=2.21",
    "tensorflow-datasets>=4.9.10",
    "threadpoolctl>=3.6",
]

# The last major release with Flax models and with the tokenizers of the published T5 folders.
HUGGING_FACE = ["safetensors>=0.8", "tokenizers>=0.22.2", "transformers>=4.57,<5"]

# For the PyTorch class of exported models; `commands.doctor` names the releases it was tried with.
TORCH = ["safetensors>=0.8", "torch>=2.13", "transformers>=4.57"]

# Pictures, and the page, which holds the plotly.js that comes with plotly.
PLOTS = ["matplotlib>=3.10", "plotly>=7.1"]

EXTRAS = {
    "cuda": ["jax[cuda]>=0.9.2"],
    "docs": ["furo>=2025.12.19", "myst-parser>=5.2", "sphinx>=9.0", *TRAIN],
    "hf": HUGGING_FACE,
    "plots": PLOTS,
    # What T5X needs from the registry. T5X, airio and jestimator are on none: see docs/t5x.md.
    "t5x": ["cached_property>=2.0.1", "fiddle>=0.3.1", "grain>=0.2.18", *TRAIN],
    "test": [
        "beartype>=0.23",
        "hypothesis>=6.170",
        "import-linter>=2.16",
        "mypy>=2.4",
        "pytest>=9.2",
        "pytest-xdist>=3.8",
        "ruff==0.17.6",
        "selenium>=4.51",
        "setuptools>=77",
        *HUGGING_FACE,
        *PLOTS,
        *TRAIN,
    ],
    "torch": TORCH,
    "tpu": ["jax[tpu]>=0.9.2"],
    "train": TRAIN,
}


def find_packages() -> list[str]:
    """The packages of all mapped folders, by the names they are installed as."""
    packages = []
    for name, folder in PACKAGE_DIRS.items():
        packages.append(name)
        # Folders of data are namespace packages to setuptools; it warns of any that is not listed.
        children = setuptools.find_namespace_packages(folder, exclude=["*__pycache__*"])
        packages.extend(f"{name}.{child}" for child in children)
    return packages


setuptools.setup(
    packages=find_packages(),
    package_dir=PACKAGE_DIRS,
    package_data={"": list(DATA_FILES)},
    install_requires=CORE,
    extras_require=EXTRAS,
)
