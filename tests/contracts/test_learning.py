"""Every way to adapt learns: the loss on the demo's tasks falls, on top of its frozen T5."""

import itertools

import jax
import numpy as np
import pytest

from hyperdecoders_jax import model
from hyperdecoders_jax.data import pipeline, train_batches, vocabulary
from hyperdecoders_jax.modeling import adapter_sources, config, sites
from hyperdecoders_jax.tasks import mixtures
from hyperdecoders_jax.trained import start
from hyperdecoders_jax.training import optimizer, schedules, train_state, train_step, trainable

NUM_STEPS, BATCH_SIZE = 16, 8
SIZES = dict(
    vocab_size=4224, emb_dim=128, num_heads=4, head_dim=32, mlp_dim=256, num_encoder_layers=3,
    num_decoder_layers=3, dropout_rate=0.0, num_tasks=6,
)  # fmt: skip
LORA = ("self_attention_query", "cross_attention_out")
SERIAL = ("after_self_attention", "after_feed_forward")
SMALL = config.HypernetworkConfig(bottleneck_dim=24)
PER_LAYER, HYPERFORMER = config.PerLayerHypernetworkConfig(24), config.HyperFormerConfig()
# What each side is adapted by: every source, site kind and network is among them.
METHODS = {
    "none_generated": ({"source": "none"}, {"source": "generated", "sites": LORA}),
    "generated_manual_specific": (
        {"source": "generated", "hypernetwork": PER_LAYER},
        {"source": "manual_specific"},
    ),
    "manual_hyperformer": (
        {"source": "manual", "sites": ("feed_forward", *SERIAL)},
        {"source": "task", "sites": SERIAL, "hypernetwork": HYPERFORMER},
    ),
}


@pytest.fixture(scope="module")
def batches():
    vocabulary.set_run_vocabulary(vocabulary.load_vocabulary(vocabulary.DEMO_VOCABULARY_PATH))
    data = pipeline.PipelineConfig(
        "demo", mixtures.TASK_FEATURE_LENGTHS["demo"], batch_size=BATCH_SIZE
    )
    with train_batches.TrainIterator(data) as iterator:
        yield list(itertools.islice(iterator, NUM_STEPS))
    vocabulary.set_run_vocabulary(None)


@pytest.mark.parametrize("name", METHODS)
def test_the_loss_falls(name, batches):
    encoder, decoder = (
        config.AdapterConfig(**{"bottleneck_dim": 24, "hypernetwork": SMALL, **fields})
        for fields in METHODS[name]
    )
    adapted = model.Model(
        config.TransformerConfig(**SIZES, encoder_adapter=encoder, decoder_adapter=decoder)
    )
    begun = start.open_start(adapted, "package://tasks/demo_data/demo_t5.safetensors", seed=0)
    trained, frozen = trainable.split(begun.params(), trainable.TrainableConfig())
    # At 1e-2 LoRA's losses jump, and where they are at the end depends on the processor's rounding.
    schedule = schedules.ConstantConfig(learning_rate=3e-3).make(NUM_STEPS)
    tx = optimizer.make_optimizer(optimizer.AdamWConfig(), schedule)
    state = train_state.create(trained, tx, jax.random.key(0))
    step = train_step.make_train_step(adapted, tx, schedule)
    per_token = []
    for batch in batches:
        state, metrics = step(state, frozen, batch)
        per_token.append(float(metrics["loss"]) / np.sum(batch.decoder_loss_weights))
    assert np.all(np.isfinite(per_token))
    # The losses of small batches differ by a fifth; those of the last are below half of the
    # first's.
    assert np.mean(per_token[-4:]) < 0.6 * np.mean(per_token[:4])


def test_every_source_site_kind_and_network_is_tried():
    plain = config.TransformerConfig(**SIZES)
    methods = [config.AdapterConfig(**side) for sides in METHODS.values() for side in sides]
    assert {method.source for method in methods} == set(config.SOURCES)
    tried, known = (
        {sites.SITES[name](plain, config.AdapterConfig()).kind for name in names}
        for names in ([name for method in methods for name in method.sites], config.SITES)
    )
    assert tried == known
    networks = {type(method.hypernetwork) for method in methods}
    assert networks == set(adapter_sources.NETWORKS)
