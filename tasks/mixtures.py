"""Mixtures of the package's tasks; importing this file registers every task and mixture.

Task names are written out, so that a search for one finds where it is used. `TASK_FEATURE_LENGTHS`
holds, for each mixture, lengths in T5 tokens (for the demo: in pieces of its own vocabulary) that
its examples fit; GLUE's inputs and summaries' lengths are the original's, and cut long ones.
"""

# They register their tasks.
from hyperdecoders_jax.tasks import (  # noqa: F401
    classification,
    demo,
    glue,
    multiple_choice,
    nli,
    summarization,
    super_glue,
    translation,
)
from hyperdecoders_jax.tasks.registration import add_mixture

TASK_FEATURE_LENGTHS = {
    "demo": {"inputs": 32, "targets": 12},
    "demo_pretrain": {"inputs": 32, "targets": 40},
    "glue": {"inputs": 128, "targets": 8},
    "glue_cola_sst2_mrpc": {"inputs": 128, "targets": 8},
    "nli": {"inputs": 512, "targets": 8},
    "summarization": {"inputs": 512, "targets": 128},
    "summarization_nli": {"inputs": 512, "targets": 128},
}

# Every task alike, whatever its size.
add_mixture(
    "demo",
    [
        "demo_topic",
        "demo_part_of_speech",
        "demo_relation",
        "demo_genus",
        "demo_find",
        "demo_inflect",
    ],
    default_rate=1.0,
)

# In proportion to the numbers of training examples, as the original mixes them.
add_mixture(
    "glue",
    [
        ("glue_cola_v200", 8_551),
        ("glue_sst2_v200", 67_349),
        ("glue_mrpc_v200", 3_668),
        ("glue_stsb_v200", 5_749),
        ("glue_qqp_v200", 363_846),
        ("glue_mnli_v200", 392_702),
        ("glue_qnli_v200", 104_743),
        ("glue_rte_v200", 2_490),
    ],
)

# Three of GLUE's smaller tasks, to try things out on real data.
add_mixture(
    "glue_cola_sst2_mrpc",
    [
        ("glue_cola_v200", 8_551),
        ("glue_sst2_v200", 67_349),
        ("glue_mrpc_v200", 3_668),
    ],
)

# In proportion to size, too: TFDS's and the Hugging Face hub's numbers of training examples.
NLI = [
    ("anli_v010", 16_946 + 45_460 + 100_459),
    ("art", 169_654),
    ("glue_mnli_v200", 392_702),
]
SUMMARIZATION = [
    ("xsum", 204_045),
    ("cnn_dailymail_v340", 287_113),
    ("wiki_lingua_english_en_v110", 99_020),
]
add_mixture("nli", NLI)
add_mixture("summarization", SUMMARIZATION)
add_mixture("summarization_nli", SUMMARIZATION + NLI)
