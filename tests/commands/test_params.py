"""Counts of parameters: the original's whole table, the text, and a checkpoint's bytes."""

import pathlib
import re

import gin
import jax
import pytest

from hyperdecoders_jax import model
from hyperdecoders_jax.commands import main
from hyperdecoders_jax.config import gin_files
from hyperdecoders_jax.training import optimizer, train_state
from hyperdecoders_jax.training import trainable as trainable_lib
from tests import tiny
from tests.contracts import test_gin

EXPERIMENTS = pathlib.Path(gin_files.package_config_folder()) / "experiments"

# What the original prints for each of its configs: trained and all parameters. In both there can be
# learned adapters that it makes and never uses, (features, stacks): in a decoder that gets
# generated ones, and in each stack that gets those of a task.
LARGE, BASE, SMALL = (1024, 24), (768, 12), (512, 8)
ORIGINAL = {
    "glue/glue_t5_base": (16_448_824, 239_352_376, BASE, (64, 1)),
    "glue/glue_manual_generated": (25_624_240, 808_774_320, LARGE, (64, 1)),
    "glue/glue_manual_generated_no_mlp": (23_525_040, 806_675_120, LARGE, (64, 1)),
    "glue/glue_manual_generated_norm": (25_624_240, 808_774_320, LARGE, (64, 1)),
    "glue/glue_manual_generated_unbalanced": (34_631_084, 817_781_164, LARGE, (36, 1)),
    "glue/glue_manual_manual": (22_670_112, 805_820_192, LARGE, None),
    "glue/glue_manual_task": (15_529_558, 798_679_638, LARGE, (50, 1)),
    "glue/glue_none_none": (783_150_080, 783_150_080, LARGE, None),
    "glue/glue_generated_generated": (37_445_880, 820_595_960, LARGE, (64, 1)),
    "glue/glue_generated_manual": (25_624_240, 808_774_320, LARGE, None),
    "glue/glue_generated_task": (28_183_372, 811_333_452, LARGE, (50, 1)),
    "glue/glue_task_generated": (28_183_372, 811_333_452, LARGE, (50, 2)),
    "glue/glue_task_manual": (15_529_558, 798_679_638, LARGE, (50, 1)),
    "glue/glue_task_task": (26_092_364, 809_242_444, LARGE, (50, 2)),
    "glue/glue_generated_none": (431_472_304, 805_602_480, LARGE, None),
    "glue/glue_manual_none": (412_191_744, 786_321_920, LARGE, None),
    "glue/glue_task_none": (429_381_296, 803_511_472, LARGE, (64, 1)),
    "glue/glue_none_generated": (330_784_432, 805_602_480, LARGE, (64, 1)),
    "glue/glue_none_manual": (311_503_872, 786_321_920, LARGE, None),
    "glue/glue_none_task": (328_693_424, 803_511_472, LARGE, (64, 1)),
    "mrqa/unbalanced_manual_generated_mrqa": (15_458_436, 263_036_292, BASE, (36, 1)),
    "mrqa/adamw_adapter_gen": (16_448_824, 264_026_680, BASE, (64, 1)),
    "mrqa/adamw_full_finetune": (247_577_856, 247_577_856, BASE, None),
    "mrqa/adapter_gen_layernorm": (16_496_440, 264_026_680, BASE, (64, 1)),
    "mrqa/manual_adapter_control": (14_810_520, 262_388_376, BASE, None),
    # The original cannot make this model: 7 adapters in each of 2 x 12 layers.
    "mrqa/per_dataset_adapter": (16_654_848, 264_232_704, BASE, None),
    "mrqa/small_adapter_large_hypernetwork": (15_267_640, 262_845_496, BASE, (64, 1)),
    "mrqa/task_adamw_hypernet": (17_708_460, 265_286_316, BASE, (50, 2)),
    "summarization_nli/summarise_nli": (247_577_856, 247_577_856, BASE, None),
    "summarization_nli/summarise_nli_gen": (15_458_436, 263_036_292, BASE, (36, 1)),
    "summarization_nli/summarise_nli_manual": (13_666_992, 261_244_848, BASE, None),
    "summarization_nli/summarise_nli_task": (28_165_232, 275_743_088, BASE, (64, 2)),
    "summarization/summarise_manual": (2_379_264, 249_957_120, BASE, None),
    "summarization/summarise_task": (28_160_624, 275_738_480, BASE, (64, 2)),
    "summarization/summarise": (783_150_080, 783_150_080, LARGE, None),
    "summarization/summarise_adapter": (25_624_240, 808_774_320, LARGE, (64, 1)),
    "nli/nli": (9_653_264, 86_614_416, SMALL, (64, 1)),
    "nli/nli_manual": (2_379_264, 249_957_120, BASE, None),
    "nli/nli_task": (28_160_624, 275_738_480, BASE, (64, 2)),
    "nli/nli_adapter": (25_624_240, 808_774_320, LARGE, (64, 1)),
}


# Rows of the results that have no config there.
OURS = {
    "glue/glue_hyperformer": (9_118_656, 792_143_808),
    "glue/glue_per_task_adapter": (22_424_064, 805_574_144),
}

HYPERGRID = [
    f"hypergrid/{tasks}_{size}"
    for tasks in ("glue", "super_glue", "glue_super_glue")
    for size in ("base", "large")
]
# T5 v1.0's features, and layers of a stack.
SIZES = {"t5_small": (512, 6), "t5_base": (768, 12), "t5_large": (1024, 24), "t5_11b": (1024, 24)}


@pytest.fixture(autouse=True)
def _forget_configuration():
    yield
    gin.clear_config()


def count(name, capsys):
    """Trained and all parameters of an experiment, as the command prints them."""
    assert main.main(["params", f"--gin_file=experiments/{name}.gin"]) == 0
    counts = re.search(r"([\d,]+) of ([\d,]+) parameters", capsys.readouterr().out).groups()
    trained, total = (int(count.replace(",", "")) for count in counts)
    header = (EXPERIMENTS / f"{name}.gin").read_text(encoding="utf-8").partition("\ninclude")[0]
    told = f"{trained:,} of {total:,} parameters"
    assert (f"all {total:,} parameters" if trained == total else told) in header
    return trained, total


@pytest.mark.parametrize("name", ORIGINAL)
def test_an_experiment_has_as_many_parameters_as_the_original_uses(name, capsys):
    trained, total, (emb_dim, num_layers), unused = ORIGINAL[name]
    if unused is not None:
        bottleneck_dim, num_stacks = unused
        num_unused = num_layers * (2 * emb_dim * bottleneck_dim + bottleneck_dim + emb_dim)
        trained, total = (n - num_stacks * num_unused for n in (trained, total))
    assert count(name, capsys) == (trained, total)


@pytest.mark.parametrize("name", OURS)
def test_an_experiment_of_ours_has_as_many_parameters_as_its_header_says(name, capsys):
    assert count(name, capsys) == OURS[name]


@pytest.mark.parametrize("name", HYPERGRID)
def test_an_experiment_with_gates_has_as_many_parameters_as_its_header_says(name):
    size = f"t5_{name.rpartition('_')[2]}"
    text = gin_files.read([f"experiments/{name}.gin"])
    sizes = ("EMB_DIM", "NUM_ENCODER_LAYERS", "NUM_DECODER_LAYERS")
    emb_dim, num_layers = SIZES[size]
    assert [text.macro_values[macro][0] for macro in sizes] == [emb_dim, num_layers, num_layers]
    grid = ("GRID_VARIANT", "GRID_ROWS", "GRID_COLS")
    variant, rows, cols = (text.macro_values[macro][0] for macro in grid)
    assert variant == "LG"
    total = test_gin.PUBLISHED[size] + 2 * num_layers * tiny.GATE_COUNTS["LG"](emb_dim, rows, cols)
    header = (EXPERIMENTS / f"{name}.gin").read_text(encoding="utf-8")
    assert f"# Expect: trains all {total:,} parameters." in header


@pytest.mark.parametrize(
    ("size", "variant"),
    [
        ("t5_small", "gl"),
        ("t5_small", "gg"),
        ("t5_base", "l2"),
        ("t5_large", "l"),
        ("t5_11b", "lg"),
    ],
)
def test_gates_add_to_every_size_what_their_closed_form_says(size, variant, capsys):
    (emb_dim, num_layers), rows, cols = SIZES[size], 16, 1 if variant == "l" else 8
    flags = [f"--gin.GRID_ROWS={rows}", f"--gin.GRID_COLS={cols}"]
    files = ["experiments/hypergrid/glue_base", f"models/{size}", f"adapters/hypergrid_{variant}"]
    assert main.main(["params", *(f"--gin_file={file}.gin" for file in files), *flags]) == 0
    table = dict(re.findall(r"(\w+) +([\d,]+)", capsys.readouterr().out))
    counts = {key: int(count.replace(",", "")) for key, count in table.items()}
    stack = num_layers * tiny.GATE_COUNTS[variant.upper()](emb_dim, rows, cols)
    assert counts["encoder_hypergrid"] == counts["decoder_hypergrid"] == stack
    assert counts["total"] == test_gin.PUBLISHED[size] + 2 * stack


def test_every_experiment_of_these_folders_is_counted():
    here = {
        str(path.relative_to(EXPERIMENTS).with_suffix(""))
        for path in EXPERIMENTS.glob("*/*.gin")
        if path.stem != "recipe"
    }
    assert here == {*ORIGINAL, *OURS, *HYPERGRID}
    assert len(ORIGINAL) == 40


def test_neither_data_nor_accelerators_nor_paths_are_needed(capsys):
    # Nor TensorFlow or SeqIO: tests/contracts/test_core.py.
    assert main.main(["params", "--gin_file=experiments/mrqa/task_adamw_hypernet.gin"]) == 0
    *table, held = capsys.readouterr().out.splitlines()
    assert [line.split() for line in table[:-1]] == [
        ["trained", "frozen"],
        ["token_embedder", "0", "24,674,304"],
        ["encoder", "0", "84,954,240"],
        ["decoder", "0", "137,949,312"],
        ["encoder_adapters", "7,922,814", "0"],
        ["decoder_adapters", "7,922,814", "0"],
        ["total", "15,845,628", "247,577,856"],
    ]
    assert table[-1] == "15,845,628 of 263,423,484 parameters are trained (6.02%)."
    assert held == (
        "A checkpoint holds 190.1 MB: 63.4 MB of parameters, 126.8 MB of optimiser state (AdamW)."
    )


def test_a_number_of_tasks_comes_from_a_flag_a_list_or_the_mixture(capsys):
    def decoder_adapters(*flags):
        experiment = "--gin_file=experiments/demo_single_adapter.gin"
        method = "--gin_file=adapters/decoder/manual_specific.gin"
        assert main.main(["params", experiment, method, *flags]) == 0
        row = re.search(r"decoder_adapters +([\d,]+)", capsys.readouterr().out).group(1)
        return int(row.replace(",", ""))

    one = decoder_adapters("--gin.NUM_TASKS=1")
    assert decoder_adapters("--gin.TASK_NAMES=('demo_topic', 'demo_find')") == 2 * one
    assert decoder_adapters() == 6 * one


def test_a_mixture_that_is_not_registered_is_told(capsys):
    flags = ["--gin_file=experiments/nli/nli_task.gin", "--gin.MIXTURE_OR_TASK_NAME='nlu'"]
    assert main.main(["params", *flags]) == 2
    assert "must be registered before it is used; got 'nlu'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flag", "message"),
    [
        ("ENCODER_BOTTLENEK_DIM=3", "Did you mean 'ENCODER_BOTTLENECK_DIM'?"),
        ("decoder/AdapterConfg.norm_input=True", "Did you mean 'AdapterConfig'?"),
        ("decoder/AdapterConfig.norm_inputs=True", "Did you mean 'norm_input'?"),
        ("DECODER_BOTTLENECK_DIM=a", "DECODER_BOTTLENECK_DIM (set in --gin.DECODER_BOTTLENECK_DIM"),
    ],
)
def test_a_flag_that_cannot_be_meant_is_told(flag, message, capsys):
    experiment = "--gin_file=experiments/demo_hyperdecoder.gin"
    assert main.main(["params", experiment, f"--gin.{flag}"]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("config", [optimizer.AdamWConfig(), optimizer.AdafactorConfig()])
def test_bytes_are_those_of_the_state_that_is_saved(config):
    weights = tiny.make_params(model.Model(tiny.make_config("manual", "generated")))
    trained, _ = trainable_lib.split(weights, trainable_lib.TrainableConfig())
    tx = optimizer.make_optimizer(config, lambda step: 0.1)
    state = train_state.create(trained, tx, jax.random.key(0))
    params_bytes, state_bytes = optimizer.checkpoint_bytes(trained, config)
    assert params_bytes == sum(x.nbytes for x in jax.tree.leaves(state.trainable))
    assert state_bytes == sum(x.nbytes for x in jax.tree.leaves(state.opt_state))


def test_a_model_that_is_none_is_told(capsys):
    experiment = "--gin_file=experiments/demo_hyperdecoder.gin"
    assert main.main(["params", experiment, "--gin.MODEL=3"]) == 2
    assert "is 3, and model of report is of type Model" in capsys.readouterr().err
