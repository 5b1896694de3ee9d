import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hyperdecoders_jax.training import trainable
from hyperdecoders_jax.training.trainable import TrainableConfig

NONE = {"encoder_adapters": False, "decoder_adapters": False}

# The paths of a one-layer T5 with a manual encoder adapter and a generated decoder adapter.
PARAMS = {
    "token_embedder": {"embedding": 0},
    "encoder": {
        "relpos_bias": {"rel_embedding": 0},
        "layers_0": {
            "pre_attention_layer_norm": {"scale": 0},
            "attention": {"query": {"kernel": 0}},
            "mlp": {"wo": {"kernel": 0}},
        },
        "encoder_norm": {"scale": 0},
    },
    "decoder": {
        "layers_0": {
            "pre_cross_attention_layer_norm": {"scale": 0},
            "encoder_decoder_attention": {"query": {"kernel": 0}},
        },
        "decoder_norm": {"scale": 0},
        "logits_dense": {"kernel": 0},
    },
    "encoder_adapters": {"down_kernel": 0},
    "decoder_adapters": {
        "pooled_mlp": {"dense_0": {"kernel": 0}},
        "hypernetwork": {"layer_embedding": 0},
    },
}


def trained(**switches):
    return trainable.list_paths(trainable.split(PARAMS, TrainableConfig(**switches))[0])


def paths(*tops):
    return [p for p in trainable.list_paths(PARAMS) if p.split("/")[0] in tops]


def test_only_adapters_are_trained_by_default():
    assert trained() == paths("encoder_adapters", "decoder_adapters")


def test_each_side_has_its_own_switch():
    assert trained(encoder_adapters=False) == paths("decoder_adapters")
    assert trained(decoder_adapters=False) == paths("encoder_adapters")


def test_backbone_is_all_of_t5():
    assert trained(backbone=True, **NONE) == paths("token_embedder", "encoder", "decoder")


def test_a_stack_is_trained_without_embedding_and_output_layer():
    assert trained(encoder=True, **NONE) == paths("encoder")
    expected = [p for p in paths("decoder") if p != "decoder/logits_dense/kernel"]
    assert trained(decoder=True, **NONE) == expected


def test_layer_norms_are_those_of_both_stacks():
    assert trained(layer_norms=True, **NONE) == [
        "decoder/decoder_norm/scale",
        "decoder/layers_0/pre_cross_attention_layer_norm/scale",
        "encoder/encoder_norm/scale",
        "encoder/layers_0/pre_attention_layer_norm/scale",
    ]


def test_merge_undoes_split():
    parts = trainable.split(PARAMS, TrainableConfig(layer_norms=True))
    assert trainable.merge(*parts) == PARAMS


def test_a_parameter_in_both_trees_is_refused():
    with pytest.raises(ValueError, match="trainable or frozen; got 'x' in both"):
        trainable.merge({"a": {"x": 1}}, {"a": {"x": 2}})


def test_training_nothing_is_refused():
    with pytest.raises(ValueError, match="At least one parameter must be trained; none of"):
        trainable.split(PARAMS, TrainableConfig(**NONE))


def test_a_plain_t5_with_the_default_switches_is_refused():
    plain = {k: v for k, v in PARAMS.items() if not k.endswith("_adapters")}
    with pytest.raises(ValueError, match=r"TrainableConfig.backbone=True for a plain T5"):
        trainable.split(plain, TrainableConfig())


def test_an_unknown_key_is_refused_with_the_nearest_name():
    with pytest.raises(KeyError, match="Did you mean 'decoder_adapters'"):
        trainable.split({"decoder_adapter": {"kernel": 0}}, TrainableConfig())


def test_casting_leaves_integers_alone():
    frozen = {"a": {"kernel": jnp.full((2, 3), 1 / 3)}, "ids": np.arange(3)}
    cast = trainable.cast_frozen(frozen, "bfloat16")
    assert jax.tree.map(lambda x: str(x.dtype), cast) == {
        "a": {"kernel": "bfloat16"},
        "ids": "int64",
    }


def test_parameters_are_counted():
    tree = {"a": jax.ShapeDtypeStruct((3, 5), jnp.float32), "b": jax.ShapeDtypeStruct((2,), int)}
    assert trainable.num_parameters(tree) == 17


@pytest.mark.parametrize("dtype", ["float16", "int8", "bf16", None])
def test_an_unknown_type_of_frozen_parameters_is_refused(dtype):
    with pytest.raises(ValueError, match=r"one of \('float32', 'bfloat16'\); got .* FROZEN_DTYPE"):
        trainable.cast_frozen({}, dtype)


def test_switches_are_true_or_false():
    with pytest.raises(
        ValueError, match=r"TrainableConfig.backbone must be True or .* got 'False'"
    ):
        TrainableConfig(backbone="False")
