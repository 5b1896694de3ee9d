"""Model card (README.md) of an exported model for the Hugging Face hub.

The head is YAML that the hub reads, the rest is for people. Unknown facts, such as the licence, are
not invented. Source: huggingface.co/docs/hub/model-cards.
"""

from __future__ import annotations

import dataclasses
import json
import statistics
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from hyperdecoders_jax.modeling.config import HyperFormerConfig, TransformerConfig
from hyperdecoders_jax.weights import exported_folder, hugging_face
from hyperdecoders_jax.weights.trained_model import Description

FILE = "README.md"

_FEWEST_SCORES = 10  # Of an interval.
_SOURCES = {
    "manual": "adapters that all examples share",
    "manual_specific": "adapters of each task",
    "task": "adapters that a hypernetwork writes from a learned embedding of the task",
    "generated": "adapters that a hypernetwork writes for each example, from its encoded text",
}
_CONDITIONS = {
    None: "are the same for all examples",
    "first_state": "depend on each example, by its first state",
    "prefix_mean": "depend on each example, by the mean of its first states",
    "pooled": "depend on each example, by the mean of its encoded text",
    "task_embedding": "depend on the task, by a learned embedding",
}
_CITATIONS = {
    "T5": """\
@article{raffel2020t5,
  title = {Exploring the Limits of Transfer Learning with a Unified Text-to-Text Transformer},
  author = {Colin Raffel and Noam Shazeer and Adam Roberts and Katherine Lee and Sharan Narang and
            Michael Matena and Yanqi Zhou and Wei Li and Peter J. Liu},
  journal = {Journal of Machine Learning Research},
  volume = {21}, number = {140}, pages = {1--67}, year = {2020}
}""",
    "Hyperdecoders": """\
@inproceedings{ivison2022hyperdecoders,
  title = {Hyperdecoders: Instance-specific decoders for multi-task {NLP}},
  author = {Hamish Ivison and Matthew E. Peters}, year = {2022}, note = {arXiv:2203.08304},
  booktitle = {Findings of the Association for Computational Linguistics: EMNLP 2022}
}""",
    "HyperFormer": """\
@inproceedings{mahabadi2021hyperformer,
  title = {Parameter-efficient Multi-task Fine-tuning for Transformers via Shared Hypernetworks},
  author = {Rabeeh Karimi Mahabadi and Sebastian Ruder and Mostafa Dehghani and James Henderson},
  booktitle = {Proceedings of ACL-IJCNLP 2021}, year = {2021}, note = {arXiv:2106.04489}
}""",
    "HyperGrid": """\
@inproceedings{tay2021hypergrid,
  title = {HyperGrid Transformers: Towards A Single Model for Multiple Tasks},
  author = {Yi Tay and Zhe Zhao and Dara Bahri and Donald Metzler and Da-Cheng Juan}, year = {2021},
  booktitle = {International Conference on Learning Representations}, note = {arXiv:2007.05891}
}""",
}


@dataclasses.dataclass(frozen=True)
class Export:
    """Facts about an exported model; None where one is unknown."""

    name: str  # Of its folder.
    description: Description  # Of the model in the folder.
    formats: Collection[str]  # Of its weights.
    trained: TransformerConfig  # Before gates were folded.
    num_parameters: int
    with_code: bool = False  # Whether the folder has the model's PyTorch code.
    folded_task: str | None = None  # Whose gates were folded, if they depended on the task.
    num_frozen: int | None = None  # The backbone's unchanged parameters.
    backbone: str | None = None  # Path or hub id of the T5 that training began with.
    mixture: str | None = None
    # By task and metric, at the exported step.
    metrics: Mapping[str, Mapping[str, float]] = dataclasses.field(default_factory=dict)
    # Of a comparison: its split; by task and metric, scores of examples, whose mean is the metric.
    scored_split: str | None = None
    scores: Mapping[str, Mapping[str, Sequence[float]]] = dataclasses.field(default_factory=dict)
    # Task, input and prediction of an evaluation at the exported step.
    example: tuple[str, str, str] | None = None


def render(export: Export) -> str:
    """The text of README.md."""
    citations = "\n\n".join(_CITATIONS[name] for name in _papers(export.trained))
    frozen = ""
    if export.num_frozen is not None:
        frozen = f"; {export.num_frozen:,} of them are those of the T5 that was adapted, unchanged"
    sections = {
        "Method": _method(export),
        "Use": _use(export),
        "Data": _data(export),
        "Results": _results(export),
        "Parameters": f"{export.num_parameters:,} in all{frozen}.",
        "Licence": "None was chosen yet: choose one, and name it in the head of this file. The "
        "licences of the T5 that training began with, and of the data, bind whoever chooses.",
        "Citation": f"```bibtex\n{citations}\n```",
    }
    body = "\n\n".join(f"## {title}\n\n{text}" for title, text in sections.items() if text)
    return f"{_head(export)}\n# {export.name}\n\n{body}\n"


def _head(export: Export) -> str:
    fields = {
        "library_name": "transformers" if _is_plain(export) else "hyperdecoders_jax",
        "pipeline_tag": "text2text-generation",
        "license": "unknown",
        "tags": ["t5", *(name.lower() for name in _papers(export.trained) if name != "T5")],
    }
    if hugging_face.HUB_ID.fullmatch(export.backbone or ""):
        fields["base_model"] = export.backbone
    if export.metrics:
        fields["metrics"] = sorted({name for row in export.metrics.values() for name in row})
    # JSON is YAML, and quotes what YAML would read as something else.
    lines = [f"{name}: {json.dumps(value)}" for name, value in fields.items()]
    return "\n".join(["---", *lines, "---", ""])


def _is_plain(export: Export) -> bool:
    return exported_folder.is_plain(export.description.model)


def _papers(config: TransformerConfig) -> list[str]:
    adapters, grids = _of_sides(config, "adapter"), _of_sides(config, "hypergrid")
    of_hypernetworks = (x for x in adapters.values() if x.source in ("task", "generated"))
    is_hyperformer = any(isinstance(x.hypernetwork, HyperFormerConfig) for x in of_hypernetworks)
    # In order of the citations; T5's comes last and always.
    known = {"Hyperdecoders": adapters, "HyperFormer": is_hyperformer, "HyperGrid": grids}
    return [*(name for name, is_used in known.items() if is_used), "T5"]


def _of_sides(config: TransformerConfig, kind: str) -> dict[str, Any]:
    """The "adapter" or "hypergrid" configurations of the stacks that have one."""
    found = {side: getattr(config, f"{side}_{kind}") for side in ("encoder", "decoder")}
    return {side: x for side, x in found.items() if x and getattr(x, "source", None) != "none"}


def _method(export: Export) -> str:
    config = export.trained
    sentences = [
        f"A T5 of {config.num_encoder_layers} encoder layers and {config.num_decoder_layers} "
        f"decoder layers, {config.emb_dim} features wide, for texts."
    ]
    if export.backbone is not None:
        # The last part only: the rest of a path means nothing on other machines.
        last = export.backbone.rstrip("/").rsplit("/", 1)[-1]
        name = export.backbone if hugging_face.HUB_ID.fullmatch(export.backbone) else last
        sentences.append(f"Training began with `{name}`.")
    for side, adapter in _of_sides(config, "adapter").items():
        default = f"adapters of the source `{adapter.source}`, which its own module registers"
        sentences.append(f"The {side} has {_SOURCES.get(adapter.source, default)}.")
    for side, grid in _of_sides(config, "hypergrid").items():
        sentences.append(
            f"The {side}'s feed-forward kernels are scaled by a grid of {grid.rows} × {grid.cols} "
            f"gates (variant {grid.variant}), which {_CONDITIONS[grid.condition_read]}."
        )
        if not getattr(export.description.model, f"{side}_hypergrid"):
            task = export.folded_task
            of_task = f", as they are for the task `{task}`" if task else ""
            sentences.append(f"Here they are part of the kernels{of_task}.")
    return " ".join(sentences)


def _use(export: Export) -> str:
    name = json.dumps(export.name, ensure_ascii=False)
    task, text, output = (*export.description.task_names, "")[0], "a text", ""
    if export.example is not None:
        task, text, prediction = export.example
        output = f"\n# {[prediction]!r}"
    text = json.dumps(text, ensure_ascii=False)
    # Transformers 5, which has no Flax, loads safetensors alone.
    if _is_plain(export) and "safetensors" in export.formats:
        return f"""\
This is a plain T5, which transformers alone loads:

```python
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

tokenizer, model = (x.from_pretrained({name}) for x in (AutoTokenizer, AutoModelForSeq2SeqLM))
tokens = model.generate(**tokenizer([{text}], return_tensors="pt"))
print(tokenizer.batch_decode(tokens, skip_special_tokens=True)){output}
```"""
    config = export.description.model
    named = f", task={task!r}" if config.reads_tasks else ""
    classes, verb = "`FlaxHyperdecoderForConditionalGeneration`", "loads"
    if "safetensors" in export.formats:  # Flax's class reads them, too.
        classes, verb = f"{classes} and `HyperdecoderForConditionalGeneration` (PyTorch)", "load"
    classes += f" of `hyperdecoders_jax.interop` {verb} it, too."
    if _is_plain(export):
        classes = (
            "This is a plain T5, which `FlaxT5ForConditionalGeneration` of transformers loads, too "
            "(on jax 0.10 after `hyperdecoders_jax.hub.flax_t5.repair()`)."
        )
    if export.with_code:
        classes += f"""

With PyTorch and transformers alone, by the code in this folder, which you should read first:

```python
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained({name}, trust_remote_code=True)
model = AutoModelForSeq2SeqLM.from_pretrained({name}, trust_remote_code=True)
tokens = model.generate(**tokenizer([{text}], return_tensors="pt"){_task_ids(export, task)})
print(tokenizer.batch_decode(tokens, skip_special_tokens=True))
```"""
    return f"""\
```sh
pip install hyperdecoders_jax
```

```python
import hyperdecoders_jax

model = hyperdecoders_jax.load({name})
print(model.predict([{text}]{named})){output}
```

{classes}"""


def _task_ids(export: Export, task: str) -> str:
    """The argument of `generate` that a model with parameters for each task needs."""
    reads_tasks = export.description.model.reads_tasks
    return f", task_ids=[model.config.task_id({task!r})]" if reads_tasks else ""


def _data(export: Export) -> str:
    tasks = ", ".join(f"`{name}`" for name in export.description.task_names)
    lengths = export.description.task_feature_lengths
    mixture = "" if export.mixture is None else f"Trained on `{export.mixture}`. "
    return (
        f"{mixture}{f'Tasks, in their order: {tasks}. ' if tasks else ''}Inputs are cut after "
        f"{lengths['inputs']} tokens, targets after {lengths['targets']}."
    )


def _results(export: Export) -> str:
    step, tables = f"{export.description.step:,}", []
    if export.metrics:
        values = {
            task: {name: f"{value:.2f}" for name, value in row.items()}
            for task, row in export.metrics.items()
        }
        head = f"As the run, of one seed, measured them at step {step}, which is exported here:"
        tables.append(_table(head, "value", values))
    if export.scores:
        values = {
            task: {name: _interval(scores) for name, scores in row.items()}
            for task, row in export.scores.items()
        }
        head = f"On the split `{export.scored_split}`, the same run and step:"
        tables.append(_table(head, "value [95 % interval over examples]", values))
    return "\n\n".join(tables)


def _table(head: str, column: str, values: Mapping[str, Mapping[str, str]]) -> str:
    lines = [head, "", f"| task | metric | {column} |", "|---|---|---|"]
    for task, row in values.items():
        lines += [f"| {task} | {name} | {value} |" for name, value in row.items()]
    return "\n".join(lines)


def _interval(scores: Sequence[float]) -> str:
    """The mean, with its t interval; without one for few or equal scores, where it would be wrong.

    >>> _interval([100.0] * 30 + [0.0] * 10)
    '75.00 [60.98, 89.02]'
    """
    mean, count = statistics.fmean(scores), len(scores)
    deviation = statistics.stdev(scores) if count >= _FEWEST_SCORES else 0.0
    if not deviation:
        return f"{mean:.2f}"
    # Student's quantile from the normal one. Source: Abramowitz & Stegun 26.7.5, two terms.
    z, degrees = statistics.NormalDist().inv_cdf(0.975), count - 1
    t = z + (z**3 + z) / (4 * degrees) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * degrees**2)
    half = t * deviation / count**0.5
    return f"{mean:.2f} [{mean - half:.2f}, {mean + half:.2f}]"
