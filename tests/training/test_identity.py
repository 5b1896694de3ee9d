import dataclasses

import pytest

from hyperdecoders_jax.modeling.config import HyperGridConfig
from hyperdecoders_jax.training import identity
from hyperdecoders_jax.training.identity import Identity
from tests.training import tiny

IDENTITY = Identity(
    task_names=("cola", "sst2"),
    model={"emb_dim": 8, "decoder_adapter": {"source": "generated"}, "activations": ("gelu",)},
    frozen_source="t5.safetensors",
    frozen_fingerprint="f00d",
    vocabulary_fingerprint="cafe",
)


def test_what_is_not_known_yet_is_not_compared():
    identity.check_same(IDENTITY, Identity(vocabulary_fingerprint="cafe"), "here")
    identity.check_same(IDENTITY, Identity(**{**vars(IDENTITY), "frozen_source": "x"}), "here")


def test_a_vocabulary_is_known_by_the_fingerprint_of_an_earlier_version():
    known = {"vocabulary_fingerprint": "beef", "former_vocabulary_fingerprints": ("cafe",)}
    here = dataclasses.replace(IDENTITY, **known)
    identity.check_same(IDENTITY, here, "there")
    again = identity.identity_of({"identity": here.to_json()})
    assert again.former_vocabulary_fingerprints == ()
    identity.check_same(again, here, "there")
    with pytest.raises(ValueError, match="vocabulary_fingerprint is 'f00d' there and 'beef' here"):
        identity.check_same(dataclasses.replace(again, vocabulary_fingerprint="f00d"), here, "")


def test_a_models_description_leaves_out_what_may_change():
    wet, dry = (identity.describe_model(tiny.make_model(d).config) for d in (0.1, 0.0))
    assert wet == dry
    assert wet != identity.describe_model(tiny.make_model(bottleneck_dim=3).config)


def test_a_models_description_holds_what_is_not_at_its_default():
    model = identity.describe_model(tiny.make_model().config)
    assert "relpos_buckets" not in model
    assert "encoder_adapter" not in model
    assert model["decoder_adapter"] == {
        "source": "generated",
        "bottleneck_dim": 2,
        "hypernetwork": {"bottleneck_dim": 6},
    }


def test_a_field_that_is_new_at_its_default_is_no_difference():
    model = identity.describe_model(tiny.make_model().config)
    older = Identity(model=model)
    newer = Identity(model={**model, "relpos_buckets": 32, "encoder_adapter": {"source": "none"}})
    identity.check_same(older, newer, "here")
    identity.check_same(newer, older, "here")
    other = Identity(model={**model, "relpos_buckets": 16})
    with pytest.raises(ValueError, match="relpos_buckets is the default there and 16 here"):
        identity.check_same(older, other, "here")


def test_a_model_with_other_gates_is_another_model():
    plain = tiny.make_model().config

    def describe(rows=4, **fields):
        grid = HyperGridConfig(rows, 2, condition="prefix_mean", **fields)
        gated = dataclasses.replace(plain, encoder_hypergrid=grid)
        return Identity(model=identity.describe_model(gated))

    ungated, gated = Identity(model=identity.describe_model(plain)), describe()
    assert "encoder_hypergrid" not in ungated.model
    grid = {"rows": 4, "cols": 2, "condition": "prefix_mean"}
    assert gated.model["encoder_hypergrid"] == grid
    identity.check_same(gated, describe(unseen_tasks="mean"), "here")
    newer = Identity(model={**gated.model, "encoder_hypergrid": {**grid, "kernels": "wo"}})
    identity.check_same(gated, newer, "here")
    for other, message in (
        (ungated, "encoder_hypergrid.rows is 4 there and the default here"),
        (describe(rows=6), "encoder_hypergrid.rows is 4 there and 6 here"),
        (describe(gate="identity"), "gate is the default there and 'identity' here"),
        (describe(variant="LG"), "variant is the default there and 'LG' here"),
    ):
        with pytest.raises(ValueError, match=message):
            identity.check_same(gated, other, "here")


def test_what_a_later_version_says_of_an_identity_is_ignored(caplog):
    run = {"identity": {"vocabulary_fingerprint": "cafe", "moon": "full"}}
    assert identity.identity_of(run) == Identity(vocabulary_fingerprint="cafe")
    assert "Ignoring what a checkpoint says of its moon" in caplog.text


def test_what_changed_since_the_beginning_is_one_line():
    begun = {"dropout_rate": 0.1, "trainer": {"num_train_steps": 3}, "gone": 1}
    here = {"dropout_rate": 0.1, "trainer": {"num_train_steps": 6}, "new": 2}
    told = "changed since the run began: trainer.num_train_steps 3 -> 6"
    assert identity.describe_changes(begun, here) == told
    assert identity.describe_changes(begun, begun) is None
    assert identity.describe_changes(None, here) is None


def test_processes_that_read_other_data_are_refused():
    first = {"seed": 1, "sources": {"mail": {"train_examples": "aa"}}}
    identity.check_agree([first, dict(first)])
    other = {"seed": 1, "sources": {"mail": {"train_examples": "bb"}}}
    told = "sources.mail.train_examples is 'aa' in process 0 and 'bb' in process 2"
    with pytest.raises(ValueError, match=told):
        identity.check_agree([first, first, other])
