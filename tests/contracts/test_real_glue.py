"""Three of GLUE's tasks on the real data, through SeqIO as a run reads them.

They lie beside the repository where the project is worked on, in TFDS's form. CoLA's validation
split is its in-domain part; SST-2's training split and MRPC are cut otherwise than GLUE's.
"""

import collections
import pathlib

import pytest
import seqio

from hyperdecoders_jax.data import vocabulary
from hyperdecoders_jax.tasks import baselines, glue, metrics  # noqa: F401 (it registers the tasks)

FOLDER = pathlib.Path(__file__).parents[3] / "shared" / "tfds"

pytestmark = pytest.mark.skipif(not FOLDER.exists(), reason=f"GLUE's data are not in {FOLDER}")


@pytest.fixture
def real_task():
    """A function that gives a task which reads the real data, for one test."""
    loaders = []

    def with_data(name):
        task = seqio.TaskRegistry.get(name)
        loaders.append(task.source.tfds_dataset)
        loaders[-1].override_data_dir(str(FOLDER))
        return task

    loaded = vocabulary.load_vocabulary(vocabulary.DEMO_VOCABULARY_PATH)
    vocabulary.set_run_vocabulary(loaded)
    yield with_data
    vocabulary.set_run_vocabulary(None)
    for loader in loaders:
        loader.override_data_dir(None)


@pytest.mark.parametrize(
    ("name", "num_train", "labels", "majority"),
    [
        ("glue_cola_v200", 8551, {"1": 365, "0": 162}, {"matthews_corrcoef": 0}),
        ("glue_sst2_v200", 6920, {"1": 444, "0": 428}, {"accuracy": 100 * 444 / 872}),
        (
            "glue_mrpc_v200",
            3576,
            {"1": 346, "0": 154},
            {"accuracy": 69.2, "f1": 100 * 2 * 346 / (2 * 346 + 154)},
        ),
    ],
)
def test_sizes_labels_and_the_majority_class_are_those_of_the_data(
    real_task, name, num_train, labels, majority
):
    task = real_task(name)
    dataset = task.get_dataset(split="validation", shuffle=False)
    targets = [example["targets_pretokenized"] for example in dataset.as_numpy_iterator()]
    assert task.num_input_examples("train") == num_train
    assert task.num_input_examples("validation") == sum(labels.values())
    assert collections.Counter(target.decode() for target in targets) == labels
    assert baselines.majority_baseline(name) == pytest.approx(majority)


def test_always_acceptable_is_right_for_69_percent_of_cola(real_task):
    source = real_task("glue_cola_v200").source
    records = source.get_dataset("validation", shuffle=False).as_numpy_iterator()
    labels = [int(record["label"]) for record in records]
    assert metrics.accuracy(labels, [1] * 527)["accuracy"] == pytest.approx(69.3, abs=0.1)
