"""Every gin file that ships: it parses, stands in its place, and its numbers are right."""

import functools
import math
import operator
import pathlib
import re
import shlex

import gin
import jax
import pytest

from hyperdecoders_jax.commands import analyze, flags, infer, main, params, train
from hyperdecoders_jax.commands import eval as eval_command
from hyperdecoders_jax.config import gin_binding, gin_files, gin_statements
from hyperdecoders_jax.data import vocabulary
from hyperdecoders_jax.tasks import mixtures
from hyperdecoders_jax.training import trainable

ROOT = pathlib.Path(gin_files.package_config_folder())
# Included in this order: a later file may set what an earlier one declares, never the reverse. The
# files of runs/ come before all of them, from whoever runs the experiment.
ORDER = ["models", "adapters", "optim", "decoding", "mixtures"]
MODELS = sorted(path.stem for path in (ROOT / "models").glob("*.gin"))
METHODS = sorted(path.stem for path in (ROOT / "adapters").glob("*.gin"))
GATES = [method for method in METHODS if method.startswith("hypergrid")]
ADAPTERS = [method for method in METHODS if method not in GATES]
SOURCES = ("none", "fine_tuned", "manual", "manual_specific", "task", "generated")
# What the experiments of a folder share.
RECIPE = "recipe"
EXPERIMENTS = sorted(
    str(path.relative_to(ROOT / "experiments").with_suffix(""))
    for path in (ROOT / "experiments").rglob("*.gin")
    if path.stem != RECIPE
)
# One of each folder, one that pretrains, and one with gates and all weights.
KINDS = [
    "demo_pretrain",
    "demo_hypergrid_all_weights",
    "glue/glue_hyperformer",
    "hypergrid/glue_super_glue_base",
    "mrqa/task_adamw_hypernet",
    "nli/nli_task",
    "summarization/summarise_adapter",
    "summarization_nli/summarise_nli_gen",
]
# Of both runners: as text, those of T5X need no T5X.
FUNCTIONS = {
    "train": train.train,
    "eval": eval_command.evaluate,
    "infer": infer.infer,
    "analyze": analyze.analyze,
    "params": params.report,
}
COMMANDS = [name for name in FUNCTIONS if name != "train"]
RUN_FILES = [f"runs/embedded/{command}.gin" for command in FUNCTIONS]
RUN_FILES += [f"runs/t5x/{command}.gin" for command in ("train", "eval", "infer")]
ALL_FILES = sorted(str(path.relative_to(ROOT)) for path in ROOT.rglob("*.gin"))

# Weights published by Google, counted by Hugging Face.
PUBLISHED = {
    "t5_small": 60_506_624,
    "t5_base": 222_903_552,
    "t5_large": 737_668_096,
    "t5_3b": 2_851_598_336,
    "t5_11b": 11_307_321_344,
    "t5_1_1_small": 76_961_152,
    "t5_1_1_base": 247_577_856,
    "t5_1_1_large": 783_150_080,
    "t5_1_1_xl": 2_849_757_184,
    "t5_1_1_xxl": 11_135_332_352,
    "t5_1_1_small_lm_adapt": 76_961_152,
    "t5_1_1_base_lm_adapt": 247_577_856,
    "t5_1_1_large_lm_adapt": 783_150_080,
    "t5_1_1_xl_lm_adapt": 2_849_757_184,
    "t5_1_1_xxl_lm_adapt": 11_135_332_352,
    "mt5_small": 300_176_768,
    "mt5_base": 582_401_280,
    "mt5_large": 1_229_581_312,
    "byt5_small": 299_637_760,
    "byt5_base": 581_653_248,
}
UNPUBLISHED = {"tiny", "demo"}

# Anybody's files: nobody knows their lengths, and those of the experiment hold.
OWN_DATA = "own_data"


@pytest.fixture(autouse=True)
def _forget_configuration():
    yield
    gin.clear_config()


def to_bindings(**macros):
    return [gin_files.to_binding(name, str(value)) for name, value in macros.items()]


@functools.cache
def read(name):
    return gin_files.read([name])


def read_experiment(name, run_file):
    """As the command line reads it, with what an experiment leaves to its user."""
    text = read(run_file) + read(f"experiments/{name}.gin")
    macros = {"MODEL_DIR": "/nowhere", "VOCABULARY": vocabulary.DEMO_VOCABULARY_PATH}
    for macro, (value, _) in text.macro_values.items():
        if value == gin_statements.REQUIRED and macro != "MODEL_DIR":
            macros.setdefault(macro, 3 if macro == "TRAIN_STEPS" else None)
    return text + gin_files.read([], to_bindings(**macros))


def parse_experiment(name, command):
    function = FUNCTIONS[command]
    text = read_experiment(name, f"runs/embedded/{command}.gin")
    return gin_binding.parse(text, function, are_macros_checked=False, readers=flags.TRAIN_FILES)


def parse_parts(model, *methods, optim="adamw_linear", decoding="greedy", **macros):
    files = ["runs/embedded/train.gin", f"models/{model}.gin"]
    files += [f"adapters/{method}.gin" for method in methods]
    files += [f"optim/{optim}.gin", f"decoding/{decoding}.gin", "mixtures/glue.gin"]
    macros = {"MODEL_DIR": "/nowhere", "TRAIN_STEPS": 3, "INITIAL_CHECKPOINT_PATH": None, **macros}
    texts = [*map(read, files), gin_files.read([], to_bindings(**macros))]
    gin_binding.parse(functools.reduce(operator.add, texts))
    return value_of("MODEL")


def value_of(macro):
    return gin.query_parameter(f"{macro}/gin.macro.value").scoped_configurable_fn()


def num_parameters(tree):
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(tree))


@pytest.mark.parametrize("name", ALL_FILES)
def test_every_file_is_gin_and_says_what_it_is(name):
    if name != "runs/t5x/finetune.gin":  # It includes T5X's; tests/t5x/test_finetune.py trains it.
        read(name)
    assert (ROOT / name).read_text(encoding="utf-8").startswith("# ")


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_every_experiment_parses(name):
    assert "MODEL_DIR = '/nowhere'" in parse_experiment(name, "train")


@pytest.mark.parametrize("run_file", RUN_FILES)
def test_every_experiment_sets_and_reads_the_macros_of_every_command(run_file):
    for name in EXPERIMENTS:
        gin_files.check_macros(read_experiment(name, run_file), flags.TRAIN_FILES)


# What an experiment binds is checked with training, what a command binds with any experiment.
@pytest.mark.parametrize(("name", "command"), zip(KINDS, 2 * COMMANDS, strict=True))
def test_every_command_parses_every_kind_of_experiment(name, command):
    assert "MODEL_DIR = '/nowhere'" in parse_experiment(name, command)


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_an_experiment_includes_in_one_order_and_names_no_runner(name):
    text = read(f"experiments/{name}.gin")
    # In the order in which they bind, whichever file includes them.
    folders = [file.name.split("/")[0] for file in text.files]
    places = [ORDER.index(folder) for folder in folders if folder != "experiments"]
    assert places == sorted(places), folders
    assert {"models", "adapters", "optim", "mixtures"} <= set(folders)


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_an_experiment_says_what_how_and_what_to_expect(name):
    header = (ROOT / "experiments" / f"{name}.gin").read_text(encoding="utf-8").split("\n\n")[0]
    comment = "\n".join(line for line in header.splitlines() if line.startswith("#"))
    what, run, expect = (comment.index(f"# {word}") for word in ("What:", "Run:", "Expect:"))
    assert what < run < expect
    # What packing brings, where the mixture says how to.
    packs = "MAX_SEGMENTS" in read(f"experiments/{name}.gin").macro_values
    assert ("# Pack:" in comment) == packs
    commands = re.sub(r"\n#\s*|\(.*?\)", " ", comment[run:expect].removeprefix("# Run:"))
    # A second command may follow, which makes something of the run.
    program, *arguments = shlex.split(commands.split(" python -m ")[0])
    assert program == "hyperdecoders"
    others, _ = main.split_gin_flags(arguments)
    assert main.make_parser().parse_args(others).gin_file == [f"experiments/{name}.gin"]


@pytest.mark.parametrize(
    "name", [name for name in ALL_FILES if not name.startswith(("runs/t5x", "experiments"))]
)
def test_only_run_files_of_t5x_import_it(name):
    text = read(name)
    modules = [statement.module for file in text.files for statement, _ in file.imports]
    assert not any("t5x" in module.split(".") for module in modules), modules


@pytest.mark.parametrize("name", MODELS)
def test_a_size_file_holds_macros_alone(name):
    text = read(f"models/{name}.gin")
    assert not any(file.imports for file in text.files)
    assert all(binding.macro and not binding.references for binding in text.bindings)
    sizes = {"VOCAB_SIZE", "EMB_DIM", "NUM_HEADS", "HEAD_DIM", "MLP_DIM", "NUM_ENCODER_LAYERS"}
    sizes |= {"NUM_DECODER_LAYERS", "MLP_ACTIVATIONS", "LOGITS_VIA_EMBEDDING", "VOCABULARY"}
    assert set(text.macro_values) == sizes


def test_a_mixture_file_states_the_lengths_of_its_tasks():
    stated = {}
    for path in (ROOT / "mixtures").glob("*.gin"):
        if path.stem == OWN_DATA:
            continue
        macros = gin_files.read([str(path)]).macro_values
        stated[macros["MIXTURE_OR_TASK_NAME"][0]] = macros["TASK_FEATURE_LENGTHS"][0]
    assert stated == mixtures.TASK_FEATURE_LENGTHS


@pytest.mark.parametrize("name", ["summarization", "summarization_nli"])
def test_long_summaries_are_cut_in_every_run_that_reads_them(name):
    files = ["runs/embedded/train.gin", f"mixtures/{name}.gin"]
    assert gin_files.read(files).macro_values["TRUNCATE_TARGETS"][0] is True


def test_every_size_has_a_published_count():
    assert set(MODELS) == set(PUBLISHED) | UNPUBLISHED


@pytest.mark.parametrize("name", sorted(PUBLISHED))
def test_a_size_has_the_published_number_of_parameters(name):
    model = parse_parts(name, "none")
    assert num_parameters(model.param_shapes()) == PUBLISHED[name]


# Neither kind of file names what the other sets.
@pytest.mark.parametrize("method", METHODS)
def test_every_method_goes_with_an_optimizer(method):
    optim = ["adafactor", "adamw_linear"][METHODS.index(method) % 2]
    parse_parts("tiny", method, optim=optim)
    assert value_of("SCHEDULE").make(10)(1) >= 0
    assert value_of("OPTIMIZER").precondition()


@pytest.mark.parametrize("method", METHODS)
def test_every_method_makes_and_trains_parameters(method):
    shapes = parse_parts("tiny", method, NUM_TASKS=3).param_shapes()
    trained, _ = trainable.split(shapes, value_of("TRAINABLE"))
    part = "hypergrid" if method in GATES else "adapters"
    assert method == "none" or {f"encoder_{part}", f"decoder_{part}"} <= trained.keys()


@pytest.mark.parametrize("method", ADAPTERS)
def test_gates_go_with_every_method_in_any_order(method):
    without = parse_parts("tiny", method, NUM_TASKS=3).config
    assert without.encoder_hypergrid is without.decoder_hypergrid is None
    for methods in [(method, "hypergrid_l2"), ("hypergrid_l2", method)]:
        gated = parse_parts("tiny", *methods, NUM_TASKS=3)
        assert gated.config.encoder_adapter == without.encoder_adapter
        assert gated.config.decoder_adapter == without.decoder_adapter
        assert gated.config.encoder_hypergrid == gated.config.decoder_hypergrid
    trained, frozen = trainable.split(gated.param_shapes(), value_of("TRAINABLE"))
    assert {"encoder_hypergrid", "decoder_hypergrid"} <= trained.keys()
    # All weights with adapters/none.gin, none of T5's but layer norms with any other.
    assert ("token_embedder" in frozen) == (method != "none")


@pytest.mark.parametrize("method", GATES)
def test_a_file_of_gates_is_the_variant_it_is_named_for(method):
    model = parse_parts("tiny", method)
    grid = model.config.encoder_hypergrid
    assert grid.variant == method.removeprefix("hypergrid_").upper()
    assert (grid.rows, grid.cols) == (16, 1 if grid.variant == "L" else 16)
    assert (grid.kernels, grid.condition, grid.gate) == ("wo", "first_state", "sigmoid")
    trained, _ = trainable.split(model.param_shapes(), value_of("TRAINABLE"))
    assert trained.keys() == {"encoder_hypergrid", "decoder_hypergrid"}


def test_gates_and_all_weights_are_one_line_and_each_stack_has_its_own():
    flags = {
        "TrainableConfig.backbone": True,
        "encoder/HyperGridConfig.rows": 4,
        "decoder/HyperGridConfig.condition": "pooled",
    }
    model = parse_parts("tiny", "hypergrid_lg", **flags)
    grids = model.config.encoder_hypergrid, model.config.decoder_hypergrid
    assert [(grid.rows, grid.condition) for grid in grids] == [(4, "first_state"), (16, "pooled")]
    _, frozen = trainable.split(model.param_shapes(), value_of("TRAINABLE"))
    assert not frozen
    flags = {"TransformerConfig.encoder_hypergrid": None}
    assert parse_parts("tiny", "hypergrid_lg", **flags).config.encoder_hypergrid is None


@pytest.mark.parametrize(
    "decoding", sorted(path.stem for path in (ROOT / "decoding").glob("*.gin"))
)
def test_every_way_of_decoding_reaches_the_model(decoding):
    assert parse_parts("tiny", "none", decoding=decoding, MIN_LEN=2).decoding.min_len == 2


# Each with itself, where they might set one thing, and with two others.
@pytest.mark.parametrize("shift", [0, 1, 2])
@pytest.mark.parametrize("encoder", SOURCES)
def test_any_two_sides_make_a_model(encoder, shift):
    decoder = SOURCES[(SOURCES.index(encoder) + shift) % len(SOURCES)]
    config = parse_parts("tiny", f"encoder/{encoder}", f"decoder/{decoder}").config
    for side, name in (("encoder", encoder), ("decoder", decoder)):
        source = "none" if name == "fine_tuned" else name
        assert getattr(config, f"{side}_adapter").source == source
        assert getattr(value_of("TRAINABLE"), side) == (name == "fine_tuned")
