"""Compares this package with stored numbers of the original, or prints how far they differ.

    python -m tests.parity.check FILE.npz …

A file holds a configuration, weights, a batch, and what the original computed from them
(tests/goldens/README.md). Exits with 1 if anything differs by more than its tolerance.
"""

from __future__ import annotations

import dataclasses
import json
import pathlib
import sys

import jax
import jax.numpy as jnp
import numpy as np

from hyperdecoders_jax import losses, model
from hyperdecoders_jax.decoding.beam_search import BeamSearchConfig
from hyperdecoders_jax.decoding.sampling import GreedyConfig
from hyperdecoders_jax.interop import names, original
from hyperdecoders_jax.modeling import config
from hyperdecoders_jax.types import Batch

# float32 rounding of a two-layer model, in units of the outputs (logits are of order 1 to 10).
OUTPUT_ATOL = 1e-5
LOSS_ATOL = 1e-6
# Relative to the largest entry of each gradient.
GRADIENT_RTOL = 1e-5


@dataclasses.dataclass(frozen=True)
class Deviation:
    """One compared quantity: how far off it is, and how far off it may be."""

    name: str
    value: float
    tolerance: float

    @property
    def is_within(self) -> bool:
        """Whether it passes; NaN does not."""
        return self.value <= self.tolerance


def config_from_meta(meta: dict) -> config.TransformerConfig:
    """Our configuration from the original's names."""

    def adapter(side):
        return config.AdapterConfig(
            source=meta[f"{side}_adapter"],
            bottleneck_dim=meta[f"{side}_adapter_dim"],
            norm_input=meta["adapter_norm_input"],
            hypernetwork=config.HypernetworkConfig(
                bottleneck_dim=meta["hypernetwork_bottleneck"],
                pooled_mlp=meta["process_encoder_output"],
            ),
        )

    is_gated = meta["feed_forward_proj"].startswith("gated-")
    return config.TransformerConfig(
        vocab_size=meta["vocab_size"],
        emb_dim=meta["d_model"],
        num_heads=meta["num_heads"],
        head_dim=meta["d_kv"],
        mlp_dim=meta["d_ff"],
        num_encoder_layers=meta["num_layers"],
        num_decoder_layers=meta.get("num_decoder_layers", meta["num_layers"]),
        mlp_activations=("gelu", "linear") if is_gated else (meta["feed_forward_proj"],),
        logits_via_embedding=meta["tie_word_embeddings"],
        dropout_rate=meta["dropout_rate"],
        relpos_buckets=meta["relative_attention_num_buckets"],
        encoder_adapter=adapter("encoder"),
        decoder_adapter=adapter("decoder"),
        num_tasks=len(meta["tasks"]),
    )


def batch_from_golden(golden, meta: dict) -> Batch:
    """The stored batch; ignored labels (-100) become padding of weight 0."""
    labels = golden["in.labels"]
    weights = (labels != -100).astype(np.float32)
    targets = np.where(labels == -100, 0, labels)
    inputs = np.where(golden["in.attention_mask"] == 1, golden["in.input_ids"], 0)
    task_ids = [meta["tasks"].index(task) for task in meta["example_tasks"]]
    return Batch(
        encoder_input_tokens=jnp.asarray(inputs, jnp.int32),
        decoder_input_tokens=jnp.asarray(np.pad(targets, ((0, 0), (1, 0)))[:, :-1], jnp.int32),
        decoder_target_tokens=jnp.asarray(targets, jnp.int32),
        decoder_loss_weights=jnp.asarray(weights),
        task_ids=jnp.asarray(task_ids, jnp.int32),
    )


def _largest_difference(ours, theirs) -> float:
    return float(np.max(np.abs(np.asarray(ours, np.float64) - np.asarray(theirs, np.float64))))


def compare(path: str | pathlib.Path) -> list[Deviation]:
    """All deviations of one stored model."""
    golden = np.load(path)
    meta = json.loads(bytes(golden["meta"]))
    model_config = config_from_meta(meta)
    batch = batch_from_golden(golden, meta)

    def part(prefix):
        return {k.removeprefix(prefix): golden[k] for k in golden.files if k.startswith(prefix)}

    params = jax.tree.map(jnp.asarray, original.from_state(part("w."), model_config))
    # The original's loss is the mean over real labels.
    golden_model = model.Model(model_config, losses.LossConfig(reduction="mean"))
    with jax.default_matmul_precision("highest"):
        encoded = golden_model.module.apply(
            {"params": params}, batch.encoder_input_tokens, batch.task_ids, method="encode"
        )
        logits = golden_model.logits(params, batch)
        (loss, _), gradients = jax.value_and_grad(golden_model.loss, has_aux=True)(params, batch)
        is_real = np.asarray(batch.encoder_input_tokens) != 0
        deviations = [
            Deviation(
                "encoder output",
                _largest_difference(
                    encoded[is_real], golden["out.encoder_last_hidden_state"][is_real]
                ),
                OUTPUT_ATOL,
            ),
            Deviation("logits", _largest_difference(logits, golden["out.logits"]), OUTPUT_ATOL),
            Deviation("loss", _largest_difference(loss, golden["out.loss"]), LOSS_ATOL),
        ]
        theirs = names.flatten(original.from_state(part("g."), model_config))
        for name, gradient in sorted(names.flatten(gradients).items()):
            scale = np.max(np.abs(theirs[name]))
            off = _largest_difference(gradient, theirs[name]) / max(scale, 1e-30)
            deviations.append(Deviation(f"gradient of {name}", off, GRADIENT_RTOL))

        generate_id = meta["tasks"].index(meta["generate_task"])
        batch = batch.replace(task_ids=jnp.full_like(batch.task_ids, generate_id))
        for key, method in (
            ("greedy", GreedyConfig()),
            ("beam4", BeamSearchConfig(num_beams=4)),
        ):
            stored = golden[f"out.{key}"]
            decoder = dataclasses.replace(golden_model, decoding=method)
            # Stored tokens begin with the start token.
            tokens = decoder.predict(params, batch, max_len=7).tokens[:, 0]
            tokens = np.asarray(tokens)[:, : stored.shape[1] - 1]
            differing = int(np.sum(tokens != stored[:, 1:]))
            deviations.append(Deviation(f"{key} tokens that differ", differing, 0))
    return deviations


def main(paths: list[str]) -> int:
    """Prints every deviation; 1 if one is beyond its tolerance."""
    if not paths:
        print(__doc__)
        return 2
    failures = 0
    for path in paths:
        print(path)
        for deviation in compare(path):
            verdict = "ok" if deviation.is_within else "BEYOND TOLERANCE"
            print(
                f"  {deviation.name:<64} {deviation.value:10.3e}  "
                f"(<= {deviation.tolerance:.0e})  {verdict}"
            )
            failures += not deviation.is_within
    print(f"{failures} beyond tolerance" if failures else "all within tolerance")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
