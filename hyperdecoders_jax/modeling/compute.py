"""How a model is computed: speed and memory on an accelerator, none of its parameters.

No file of a trained model holds these choices: they are a run's, and may change when it is
continued. (`DTYPE`, which files hold, is a field of the model.) Measured for TPUs in docs/tpu.md.
"""

from __future__ import annotations

import dataclasses

from hyperdecoders_jax import errors

DROPOUTS = ("positions", "broadcast", "hardware")
REMATS = ("none", "attention", "dots", "layer")


@dataclasses.dataclass(frozen=True)
class ComputeConfig:
    """The choices of a run that the chip decides; the defaults are the original's numbers.

    Attributes:
        dropout: `positions`: each feature of each token is dropped on its own, with JAX's default
            random bits, as in the original. `broadcast`: T5X's, with one mask for all tokens of a
            row, packed examples' too; attention drops a key for all queries. `hardware`: as
            `positions`, with bits of the chip's generator; the noise depends on the chip and on the
            mesh.
        attention_heads: heads whose attention is computed at a time, a divisor of the model's and a
            multiple of MODEL_PARALLEL; None: all at once. Attention's weights then stay in the
            chip's fast memory and are computed again for the backward pass.
        remat: what the backward pass computes again instead of keeping it: `none`; `attention`: the
            weights of attention; `dots`: all but products with parameters; `layer`: all of a layer,
            of which only the input is kept.
        logits_chunk: target positions whose logits exist at a time in our own runner's loss; None:
            all of `[batch, dec_len, vocab]`, in float32.
        scan_layers: whether a loop runs the layers of a stack, so that compiling takes as long as
            for one. For `remat` of `layer` or `dots`: without, it costs memory and time.
    """

    dropout: str = "positions"
    attention_heads: int | None = None
    remat: str = "none"
    logits_chunk: int | None = None
    scan_layers: bool = False

    def __post_init__(self):
        is_known = self.dropout in DROPOUTS
        advice = "Set DROPOUT; 'broadcast' is the fastest on a TPU."
        errors.check_field(self, "dropout", is_known, f"be one of {DROPOUTS}", advice)
        advice = "Set REMAT; 'layer' keeps the least."
        errors.check_field(self, "remat", self.remat in REMATS, f"be one of {REMATS}", advice)
        errors.check_bools(self)
        for field in ("attention_heads", "logits_chunk"):
            if getattr(self, field) is not None:
                advice = f"Set {field.upper()} to one, or to None for all at once."
                errors.check_whole(self, field, 1, advice=advice)
