"""The demo's inflections, a task for each form, so that results are told by form.

No word of one split is in another: a form is tested on words that were in no form in training.
`--module=inflection_kinds` in this folder registers the mixture `inflection_kinds`.
"""

from hyperdecoders_jax.tasks import demo, metrics, postprocessors
from hyperdecoders_jax.tasks.preprocessors import TOKENIZE
from hyperdecoders_jax.tasks.registration import add_mixture, add_task
from hyperdecoders_jax.tasks.sources import JsonLinesDataSource

FORMS = ("plural", "third person", "past", "participle", "ing", "comparative", "superlative")


def add_form(form: str) -> str:
    """Registers the task of one form, and returns its name."""

    def keep(dataset):
        return dataset.filter(lambda example: example["form"] == form)

    name = "inflect_" + form.replace(" ", "_")
    files = {
        split: demo.FOLDER / "inflect" / f"{split}.jsonl.gz"
        for split in ("train", "validation", "test")
    }
    add_task(
        name,
        source=JsonLinesDataSource(files),
        preprocessors=[keep, demo.render_inflect, *TOKENIZE],
        postprocess_fn=postprocessors.to_text,
        metric_fns=[metrics.accuracy],
    )
    return name


add_mixture("inflection_kinds", [add_form(form) for form in FORMS], default_rate=1.0)
