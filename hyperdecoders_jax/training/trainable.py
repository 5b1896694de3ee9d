"""Which parameters are trained: the split of a tree of parameters into trainable and frozen.

Gradients, optimiser state and checkpoints exist for the trainable tree only (3 % of a model is
usual). The original's flags go by substrings of a name; here it is the path in the tree.
"""

import dataclasses
from collections.abc import Mapping

import jax
import jax.numpy as jnp
from flax import traverse_util

from hyperdecoders_jax import errors
from hyperdecoders_jax.types import Params

Path = tuple[str, ...]

# Top-level keys of new parameters, and the switch of each.
_SWITCH_OF_NEW = {
    "encoder_adapters": "encoder_adapters",
    "encoder_first_pass_adapters": "encoder_adapters",
    "decoder_adapters": "decoder_adapters",
    "encoder_hypergrid": "encoder_hypergrid",
    "decoder_hypergrid": "decoder_hypergrid",
}
# Not float16: T5's activations overflow it.
FROZEN_DTYPES = ("float32", "bfloat16")


@dataclasses.dataclass(frozen=True)
class TrainableConfig:
    """What is trained; everything else is frozen.

    A switch for a part that the model lacks does nothing. So of a HyperGrid model the gates are
    trained by default, and gates and all weights with `backbone`. The original's flags, none of
    them for HyperGrids, are `freeze_model` (False for `backbone`) and `unfreeze_` with the names
    below.
    """

    backbone: bool = False  # All of T5, the embedding and the output layer included.
    encoder_adapters: bool = True  # With what generates them, and those of the first pass.
    decoder_adapters: bool = True  # With what generates them (hypernetwork, pooled MLP).
    encoder_hypergrid: bool = True  # What makes the encoder's gates.
    decoder_hypergrid: bool = True  # What makes the decoder's gates.
    encoder: bool = False  # T5's stack, without the embedding that it shares with the decoder.
    decoder: bool = False  # T5's stack, without the embedding and the output layer.
    layer_norms: bool = False  # Of both stacks, the final ones included.

    def __post_init__(self):
        errors.check_bools(self)

    def is_trainable(self, path: Path) -> bool:
        """Tells whether the parameter at `path` is trained.

        >>> TrainableConfig(decoder=True).is_trainable(("decoder", "layers_0", "mlp", "wi"))
        True
        >>> TrainableConfig(decoder=True).is_trainable(("decoder", "logits_dense", "kernel"))
        False
        """
        top = path[0]
        if top in _SWITCH_OF_NEW:
            return getattr(self, _SWITCH_OF_NEW[top])
        # Both stacks share the embedding, so neither's switch trains it.
        if top == "token_embedder":
            return self.backbone
        if top in ("encoder", "decoder"):
            # The output layer is stored in the decoder, but belongs to no stack.
            if path[1] == "logits_dense":
                return self.backbone
            is_norm = any(_is_layer_norm(name) for name in path)
            return self.backbone or getattr(self, top) or (self.layer_norms and is_norm)
        known = ("token_embedder", "encoder", "decoder", *_SWITCH_OF_NEW)
        raise KeyError(
            f"Every parameter must be under one of the keys {known}; got {'/'.join(path)!r}."
            f"{errors.suggestion(top, known)} A new key needs a switch in TrainableConfig."
        )


def _is_layer_norm(name: str) -> bool:
    return name.endswith("layer_norm") or name in ("encoder_norm", "decoder_norm")


def split(params: Params, config: TrainableConfig) -> tuple[dict, dict]:
    """Splits `params` into trainable and frozen trees, for `merge`; ValueError if all is frozen."""
    # Paths are tuples here: a name may contain a slash.
    parts = {True: {}, False: {}}
    for path, leaf in traverse_util.flatten_dict(params).items():
        parts[bool(config.is_trainable(path))][path] = leaf
    trainable, frozen = (traverse_util.unflatten_dict(parts[side]) for side in (True, False))
    if not trainable:
        raise ValueError(
            f"At least one parameter must be trained; none of the parts {sorted(params)} of this "
            f"model is switched on in {config}. Switch one on, for example "
            "TrainableConfig.backbone=True for a plain T5."
        )
    return trainable, frozen


def merge(trainable: Params, frozen: Params) -> dict:
    """Joins two trees of disjoint leaves; raises ValueError if a parameter is in both.

    >>> merge({"a": {"b": 1}}, {"a": {"c": 2}, "d": 3})
    {'a': {'b': 1, 'c': 2}, 'd': 3}
    """
    merged = dict(trainable)
    for name, child in frozen.items():
        if name not in merged:
            merged[name] = child
        elif isinstance(child, Mapping) and isinstance(merged[name], Mapping):
            merged[name] = merge(merged[name], child)
        else:
            raise ValueError(
                f"A parameter must be trainable or frozen; got {name!r} in both. "
                "Make both trees with trainable.split."
            )
    return merged


def check_frozen_dtype(dtype: str) -> None:
    """Raises ValueError unless frozen parameters can be cast to this type."""
    if dtype not in FROZEN_DTYPES:
        raise ValueError(
            f"The type of frozen parameters must be one of {FROZEN_DTYPES}; got {dtype!r}. "
            "Set FROZEN_DTYPE to one of these; 'bfloat16' halves their memory."
        )


def cast_frozen(frozen: Params, dtype: str) -> dict:
    """Casts the floating leaves of `frozen` to one of `FROZEN_DTYPES`; else raises ValueError.

    Leaves of that type already are not copied: two float32 copies of a T5 may not fit on a host.
    """
    check_frozen_dtype(dtype)

    def cast(leaf):
        return leaf.astype(dtype, copy=False) if jnp.issubdtype(leaf.dtype, jnp.floating) else leaf

    return jax.tree.map(cast, dict(frozen))


def num_parameters(tree: Params) -> int:
    """The number of parameters in a tree of arrays or shapes."""
    return sum(leaf.size for leaf in jax.tree.leaves(tree))


def list_paths(tree: Params) -> list[str]:
    """The paths of a nested dict's leaves, sorted.

    >>> list_paths({"b": 1, "a": {"c": 2}})
    ['a/c', 'b']
    """
    return sorted(traverse_util.flatten_dict(tree, sep="/"))
