"""Compares this package with stored numbers of the original, or prints how far they differ.

    python -m tests.parity.check FILE.npz …

A file holds a configuration, weights, a batch, and what the original computed from them
(tests/goldens/README.md). Exits with 1 if anything differs by more than its tolerance. Some models
amplify rounding: where a deviation is no more than a few times what changing every weight by its
last bit does, the line says so; a mistake is larger by orders of magnitude. What a file lacks is
told at the end, and the rest is compared.
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
from hyperdecoders_jax.modeling import config
from hyperdecoders_jax.types import Batch
from hyperdecoders_jax.weights import arrays, names, original_folder

# float32 rounding of a two-layer model, in units of the outputs (logits are of order 1 to 10).
OUTPUT_ATOL = 1e-5
LOSS_ATOL = 1e-6
# Relative to the largest entry of each gradient.
GRADIENT_RTOL = 1e-5
# In units of what one rounding of the weights changes. Both implementations round after every
# operation; over models of all 25 pairs of modes, up to six layers deep, the largest ratio of a
# deviation beyond the tolerances above was 2.9. (In float64 they agree to 5e-13.)
NUM_ROUNDINGS = 10
NUM_PERTURBATIONS = 3
# What is compared, and where it is stored.
OUTPUTS = {
    "encoder output": "out.encoder_last_hidden_state",
    "logits": "out.logits",
    "loss": "out.loss",
}
TEXTS = {"out.greedy": GreedyConfig(), "out.beam4": BeamSearchConfig(num_beams=4)}


@dataclasses.dataclass(frozen=True)
class Deviation:
    """One compared quantity: how far off it is, how far off it may be, and what rounding does."""

    name: str
    value: float
    tolerance: float
    rounding: float = 0.0

    @property
    def is_within(self) -> bool:
        """Whether it passes; NaN does not."""
        return self.value <= self.tolerance

    @property
    def verdict(self) -> str:
        """In a word, and whether rounding explains it."""
        if self.is_within:
            return "ok"
        is_rounding = self.value <= NUM_ROUNDINGS * self.rounding
        return "BEYOND TOLERANCE" + f" (rounding does {self.rounding:.0e})" * is_rounding


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
        num_decoder_layers=meta.get("num_decoder_layers") or meta["num_layers"],
        mlp_activations=("gelu", "linear") if is_gated else (meta["feed_forward_proj"],),
        logits_via_embedding=meta["tie_word_embeddings"],
        dropout_rate=meta["dropout_rate"],
        relpos_buckets=meta["relative_attention_num_buckets"],
        encoder_adapter=adapter("encoder"),
        decoder_adapter=adapter("decoder"),
        num_tasks=len(meta["tasks"]) or None,
    )


def params_from_state(state: dict, model_config: config.TransformerConfig):
    """Our parameters from the original's state, or our gradients from its gradients."""
    stored = original_folder.to_ours(arrays.in_memory(state), model_config).arrays
    return names.unflatten({path: jnp.asarray(array.read()) for path, array in stored.items()})


def _task_ids(tasks: list[str], meta: dict) -> list[int]:
    """The numbers of tasks; 0 where the model has no list of them."""
    return [meta["tasks"].index(task) if meta["tasks"] else 0 for task in tasks]


def batch_from_golden(golden, meta: dict) -> Batch:
    """The stored batch; ignored labels (-100) become padding of weight 0."""
    labels = golden["in.labels"]
    weights = (labels != -100).astype(np.float32)
    targets = np.where(labels == -100, 0, labels)
    inputs = np.where(golden["in.attention_mask"] == 1, golden["in.input_ids"], 0)
    task_ids = _task_ids(meta["example_tasks"], meta)
    return Batch(
        encoder_input_tokens=jnp.asarray(inputs, jnp.int32),
        decoder_input_tokens=jnp.asarray(np.pad(targets, ((0, 0), (1, 0)))[:, :-1], jnp.int32),
        decoder_target_tokens=jnp.asarray(targets, jnp.int32),
        decoder_loss_weights=jnp.asarray(weights),
        task_ids=jnp.asarray(task_ids, jnp.int32),
    )


def _differences(ours, theirs) -> dict[str, float]:
    """The largest difference of each of `theirs`; of gradients, relative to their largest entry."""
    found = {}
    for name, theirs_of_name in theirs.items():
        x, y = ours[name], np.asarray(theirs_of_name, np.float64)
        largest = float(np.max(np.abs(np.asarray(x, np.float64) - y)))
        is_gradient = name.startswith("gradient")
        found[name] = largest / max(np.max(np.abs(y)), 1e-30) if is_gradient else largest
    return found


def _make_compute(golden_model: model.Model, batch: Batch):
    """A function of parameters: the quantities that are compared, by name."""
    is_real = np.asarray(batch.encoder_input_tokens) != 0

    @jax.jit
    def compute(params):
        encoded = golden_model.module.apply(
            {"params": params}, batch.encoder_input_tokens, batch.task_ids, method="encode"
        )
        logits = golden_model.logits(params, batch)
        (loss, _), gradients = jax.value_and_grad(golden_model.loss, has_aux=True)(params, batch)
        return encoded, logits, loss, gradients

    def quantities(params):
        encoded, logits, loss, gradients = compute(params)
        found = {"encoder output": encoded[is_real], "logits": logits, "loss": loss}
        flat = sorted(names.flatten(gradients).items())
        return found | {f"gradient of {name}": gradient for name, gradient in flat}

    return quantities


def _perturb(params, seed: int):
    """Changes every weight by at most its last bit."""
    rng = np.random.default_rng(seed)

    def change(x):
        factor = 1 + np.finfo(np.float32).eps * rng.uniform(-1, 1, x.shape)
        return jnp.asarray(np.asarray(x, np.float64) * factor, jnp.float32)

    return jax.tree.map(change, params)


def compare(path: str | pathlib.Path) -> tuple[list[Deviation], list[str]]:
    """All deviations of one stored model, and what its file lacks to compare more.

    Raises:
        KeyError, ValueError: it lacks the configuration, weights or the batch.
    """
    golden = np.load(path)
    meta = json.loads(bytes(golden["meta"]))
    model_config = config_from_meta(meta)
    batch = batch_from_golden(golden, meta)

    def part(prefix):
        return {k.removeprefix(prefix): golden[k] for k in golden.files if k.startswith(prefix)}

    params = params_from_state(part("w."), model_config)
    # The original's loss is the mean over real labels.
    golden_model = model.Model(model_config, losses.LossConfig(reduction="mean"))
    is_real = np.asarray(batch.encoder_input_tokens) != 0
    lacking = [key for key in (*OUTPUTS.values(), *TEXTS) if key not in golden]
    theirs = {name: golden[key] for name, key in OUTPUTS.items() if key in golden}
    if "encoder output" in theirs:
        theirs["encoder output"] = theirs["encoder output"][is_real]
    try:
        gradients = names.flatten(params_from_state(part("g."), model_config))
        theirs |= {f"gradient of {name}": gradient for name, gradient in gradients.items()}
    except ValueError as error:
        lacking.append(f"g.* ({error})")
    tolerances = {"loss": LOSS_ATOL, "encoder output": OUTPUT_ATOL, "logits": OUTPUT_ATOL}
    with jax.default_matmul_precision("highest"):
        quantities = _make_compute(golden_model, batch)
        ours = quantities(params)
        values = _differences(ours, theirs)
        perturbed = [
            _differences(quantities(_perturb(params, seed)), ours)
            for seed in range(NUM_PERTURBATIONS)
        ]
        deviations = [
            Deviation(
                name,
                value,
                tolerances.get(name, GRADIENT_RTOL),
                max(changes[name] for changes in perturbed),
            )
            for name, value in values.items()
        ]
        deviations += _compare_texts(golden, meta, golden_model, params, batch)
    return deviations, lacking


def _compare_texts(golden, meta, golden_model, params, batch) -> list[Deviation]:
    generate_id = _task_ids([meta["generate_task"]], meta)[0]
    batch = batch.replace(task_ids=jnp.full_like(batch.task_ids, generate_id))
    deviations = []
    for key, method in TEXTS.items():
        if key not in golden:
            continue
        stored = golden[key]
        decoder = dataclasses.replace(golden_model, decoding=method)
        # Stored tokens begin with the start token.
        predict = jax.jit(lambda p, b, decoder=decoder: decoder.predict(p, b, max_len=7).tokens)
        tokens = np.asarray(predict(params, batch))[:, 0, : stored.shape[1] - 1]
        differing = int(np.sum(tokens != stored[:, 1:]))
        name = f"{key.removeprefix('out.')} tokens that differ"
        deviations.append(Deviation(name, differing, 0))
    return deviations


def main(paths: list[str]) -> int:
    """Prints every deviation; 1 if one is beyond its tolerance, or something was not stored."""
    if not paths:
        print(__doc__)
        return 2
    failures, lacks = 0, []
    for path in paths:
        print(path)
        try:
            deviations, lacking = compare(path)
        except (KeyError, ValueError) as error:
            deviations, lacking = [], [str(error.args[0])]
        lacks += [f"{path} lacks {lack}" for lack in lacking]
        for deviation in deviations:
            print(
                f"  {deviation.name:<64} {deviation.value:10.3e}  "
                f"(<= {deviation.tolerance:.0e})  {deviation.verdict}"
            )
            failures += not deviation.is_within
        jax.clear_caches()  # No two files share a compiled function.
    for lack in lacks:
        print(f"NOT COMPARED: {lack}")
    print(f"{failures} beyond tolerance" if failures else "all within tolerance")
    return 1 if failures or lacks else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
