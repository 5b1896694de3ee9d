"""The types that stages exchange, and a glossary of axes.

Data pipelines make a `Batch`; the encoder and the hypernetwork make a `DecoderContext`, with the
`AdapterParams` and `GridGates` that adapt the decoder; decoder and searches read it.

Axes, in their order in a shape:

| word             | counts                                                              |
|------------------|---------------------------------------------------------------------|
| layers           | blocks of one stack (encoder or decoder)                            |
| batch            | examples, or rows that hold several (packed)                        |
| segments         | examples of one packed row, at most                                 |
| beams            | hypotheses or samples of one example                                |
| enc_len, dec_len | tokens of an input, of a target; `length`: of either                |
| heads            | attention heads                                                     |
| emb              | features of the residual stream                                     |
| head_dim         | features of one attention head                                      |
| mlp              | hidden features of a feed-forward block                             |
| bottleneck       | hidden features of an adapter, or of the hypernetwork               |
| cond             | features of a condition, what a hypernetwork reads                  |
| vocab            | entries of the embedding table                                      |
| tasks            | tasks of the configured, ordered list                               |
| rank             | features between the kernels of a low-rank change                   |
| rows, cols       | blocks of a weight matrix that one gate scales: fan-in, fan-out     |

Masks are boolean, True = real. Token 0 is padding and starts the decoder; token 1 ends a text.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import flax.struct
from jaxtyping import Array, Bool, Float, Int

PAD_ID = 0
EOS_ID = 1
DECODER_START_ID = PAD_ID
# In `task_ids`: a task that is not in the ordered list.
UNSEEN_TASK_ID = -1
# Most tokens of an input or a target. Attention takes the square: more is a mistyped number.
MAX_LEN = 65_536

# Texts of a task, each with a length.
FEATURES = ("inputs", "targets")

PyTree = Any
# Nested dictionaries of arrays, keyed as in T5X: params["encoder"]["layers_0"]["mlp"]["wo"].
Params = Mapping[str, Any]
# Task -> metric -> value of an evaluation.
Metrics = Mapping[str, Mapping[str, float]]
# Takes a step and its numbers, keyed such as "train/loss" and "eval/TASK/METRIC".
WriteMetrics = Callable[[int, Mapping[str, float]], None]


@flax.struct.dataclass
class Batch:
    """Examples as the model reads them; one batch may hold many tasks.

    The last four fields, in SeqIO's and T5X's names, are those of packed rows, whose segments are
    examples: the number of each token's segment, counted from 1 along the row (0: padding), and its
    position within it. Then `task_ids` are `[batch, segments]`, any task where a row has no more.
    """

    encoder_input_tokens: Int[Array, "batch enc_len"]
    decoder_input_tokens: Int[Array, "batch dec_len"]
    decoder_target_tokens: Int[Array, "batch dec_len"]
    decoder_loss_weights: Float[Array, "batch dec_len"] | Int[Array, "batch dec_len"]
    task_ids: Int[Array, "*batch"]
    encoder_segment_ids: Int[Array, "batch enc_len"] | None = None
    encoder_positions: Int[Array, "batch enc_len"] | None = None
    decoder_segment_ids: Int[Array, "batch dec_len"] | None = None
    decoder_positions: Int[Array, "batch dec_len"] | None = None

    def features(self) -> dict[str, Array]:
        """The arrays by name, as T5X passes them; those of packed rows if it is packed."""
        return {name: value for name, value in vars(self).items() if value is not None}

    @property
    def is_packed(self) -> bool:
        """Whether a row holds several examples."""
        return self.encoder_segment_ids is not None

    @property
    def encoder_segments(self) -> Segments | None:
        """The segments of the inputs; None for a batch that is not packed."""
        return self._segments(self.encoder_segment_ids, self.encoder_positions)

    @property
    def decoder_segments(self) -> Segments | None:
        """The segments of the targets; None for a batch that is not packed."""
        return self._segments(self.decoder_segment_ids, self.decoder_positions)

    def _segments(self, ids: Array | None, positions: Array | None) -> Segments | None:
        return None if ids is None else Segments(ids, positions, self.task_ids.shape[1])


@flax.struct.dataclass
class Segments:
    """Which example of its packed row each token belongs to; see `Batch`."""

    ids: Int[Array, "batch length"]
    positions: Int[Array, "batch length"]
    count: int = flax.struct.field(pytree_node=False)  # most of a row


@flax.struct.dataclass
class AdapterParams:
    """Parameters of bottleneck adapters beside a feed-forward block.

    Leading axes, here and in the two classes below: `[layers, ...]` when examples share them, else
    `[layers, batch, ...]`; without `layers` within a layer. Of packed rows, `batch` counts the
    segments of all rows, row by row.
    """

    down_kernel: Float[Array, "*lead emb bottleneck"]
    down_bias: Float[Array, "*lead bottleneck"]
    up_kernel: Float[Array, "*lead bottleneck emb"]
    up_bias: Float[Array, "*lead emb"]


@flax.struct.dataclass
class SerialAdapterParams:
    """Parameters of bottleneck adapters behind a sub-layer, which norm what they add."""

    down_kernel: Float[Array, "*lead emb bottleneck"]
    down_bias: Float[Array, "*lead bottleneck"]
    up_kernel: Float[Array, "*lead bottleneck emb"]
    up_bias: Float[Array, "*lead emb"]
    norm_scale: Float[Array, "*lead emb"]
    norm_bias: Float[Array, "*lead emb"]


@flax.struct.dataclass
class LoraParams:
    """Low-rank changes of attention projections."""

    down_kernel: Float[Array, "*lead fan_in rank"]
    up_kernel: Float[Array, "*lead rank fan_out"]


@flax.struct.dataclass
class PackedAdapters:
    """The adapters of a packed row's segments, and the tokens that each is for."""

    params: AdapterParams | SerialAdapterParams | LoraParams  # [batch, segments, ...]
    members: Bool[Array, "batch segments length"]


# Of a layer, or with a leading axis `layers` of a stack, by the name of the site.
Adapters = Mapping[str, AdapterParams | SerialAdapterParams | LoraParams | PackedAdapters]


@flax.struct.dataclass
class GridGates:
    """HyperGrid's gates of feed-forward kernels, an example's own or `[rows, cols]`; None: none.

    Where they are applied in packed rows, they are a token's own: `[batch, length, rows, cols]`.
    """

    wi: Float[Array, "*lead rows cols"] | None = None
    wo: Float[Array, "*lead rows cols"] | None = None
    groups: Int[Array, "batch"] | None = None  # equal numbers share gates; None: not known


@flax.struct.dataclass
class LayerContext:
    """The constants of one decoder layer; see `DecoderContext`."""

    cross_keys: Float[Array, "batch enc_len heads head_dim"]
    cross_values: Float[Array, "batch enc_len heads head_dim"]
    adapters: Adapters
    gates: GridGates


@flax.struct.dataclass
class DecoderContext:
    """All that the decoder reads besides tokens: constants of its loop, shared by beams."""

    layers: tuple[LayerContext, ...]
    encoder_mask: Bool[Array, "batch enc_len"]
    encoder_segments: Segments | None = None  # of packed rows
