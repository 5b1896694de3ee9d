"""Mixtures of the package's tasks; importing this file registers every task and mixture.

Task names are written out, so that a search for one finds where it is used. `TASK_FEATURE_LENGTHS`
holds, for each mixture, lengths in T5 tokens (for the demo: in pieces of its own vocabulary) that
its examples fit; GLUE's inputs and summaries' lengths are the original's, and cut long ones.
Those of SQuAD and of T5's format are T5's.
"""

# They register their tasks.
from hyperdecoders_jax.tasks import (  # noqa: F401
    classification,
    demo,
    glue,
    mrqa,
    multiple_choice,
    nli,
    squad,
    summarization,
    super_glue,
    t5_glue,
    t5_super_glue,
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
    "t5_glue": {"inputs": 512, "targets": 84},
    "super_glue": {"inputs": 512, "targets": 62},
    "glue_super_glue": {"inputs": 512, "targets": 84},
    "squad": {"inputs": 512, "targets": 97},
    "mrqa": {"inputs": 512, "targets": 64},
    "mrqa_out_of_domain": {"inputs": 512, "targets": 64},
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

# GLUE and SuperGLUE in T5's format with the rates that T5 registers, numbers of training examples.
T5_GLUE = [
    ("t5_glue_cola_v200", 8_551),
    ("t5_glue_sst2_v200", 67_349),
    ("t5_glue_mrpc_v200", 3_668),
    ("t5_glue_stsb_v200", 5_749),
    ("t5_glue_qqp_v200", 363_849),
    ("t5_glue_mnli_v200", 392_702),
    ("t5_glue_qnli_v200", 104_743),
    ("t5_glue_rte_v200", 2_490),
]
SUPER_GLUE = [
    ("t5_super_glue_boolq_v102", 9_427),
    ("t5_super_glue_cb_v102", 250),
    ("t5_super_glue_copa_v102", 400),
    ("t5_super_glue_multirc_v102", 27_243),
    # Examples, one per right answer.
    ("t5_super_glue_record_v102", 138_854),
    ("t5_super_glue_rte_v102", 2_490),
    ("t5_super_glue_wic_v102", 5_428),
    # Of 554, the pairs of a pronoun and its referent.
    ("t5_super_glue_wsc_v102", 259),
    ("t5_dpr_v110", 1_322),
]
add_mixture("t5_glue", T5_GLUE)
add_mixture("super_glue", SUPER_GLUE)
add_mixture("glue_super_glue", T5_GLUE + SUPER_GLUE)

add_mixture("squad", [("squad_v300", 87_599)])

# In proportion to the numbers of training questions. The original's shares are those of windows, so
# sets of long contexts have larger ones there (see experiments/mrqa/recipe.gin).
add_mixture(
    "mrqa",
    [
        ("mrqa_squad_v100", 86_588),
        ("mrqa_news_qa_v100", 74_160),
        ("mrqa_trivia_qa_v100", 61_688),
        ("mrqa_search_qa_v100", 117_384),
        ("mrqa_hotpot_qa_v100", 72_928),
        ("mrqa_natural_questions_v100", 104_071),
    ],
)

# For tests alone: none has a training split.
add_mixture(
    "mrqa_out_of_domain",
    [
        "mrqa_bio_asq_v100",
        "mrqa_drop_v100",
        "mrqa_duo_rc_v100",
        "mrqa_race_v100",
        "mrqa_relation_extraction_v100",
        "mrqa_textbook_qa_v100",
    ],
    default_rate=1.0,
)
