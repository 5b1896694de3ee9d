"""Mixtures of the package's tasks; importing this file registers every task and mixture.

Task names are written out, so that a search for one finds where it is used. `TASK_FEATURE_LENGTHS`
holds, for each mixture, lengths in T5 tokens (for the demo: in pieces of its own vocabulary) that
its examples fit; GLUE's inputs are the original's and cut a few long ones.
"""

from hyperdecoders_jax.tasks import demo, glue  # noqa: F401 (they register their tasks)
from hyperdecoders_jax.tasks.registration import add_mixture

TASK_FEATURE_LENGTHS = {
    "demo": {"inputs": 32, "targets": 12},
    "demo_pretrain": {"inputs": 32, "targets": 40},
    "glue": {"inputs": 128, "targets": 8},
    "glue_cola_sst2_mrpc": {"inputs": 128, "targets": 8},
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
