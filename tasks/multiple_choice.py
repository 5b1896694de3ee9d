"""Multiple choice: Social IQa, Cosmos QA, WinoGrande, HellaSwag and CommonsenseQA.

Inputs are the question, its context and each choice with its name, targets the name of the right
one, as the original writes them: Social IQa's answers are called A to C, but are 1 to 3 as targets.

Test labels are secret: `test` is the official validation split here, and so is `validation`.

Source: allenai/hyperdecoders, `tasks.py`; Sap et al. 2019 (arXiv:1904.09728), Huang et al. 2019
(arXiv:1909.00277), Sakaguchi et al. 2020 (arXiv:1907.10641), Zellers et al. 2019
(arXiv:1905.07830), Talmor et al. 2019 (arXiv:1811.00937).
"""

import seqio
import tensorflow as tf

from hyperdecoders_jax.tasks import metrics, postprocessors, sources
from hyperdecoders_jax.tasks.preprocessors import TOKENIZE, join_fields, with_label
from hyperdecoders_jax.tasks.registration import add_task

SPLITS = {"train": "train", "validation": "validation", "test": "validation"}
WINOGRANDE_SPLITS = {"train": "train_l", "validation": "validation", "test": "validation"}

Example = dict[str, tf.Tensor]


@seqio.map_over_dataset
def render_social_i_qa(example: Example) -> Example:
    """Social IQa: why people do what they do, and what comes of it.

    {"context": "Ann ran to the bus.", "question": "Why?", "answerA": "to catch it",
    "answerB": "to wash it", "answerC": "to sell it", "label": "1"} ->
    {"inputs": "social_i_qa question: Why? context: Ann ran to the bus. answerA: to catch it "
    "answerB: to wash it answerC: to sell it", "targets": "1"}
    """
    names = ("question", "context", "answerA", "answerB", "answerC")
    return {
        "inputs": join_fields("social_i_qa", example, *names),
        "targets": tf.strings.strip(example["label"]),
    }


@seqio.map_over_dataset
def render_cosmos_qa(example: Example) -> Example:
    """Cosmos QA: what a story leaves to be understood.

    {"context": "I ran to the bus.", "question": "Why?", "answer0": "I swim.",
    "answer1": "I was late.", "answer2": "I sing.", "answer3": "None.", "label": 1} ->
    {"inputs": "cosmos_qa question: Why? context: I ran to the bus. answer0: I swim. "
    "answer1: I was late. answer2: I sing. answer3: None.", "targets": "1"}
    """
    names = ("question", "context", "answer0", "answer1", "answer2", "answer3")
    return with_label(join_fields("cosmos_qa", example, *names), example)


@seqio.map_over_dataset
def render_winogrande(example: Example) -> Example:
    """WinoGrande: which of two words fills the blank?

    {"sentence": "The ball fits the box as _ is big.", "option1": "ball", "option2": "box",
    "label": 1} ->
    {"inputs": "winogrande sentence: The ball fits the box as _ is big. option1: ball "
    "option2: box", "targets": "2"}
    """
    return {
        "inputs": join_fields("winogrande", example, "sentence", "option1", "option2"),
        # TFDS counts the options from 0, their names count from 1.
        "targets": tf.strings.as_string(example["label"] + 1),
    }


@seqio.map_over_dataset
def render_hellaswag(example: Example) -> Example:
    """HellaSwag: which sentence comes next?

    {"context": "A dog runs. It", "endings": ["barks.", "sings.", "reads.", "flies."],
    "label": 0} ->
    {"inputs": "hellaswag ctx: A dog runs. It ending0: barks. ending1: sings. ending2: reads. "
    "ending3: flies.", "targets": "0"}
    """
    endings = example["endings"]
    fields = {"ctx": example["context"], **{f"ending{i}": endings[i] for i in range(4)}}
    return with_label(join_fields("hellaswag", fields, *fields), example)


@seqio.map_over_dataset
def render_commonsense_qa(example: Example) -> Example:
    """CommonsenseQA: questions of general knowledge.

    {"question": "Where is a bus?", "A": "sea", "B": "road", "C": "sky", "D": "cup", "E": "ear",
    "answerKey": "B"} ->
    {"inputs": "commonsense_qa question: Where is a bus? A: sea B: road C: sky D: cup E: ear",
    "targets": "B"}
    """
    return {
        "inputs": join_fields("commonsense_qa", example, "question", "A", "B", "C", "D", "E"),
        "targets": example["answerKey"],
    }


def commonsense_qa_from_hub(record: dict) -> sources.Record:
    """A record with a field for each choice.

    >>> commonsense_qa_from_hub({
    ...     "question": "Where?",
    ...     "choices": {"label": ["A", "B"], "text": ["sea", "road"]},
    ...     "answerKey": "B",
    ... })
    {'question': 'Where?', 'A': 'sea', 'B': 'road', 'answerKey': 'B'}
    """
    choices = zip(record["choices"]["label"], record["choices"]["text"], strict=True)
    return {"question": record["question"], **dict(choices), "answerKey": record["answerKey"]}


add_task(
    "social_i_qa",
    source=sources.JsonLinesFolder(
        "social_i_qa",
        SPLITS,
        fields=["context", "question", "answerA", "answerB", "answerC", "label"],
        labels={"label": ("1", "2", "3")},
        hub="hf://datasets/allenai/social_i_qa@refs/convert/parquet/default",
    ),
    preprocessors=[render_social_i_qa, *TOKENIZE],
    postprocess_fn=postprocessors.to_text,
    metric_fns=[metrics.accuracy],
)

add_task(
    "cosmos_qa_v100",
    source=seqio.TfdsDataSource("cosmos_qa:1.0.0", splits=SPLITS),
    preprocessors=[render_cosmos_qa, *TOKENIZE],
    postprocess_fn=postprocessors.to_text,
    metric_fns=[metrics.accuracy],
)

add_task(
    "winogrande_v120",
    source=seqio.TfdsDataSource("winogrande:1.2.0", splits=WINOGRANDE_SPLITS),
    preprocessors=[render_winogrande, *TOKENIZE],
    postprocess_fn=postprocessors.to_text,
    metric_fns=[metrics.accuracy],
)

add_task(
    "hellaswag_v110",
    source=seqio.TfdsDataSource("hellaswag:1.1.0", splits=SPLITS),
    preprocessors=[render_hellaswag, *TOKENIZE],
    postprocess_fn=postprocessors.to_text,
    metric_fns=[metrics.accuracy],
)

add_task(
    "commonsense_qa",
    source=sources.JsonLinesFolder(
        "commonsense_qa",
        SPLITS,
        fields=["question", "A", "B", "C", "D", "E", "answerKey"],
        labels={"answerKey": ("A", "B", "C", "D", "E")},
        hub="hf://datasets/tau/commonsense_qa@refs/convert/parquet/default",
        from_hub=commonsense_qa_from_hub,
    ),
    preprocessors=[render_commonsense_qa, *TOKENIZE],
    postprocess_fn=postprocessors.to_text,
    metric_fns=[metrics.accuracy],
)
