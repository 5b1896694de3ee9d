"""Sizes and choices of a model: frozen dataclasses that check themselves; gin files bind them."""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from hyperdecoders_jax import errors
from hyperdecoders_jax.modeling import source_registry
from hyperdecoders_jax.modeling.compute import ComputeConfig

# The package's own adapter sources; `adapter_sources.register` adds others.
SOURCES = source_registry.BUILT_IN
TASK_SOURCES = tuple(name for name in SOURCES if source_registry.traits_of(name).reads_tasks)
PROJECTIONS = ("query", "key", "value", "out")
SELF_ATTENTION = tuple(f"self_attention_{name}" for name in PROJECTIONS)
CROSS_ATTENTION = tuple(f"cross_attention_{name}" for name in PROJECTIONS)
AFTER = ("after_self_attention", "after_feed_forward")
LORA_SITES = (*SELF_ATTENTION, *CROSS_ATTENTION)
# Where adapters go; their arrays are in `sites.SITES`.
SITES = ("feed_forward", *LORA_SITES, *AFTER)
SITES_OF_SIDE = {"encoder": ("feed_forward", *SELF_ATTENTION, *AFTER), "decoder": SITES}
UNSEEN_TASKS = ("error", "mean")
# HyperGrid: who makes the factor of the rows, then that of the columns.
VARIANTS = {
    "L": ("local",),
    "L2": ("local", "local"),
    "LG": ("local", "global"),
    "GL": ("global", "local"),
    "GG": ("global", "global"),
}
# What a local factor reads. The encoder's gates act before there is a pooled output.
CONDITIONS = ("first_state", "prefix_mean", "pooled", "task_embedding")
CONDITIONS_OF_SIDE = {
    "encoder": tuple(name for name in CONDITIONS if name != "pooled"),
    "decoder": CONDITIONS,
}
GATES = ("sigmoid", "identity")
# The kernels of a feed-forward block that are gated.
GATED_KERNELS = {"wo": ("wo",), "wi": ("wi",), "both": ("wi", "wo")}
ACTIVATIONS = ("relu", "gelu", "silu", "linear")
DTYPES = ("float32", "bfloat16")


def _check_choice(field: str, value: str, choices: Sequence[str]) -> None:
    if value not in choices:
        hint = errors.suggestion(str(value), choices) or f" Use one of {', '.join(choices)}."
        problem = f"must be one of {tuple(choices)}; got {value!r:.200}."
        raise errors.FieldError(field, problem, hint.removeprefix(" "))


# Far above every T5, and far below what takes a machine's memory or hours for a mistyped number.
MAX_LAYERS = 256
MAX_SIZE = 2**17
MAX_VOCABULARY = 2**24


def _check_positive(config: Any, *fields: str, most: int = MAX_SIZE) -> None:
    for field in fields:
        advice = "Set it in the model's or the adapter's gin file."
        errors.check_whole(config, field, 1, most, advice)


@dataclasses.dataclass(frozen=True)
class HypernetworkConfig:
    """One hypernetwork for all layers, which a learned embedding tells apart.

    Source: Ivison & Peters 2022 (arXiv:2203.08304), section 2; defaults of allenai/hyperdecoders.
    """

    bottleneck_dim: int = 128  # hidden features between the condition and the heads
    layer_embedding_dim: int = 10  # features of the embedding of a layer
    pooled_mlp: bool = True  # an MLP for pooled states (the original's `process_encoder_output`)

    def __post_init__(self):
        _check_positive(self, "bottleneck_dim", "layer_embedding_dim")
        errors.check_bools(self)


@dataclasses.dataclass(frozen=True)
class PerLayerHypernetworkConfig:
    """A hypernetwork for every layer, as users of the original asked for (its issue 2)."""

    bottleneck_dim: int = 128  # hidden features of each network
    pooled_mlp: bool = True  # as in `HypernetworkConfig`; one MLP a stack

    def __post_init__(self):
        _check_positive(self, "bottleneck_dim")
        errors.check_bools(self)


@dataclasses.dataclass(frozen=True)
class HyperFormerConfig:
    """HyperFormer++'s hypernetwork: its heads read a joint embedding of condition, layer and site.

    Source: Mahabadi et al. 2021 (arXiv:2106.04489), section 2; defaults of rabeehk/hyperformer.
    """

    embedding_dim: int = 64  # features of the learned embeddings of layers and of sites
    hidden_dim: int = 128  # hidden features of the MLP that joins the three
    joint_dim: int = 64  # features of the joint embedding, which is layer-normed

    # Pooled states go into the MLP that it has anyway.
    pooled_mlp: ClassVar[bool] = False

    def __post_init__(self):
        _check_positive(self, "embedding_dim", "hidden_dim", "joint_dim")


AnyHypernetworkConfig = HypernetworkConfig | PerLayerHypernetworkConfig | HyperFormerConfig


@dataclasses.dataclass(frozen=True)
class LoraConfig:
    """Low-rank changes of attention projections: `alpha / rank * x @ down_kernel @ up_kernel`.

    Source: Hu et al. 2021 (arXiv:2106.09685), section 4.1.
    """

    rank: int = 8  # features between the two kernels
    alpha: float = 8.0

    def __post_init__(self):
        _check_positive(self, "rank")
        is_valid = errors.is_number(self.alpha) and self.alpha > 0
        advice = "Set it to the rank for a scale of 1."
        errors.check_field(self, "alpha", is_valid, "be a number above 0", advice)


@dataclasses.dataclass(frozen=True)
class AdapterConfig:
    """The adapters of one stack: who makes them (the source) and where they go (the sites).

    Attributes:
        source: `none`: plain T5. `manual`, `manual_specific`: learned, one set a layer for all
            examples or for each task. `task`, `generated`: written by a hypernetwork from the
            task's learned embedding or each example's pooled encoder output. Others: `register`.
        sites: `feed_forward`: a bottleneck adapter beside that block (the paper's).
            `self_attention_query`, `…_key`, `…_value`, `…_out`, in the decoder `cross_attention_…`:
            a low-rank change of that projection (LoRA). `after_self_attention`,
            `after_feed_forward`: a bottleneck adapter behind that sub-layer (HyperFormer's).
    """

    source: str = "none"
    bottleneck_dim: int = 64  # hidden features of bottleneck adapters
    norm_input: bool = (
        False  # whether `feed_forward` adapters read normed states; the paper's do not
    )
    hypernetwork: AnyHypernetworkConfig = HypernetworkConfig()  # of `task`, `generated`
    sites: Sequence[str] = ("feed_forward",)
    lora: LoraConfig = LoraConfig()
    task_embedding_dim: int | None = None  # for `task`; None: `emb_dim`
    unseen_tasks: str = "error"  # or the "mean" of trained tasks; of `task` and `manual_specific`
    options: Any = None  # a registered source's hyperparameters; None: their defaults
    targets: dataclasses.InitVar[Sequence[str] | None] = None  # former name of `sites`

    def __post_init__(self, targets: Sequence[str] | None):
        if targets is not None:
            if self.sites != type(self).sites:
                raise ValueError(
                    "AdapterConfig.sites must be given under one name; got "
                    f"sites={self.sites} and targets={targets}, its former name. Rename targets to "
                    "sites where it is set."
                )
            object.__setattr__(self, "sites", targets)
        options = source_registry.checked_options(self.source, self.options)
        object.__setattr__(self, "options", options)
        _check_positive(self, "bottleneck_dim")
        errors.check_bools(self)
        # gin gives lists for brackets, and a string where a user forgets them.
        sites = (self.sites,) if isinstance(self.sites, str) else tuple(self.sites or ())
        for site in sites:
            _check_choice("AdapterConfig.sites", site, SITES)
        if not sites or len(set(sites)) < len(sites):
            raise ValueError(
                f"AdapterConfig.sites must name at least one site, and each once; got "
                f"{sites}. For a stack without adapters set source = 'none'."
            )
        # In one order: two ways to write a model are one model to checkpoints and JAX's caches.
        object.__setattr__(self, "sites", tuple(sorted(sites, key=SITES.index)))
        for field, kind in (("hypernetwork", AnyHypernetworkConfig), ("lora", LoraConfig)):
            if not isinstance(getattr(self, field), kind):
                raise TypeError(
                    f"AdapterConfig.{field} must be a {kind}; got {getattr(self, field)!r}. In gin "
                    f"bind it with @, for example hypernetwork = @config.HypernetworkConfig()."
                )
        if self.task_embedding_dim is not None:
            _check_positive(self, "task_embedding_dim")
        _check_choice("AdapterConfig.unseen_tasks", self.unseen_tasks, UNSEEN_TASKS)


@dataclasses.dataclass(frozen=True)
class HyperGridConfig:
    """HyperGrid gates over the feed-forward kernels of one stack; see `modeling/hypergrid.py`.

    Attributes:
        rows, cols: blocks along a kernel's fan-in and fan-out, which they divide.
        variant: who makes the factors, rows first: `L`ocal ones are maps of the condition, `G`lobal
            ones learned vectors. `L`: one side alone is gated; `rows` or `cols` is 1. `GG`: all
            examples have the same gates. `L2`: both local.
        condition: what local factors read: the state at position 0 (`first_state`), the mean of the
            first `prefix_len` (`prefix_mean`) or of all (`pooled`, decoder only), or a learned
            `task_embedding`. States are a layer's own in the encoder, else the encoder's output.
        gate: `sigmoid`, as others tell of the paper; `identity`: 2 * sigmoid with one factor that
            starts at zero, so that all gates start at one and the model at plain T5.
    """

    rows: int
    cols: int
    variant: str = "L2"
    condition: str = "first_state"
    prefix_len: int = 6  # tokens, for `prefix_mean`
    gate: str = "sigmoid"
    kernels: str = "wo"  # or "wi", "both", each with its own factors; v1.1's two `wi` share theirs
    unseen_tasks: str = "error"  # or "mean", for `task_embedding`

    def __post_init__(self):
        _check_positive(self, "rows", "cols", "prefix_len")
        allowed = {"variant": VARIANTS, "condition": CONDITIONS, "gate": GATES}
        allowed |= {"kernels": GATED_KERNELS, "unseen_tasks": UNSEEN_TASKS}
        for field, choices in allowed.items():
            _check_choice(f"HyperGridConfig.{field}", getattr(self, field), tuple(choices))
        if self.variant == "L" and 1 not in (self.rows, self.cols):
            raise ValueError(
                "HyperGridConfig.rows or cols must be 1 for the variant 'L', which gates one side "
                f"of a kernel; got rows={self.rows} and cols={self.cols}. Set one of them to 1, or "
                "gate both sides with the variant 'L2'."
            )

    @property
    def factors(self) -> dict[str, str]:
        """Who makes the factor of each side that has one.

        >>> HyperGridConfig(rows=4, cols=8, variant="LG").factors
        {'rows': 'local', 'cols': 'global'}
        >>> HyperGridConfig(rows=1, cols=8, variant="L").factors
        {'cols': 'local'}
        """
        sides = ("rows", "cols")
        if self.variant == "L":
            sides = ("rows",) if self.cols == 1 else ("cols",)
        return dict(zip(sides, VARIANTS[self.variant], strict=True))

    @property
    def condition_read(self) -> str | None:
        """The condition, or None where no factor is local."""
        return self.condition if "local" in self.factors.values() else None


@dataclasses.dataclass(frozen=True)
class TransformerConfig:
    """A T5 model and what adapts it.

    Source: Raffel et al. 2020 (arXiv:1910.10683); t5x/examples/t5/network.py.
    """

    vocab_size: int  # rows of the table, at least the vocabulary's size (T5: 32128 for 32100)
    emb_dim: int  # features of the residual stream (`d_model`)
    num_heads: int
    head_dim: int  # features of a head (`d_kv`); `num_heads * head_dim` need not be `emb_dim`
    mlp_dim: int  # hidden features of a feed-forward block (`d_ff`)
    num_encoder_layers: int
    num_decoder_layers: int
    mlp_activations: Sequence[str] = ("gelu", "linear")  # v1.1, mT5, ByT5; v1.0: ("relu",)
    logits_via_embedding: bool = False  # whether the embedding table makes them too (tied, v1.0)
    dropout_rate: float = 0.1
    dtype: str = "float32"  # of activations; parameters and logits are always float32
    relpos_buckets: int = 32
    relpos_max_distance: int = 128  # tokens; farther positions share the last bucket
    encoder_adapter: AdapterConfig = AdapterConfig()
    decoder_adapter: AdapterConfig = AdapterConfig()
    encoder_hypergrid: HyperGridConfig | None = None  # None: no gates
    decoder_hypergrid: HyperGridConfig | None = None
    num_tasks: int | None = None  # where a source or grid `reads_tasks`; None: the run counts
    num_trained_tasks: int | None = None  # the first ones; unseen tasks get their mean. None: all
    compute: ComputeConfig = ComputeConfig()  # of a run alone: files do not hold it

    def __post_init__(self):
        _check_positive(self, "vocab_size", most=MAX_VOCABULARY)
        _check_positive(self, "num_encoder_layers", "num_decoder_layers", most=MAX_LAYERS)
        _check_positive(self, "emb_dim", "num_heads", "head_dim", "mlp_dim", "relpos_max_distance")
        advice = "T5 uses 32 buckets and 128 tokens."
        errors.check_whole(self, "relpos_buckets", 4, MAX_SIZE, advice)
        # Half of the buckets are exact; the logarithm of the others needs a distance beyond.
        is_far = self.relpos_max_distance > self.relpos_buckets // 2
        must = f"be above half of relpos_buckets={self.relpos_buckets}"
        errors.check_field(self, "relpos_max_distance", is_far, must, advice)
        # gin gives lists for brackets, and lists do not hash.
        object.__setattr__(self, "mlp_activations", tuple(self.mlp_activations))
        if not self.mlp_activations:
            raise ValueError(
                "TransformerConfig.mlp_activations must name an activation for each input kernel; "
                "got none. Use ('gelu', 'linear') for v1.1, ('relu',) for v1.0."
            )
        for activation in self.mlp_activations:
            _check_choice("TransformerConfig.mlp_activations", activation, ACTIVATIONS)
        _check_choice("TransformerConfig.dtype", self.dtype, DTYPES)
        errors.check_bools(self)
        is_rate = errors.is_number(self.dropout_rate) and 0.0 <= self.dropout_rate < 1.0
        advice = "T5 uses 0.1; 0.0 turns dropout off."
        errors.check_field(self, "dropout_rate", is_rate, "be in [0, 1)", advice)
        for side in ("encoder", "decoder"):
            for site in getattr(self, f"{side}_adapter").sites:
                _check_choice(f"{side}_adapter.sites", site, SITES_OF_SIDE[side])
            self._check_hypergrid(side)
        counts = ("num_tasks", "num_trained_tasks")
        _check_positive(self, *(field for field in counts if getattr(self, field) is not None))
        self._check_compute()

    def _check_compute(self) -> None:
        heads = self.compute.attention_heads
        if heads is None:
            return
        if self.num_heads % heads:
            near = max(n for n in range(1, heads + 1) if self.num_heads % n == 0)
            raise ValueError(
                f"ComputeConfig.attention_heads must divide num_heads={self.num_heads}; got "
                f"{heads}. Set ATTENTION_HEADS to {near}, or another divisor, or to None."
            )
        if self.compute.dropout != "broadcast" and self.dropout_rate > 0.0:
            raise ValueError(
                "ComputeConfig.attention_heads needs the dropout 'broadcast', which drops keys, "
                f"not single weights; got dropout={self.compute.dropout!r} at a rate of "
                f"{self.dropout_rate}. Set DROPOUT to 'broadcast' or ATTENTION_HEADS to None."
            )

    def _check_hypergrid(self, side: str) -> None:
        owner = f"TransformerConfig.{side}_hypergrid"
        grid = getattr(self, f"{side}_hypergrid")
        if grid is None:
            return
        if not isinstance(grid, HyperGridConfig):
            raise TypeError(
                f"{owner} must be a HyperGridConfig or None; got {grid!r}. In gin bind it with @, "
                f"for example @{side}/config.HyperGridConfig()."
            )
        if grid.condition_read not in (None, *CONDITIONS_OF_SIDE[side]):
            raise ValueError(
                f"{owner}.condition must be one of {CONDITIONS_OF_SIDE[side]}; got "
                f"{grid.condition!r}, of which there is none before the {side}'s last layer. "
                "'prefix_mean' with a prefix_len as long as the inputs reads the mean of a layer's "
                "own states."
            )
        dims = {"wi": ("emb_dim", "mlp_dim"), "wo": ("mlp_dim", "emb_dim")}
        for kernel in GATED_KERNELS[grid.kernels]:
            for axis, dim in zip(("rows", "cols"), dims[kernel], strict=True):
                blocks, size = getattr(grid, axis), getattr(self, dim)
                if size % blocks:
                    near = max(n for n in range(1, min(blocks, size + 1)) if size % n == 0)
                    raise ValueError(
                        f"{owner}.{axis} must divide {dim}, a side of the kernel {kernel}; got "
                        f"{axis}={blocks} and {dim}={size}. Use {near}, or another divisor."
                    )

    @property
    def _task_readers(self) -> list[AdapterConfig | HyperGridConfig]:
        """Those that learn something for each task."""
        adapters = (self.encoder_adapter, self.decoder_adapter)
        grids = (self.encoder_hypergrid, self.decoder_hypergrid)
        return [
            *(x for x in adapters if source_registry.traits_of(x.source).reads_tasks),
            *(grid for grid in grids if grid and grid.condition_read == "task_embedding"),
        ]

    @property
    def reads_tasks(self) -> bool:
        """Whether a source, or a grid of gates, needs `num_tasks`."""
        return bool(self._task_readers)

    @property
    def accepts_unseen_tasks(self) -> bool:
        """Whether a task that was not trained on can be evaluated."""
        return all(reader.unseen_tasks == "mean" for reader in self._task_readers)

    @property
    def compute_dtype(self) -> np.dtype:
        """The type of activations."""
        return np.dtype(self.dtype)  # numpy knows bfloat16 once JAX is imported.


def without_adaptation(config: TransformerConfig) -> TransformerConfig:
    """The backbone: the same T5 without adapters and gates."""
    adapters = dict.fromkeys(("encoder_adapter", "decoder_adapter"), AdapterConfig())
    grids = dict.fromkeys(("encoder_hypergrid", "decoder_hypergrid"))
    return dataclasses.replace(config, **adapters, **grids)


_HYPERNETWORKS = {config.__name__: config for config in typing.get_args(AnyHypernetworkConfig)}
# Fields of an `AdapterConfig` that files call by a former name.
_SAVED_NAMES = {"sites": "targets"}


def to_dict(config: TransformerConfig) -> dict[str, Any]:
    """Nested plain values, as JSON holds them; a hypernetwork's class is its field `type`."""
    fields = dataclasses.asdict(config)
    del fields["compute"]
    for side in ("encoder_adapter", "decoder_adapter"):
        network = getattr(config, side).hypernetwork
        fields[side]["hypernetwork"]["type"] = type(network).__name__
        # Files keep the former name of `sites`, at its position: older versions read them.
        fields[side] = {_SAVED_NAMES.get(name, name): x for name, x in fields[side].items()}
        if fields[side]["options"] is None:  # So that files of the package's sources stay the same.
            del fields[side]["options"]
    return fields


def from_dict(fields: Mapping[str, Any]) -> TransformerConfig:
    """The inverse of `to_dict`: defaults for missing fields, ValueError for unknown ones."""
    fields = dict(fields)
    for side in ("encoder_adapter", "decoder_adapter"):
        if side in fields:
            adapter = dict(fields[side])
            if "hypernetwork" in adapter:
                network = dict(adapter["hypernetwork"])
                name = network.pop("type", HypernetworkConfig.__name__)
                _check_choice(f"{side}.hypernetwork.type", name, tuple(_HYPERNETWORKS))
                adapter["hypernetwork"] = source_registry.make(_HYPERNETWORKS[name], network)
            if "lora" in adapter:
                adapter["lora"] = source_registry.make(LoraConfig, adapter["lora"])
            if adapter.get("options") is not None:
                adapter["options"] = source_registry.options_from_dict(
                    adapter["source"], adapter["options"]
                )
            for name, saved in _SAVED_NAMES.items():
                if saved in adapter and name not in adapter:
                    adapter[name] = adapter.pop(saved)
            fields[side] = source_registry.make(AdapterConfig, adapter)
    for side in ("encoder_hypergrid", "decoder_hypergrid"):
        if fields.get(side) is not None:
            fields[side] = source_registry.make(HyperGridConfig, fields[side])
    return source_registry.make(TransformerConfig, fields)
