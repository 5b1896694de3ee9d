"""Mixtures that a configuration makes: rates by hand, and every command's way to them."""

import pathlib
import subprocess
import sys

import gin
import numpy as np
import pytest
import seqio
import tensorflow as tf

from hyperdecoders_jax.config import gin_binding, gin_files, gin_statements
from hyperdecoders_jax.data import mixtures, pipeline, preflight, train_batches
from hyperdecoders_jax.tasks import mixing, registration
from hyperdecoders_jax.tasks.splits import SplitConfig

SIZES = {"mixing_a": 16, "mixing_b": 9, "mixing_c": 1}
LENGTHS = {"inputs": 8, "targets": 3}


@pytest.fixture(autouse=True)
def _tasks():
    for name, size in SIZES.items():

        def read(split, shuffle_files, seed=None, name=name, size=size):
            texts = [f"{name[-1]} {place}" for place in range(size)]
            return tf.data.Dataset.from_tensor_slices({"inputs": texts, "targets": ["x"] * size})

        registration.add_task(
            name,
            source=seqio.FunctionDataSource(
                read,
                splits=["train", "validation"],
                num_input_examples={"train": size, "validation": size},
            ),
            preprocessors=[seqio.preprocessors.tokenize, seqio.preprocessors.append_eos],
            output_features={
                name: seqio.Feature(seqio.ByteVocabulary()) for name in ("inputs", "targets")
            },
        )
    registration.add_mixture("mixing_ab", ["mixing_a", "mixing_b"], default_rate=1.0)
    yield
    gin.clear_config()
    seqio.MixtureRegistry.remove("mixing_ab")
    for name in SIZES:
        seqio.TaskRegistry.remove(name)


def shares(provider):
    return mixtures.mixing_rates(provider, mixtures.leaf_tasks(provider))


@pytest.mark.parametrize(
    ("rates", "expected"),
    [
        (mixing.Proportional(), (16 / 26, 9 / 26, 1 / 26)),
        (mixing.Equal(), (1 / 3, 1 / 3, 1 / 3)),
        (mixing.Temperature(1), (16 / 26, 9 / 26, 1 / 26)),
        (mixing.Temperature(2), (4 / 8, 3 / 8, 1 / 8)),
        (mixing.Capped(9), (9 / 19, 9 / 19, 1 / 19)),
        (mixing.Capped(4, temperature=2), (2 / 5, 2 / 5, 1 / 5)),
        (lambda task: 5.0 if task.name == "mixing_a" else 2.5, (1 / 2, 1 / 4, 1 / 4)),
    ],
)
def test_rates_are_those_of_the_formula(rates, expected):
    found = shares(mixing.mixture(tuple(SIZES), rates))
    assert found == pytest.approx(dict(zip(SIZES, expected, strict=True)))


@pytest.mark.parametrize("rates", [mixing.Temperature(3.0), mixing.Capped(7, 3.0)])
def test_rates_are_those_of_seqio_s_own_function(rates):
    limit = getattr(rates, "limit", None)
    for name in SIZES:
        task = seqio.TaskRegistry.get(name)
        theirs = seqio.mixing_rate_num_examples(task, maximum=limit, temperature=3.0)
        assert rates(task) == pytest.approx(theirs)


def test_glue_s_shares_are_the_original_s():
    # Sizes after its split; shares in percent, and those that its unused sampler would have given.
    sizes = (392701, 362845, 103742, 66348, 8550, 5748, 3667, 2489)
    proportional = (41.5, 38.4, 11.0, 7.0, 0.90, 0.61, 0.39, 0.26)
    at_ten = (15.9, 15.8, 14.0, 13.3, 10.9, 10.5, 10.0, 9.6)
    for rates, expected in (
        (mixing.Proportional(), proportional),
        (mixing.Temperature(10), at_ten),
    ):
        values = np.array([rates(_Sized(size)) for size in sizes])
        np.testing.assert_allclose(100 * values / values.sum(), expected, atol=0.05)


class _Sized:
    cache_dir = None

    """What a rate asks of a task."""

    def __init__(self, size):
        self._size = size

    def num_input_examples(self, split):
        assert split == "train"
        return self._size


def test_sizes_are_those_after_the_split():
    provider = mixing.mixture("mixing_ab", splits=SplitConfig(num_train=3, num_validation=7))
    assert shares(provider) == {"mixing_a": 0.5, "mixing_b": 0.5}
    table = mixtures.mixing_table(provider, "validation")
    assert {name: row.num_examples for name, row in table.items()} == {
        "mixing_a": 7,
        "mixing_b": 7,
    }
    assert shares(mixing.mixture("mixing_ab")) == {"mixing_a": 16 / 25, "mixing_b": 9 / 25}


def test_a_task_that_is_named_twice_is_mixed_once():
    provider = mixing.mixture(("mixing_ab", "mixing_c", "mixing_a"))
    assert [task.name for task in mixtures.leaf_tasks(provider)] == list(SIZES)
    assert shares(provider)["mixing_c"] == 1 / 26


def test_tasks_keep_their_names_and_numbers():
    provider = mixing.mixture("mixing_ab", splits=SplitConfig(num_train=3))
    assert mixtures.resolve_task_names(provider) == mixtures.resolve_task_names("mixing_ab")
    assert seqio.TaskRegistry.get("mixing_a") not in provider.tasks


def test_a_size_that_nobody_knows_is_told():
    source = seqio.FunctionDataSource(lambda split, shuffle_files: None, splits=["train"])
    unknown = seqio.TaskRegistry.get("mixing_a").replace(source=source)
    registration.add_mixture("mixing_ab", [(unknown, 1.0)])
    for rates in (mixing.Proportional(), mixing.Temperature(2), mixing.Capped(5)):
        with pytest.raises(ValueError, match=r"must be computable; that of 'mixing_a'.*num_input"):
            shares(mixing.mixture("mixing_ab", rates))
    assert shares(mixing.mixture("mixing_ab", mixing.Equal())) == {"mixing_a": 1.0}


def test_names_are_checked():
    with pytest.raises(ValueError, match=r"registered before it is used; got 'mixing_d'.*mixing_"):
        mixing.mixture(("mixing_a", "mixing_d"))
    with pytest.raises(ValueError, match=r"must hold a task; got tasks=\(\). Bind mixing.mixture"):
        mixing.mixture(())


def test_numbers_are_checked():
    with pytest.raises(ValueError, match=r"Temperature.temperature must be above 0; got 0. 1 leav"):
        mixing.Temperature(0)
    with pytest.raises(ValueError, match=r"Capped.temperature must be above 0; got -1. 1 leaves"):
        mixing.Capped(3, -1)
    with pytest.raises(ValueError, match=r"Capped.limit must be at least 1 example; got 0. T5's"):
        mixing.Capped(0)


def test_a_configuration_mixes_without_python_and_is_saved_whole(tmp_path):
    path = tmp_path / "mine.gin"
    path.write_text(
        "from __gin__ import dynamic_registration\n"
        "from hyperdecoders_jax.data import pipeline\n"
        "from hyperdecoders_jax.tasks import mixing\n"
        "from hyperdecoders_jax.tasks import splits\n"
        "MIXTURE_OR_TASK_NAME = @mixing.mixture()\n"
        "mixing.mixture:\n"
        "  tasks = ('mixing_a', 'mixing_c')\n"
        "  rates = @mixing.Temperature()\n"
        "  splits = @splits.SplitConfig()\n"
        "mixing.Temperature.temperature = 4\n"
        "splits.SplitConfig.drop_last_example = True\n"
        "splits.SplitConfig.num_train = 5\n"
        "pipeline.PipelineConfig:\n"
        "  mixture_or_task_name = %MIXTURE_OR_TASK_NAME\n"
        f"  task_feature_lengths = {LENGTHS}\n"
        "  batch_size = 6\n"
    )
    text = gin_files.read([str(path)], ["mixing.Temperature.temperature = 1"])
    saved = gin_binding.parse(text, pipeline.PipelineConfig)
    # A run's own configuration, as eval and infer read it.
    path.write_text(saved)
    gin_binding.parse(gin_files.read([str(path)]), pipeline.PipelineConfig)
    configs = [gin.get_configurable(pipeline.PipelineConfig)() for _ in range(2)]
    for config in configs:
        assert shares(config.mixture_or_task_name) == {"mixing_a": 5 / 6, "mixing_c": 1 / 6}
    report = preflight.preflight(configs[0])
    assert [report[name].mixing.num_examples for name in report] == [5, 1]
    with (
        train_batches.TrainIterator(configs[0]) as one,
        train_batches.TrainIterator(configs[1]) as other,
    ):
        np.testing.assert_array_equal(next(one).task_ids, next(other).task_ids)
        assert one.task_names == ("mixing_a", "mixing_c")


def test_a_configuration_is_read_without_seqio():
    code = (
        "import sys; from hyperdecoders_jax.tasks import mixing, splits; "
        "print('seqio' in sys.modules, 'tensorflow' in sys.modules)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.stdout.split() == ["False", "False"], result.stderr


# Those of the original's configurations that set split_validation_test to false.
UNDIVIDED = {
    "glue_generated_none",
    "glue_generated_task",
    "glue_manual_none",
    "glue_none_generated",
    "glue_none_manual",
    "glue_none_task",
    "glue_task_none",
}
EXPERIMENTS = pathlib.Path(gin_files.package_config_folder()) / "experiments"


def split_config(name):
    """What an experiment binds of its splits, macros replaced."""
    text = gin_files.read([f"experiments/{name}.gin"])
    bound = {}
    for binding in text.bindings:
        if binding.statement.selector == "splits.SplitConfig":
            value = binding.statement.value
            if isinstance(value, gin_statements.MacroRead):
                value, _ = text.macro_values[value.name]
            bound[binding.statement.arg_name] = value
    return SplitConfig(**bound)


@pytest.mark.parametrize("folder", ["glue", "nli", "summarization", "summarization_nli"])
def test_experiments_divide_data_as_the_original_s(folder):
    limit = None if folder == "glue" else 1600
    for path in (EXPERIMENTS / folder).glob("*.gin"):
        is_divided = folder in ("glue", "summarization_nli") and path.stem not in UNDIVIDED
        expected = SplitConfig(split_validation_test=is_divided, num_validation=limit)
        assert split_config(f"{folder}/{path.stem}") == expected


def test_an_experiment_evaluates_what_it_did_not_train_on():
    files = ["runs/embedded/train.gin", "experiments/glue/glue_manual_generated.gin"]
    macros = {"MODEL_DIR": "/nowhere", "INITIAL_CHECKPOINT_PATH": None}
    bindings = [f"{name} = {value!r}" for name, value in macros.items()]
    gin_binding.parse(gin_files.read(files, bindings))
    provider = gin.query_parameter("MIXTURE_OR_TASK_NAME/gin.macro.value").scoped_configurable_fn()
    tasks = {task.name: task for task in mixtures.leaf_tasks(provider)}
    assert len(tasks) == 8
    registered = {name for name in tasks if seqio.TaskRegistry.get(name) is tasks[name]}
    assert registered == {"glue_mnli_v200"}
