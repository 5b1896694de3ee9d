"""Gin files and flags: what binds, and what each mistake is told."""

import re

import gin
import pytest
from etils.epath import backend

from hyperdecoders_jax import errors
from hyperdecoders_jax.commands import train
from hyperdecoders_jax.config import configuration
from hyperdecoders_jax.modeling import config

MODEL_FILE = """
from __gin__ import dynamic_registration

from hyperdecoders_jax import losses
from hyperdecoders_jax.modeling import config

LABEL_SMOOTHING = 0.0
BOTTLENECK_DIM = 8
losses.LossConfig.label_smoothing = %LABEL_SMOOTHING
config.TransformerConfig.encoder_adapter = @encoder/config.AdapterConfig()
encoder/config.AdapterConfig:
  source = 'manual'
  bottleneck_dim = %BOTTLENECK_DIM
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "model.gin").write_text(MODEL_FILE)
    yield tmp_path
    gin.clear_config()


def flags(*arguments):
    return [configuration.to_binding(*argument.split("=", 1)) for argument in arguments]


def bound(name):
    value = gin.query_parameter(name)
    return value.scoped_configurable_fn() if hasattr(value, "scoped_configurable_fn") else value


def test_a_file_may_be_in_a_bucket(folder, monkeypatch):
    class Bucket(type(backend.os_backend)):
        """The folder under another name, in place of a network."""

        def isdir(self, path):
            return super().isdir(self.here(path))

        def exists(self, path):
            return super().exists(self.here(path))

        def open(self, path, mode):
            return super().open(self.here(path), mode)

        def here(self, path):
            if "closed" in path:
                raise RuntimeError("no rights")
            return path.replace("gs://bucket", str(folder))

    monkeypatch.setattr(backend, "tf_backend", Bucket())
    (folder / "all.gin").write_text("include 'gs://bucket/model.gin'\nLABEL_SMOOTHING = 0.3\n")
    configuration.parse(["gs://bucket/all.gin"])
    assert bound("losses.LossConfig.label_smoothing") == 0.3
    for path, message in {
        "gs://bucket/any.gin": "'gs://bucket/any.gin' is in none of",
        "https://a.b/all.gin": "'https://a.b/all.gin' is in none of",
        "gs://closed/all.gin": "A bucket must answer; .* gave RuntimeError: no rights. Check its",
    }.items():
        with pytest.raises(errors.ConfigurationError, match=message):
            configuration.parse([path])


def test_flags_bind_after_files(folder):
    configuration.parse(["model.gin"], flags("LABEL_SMOOTHING=0.2"))
    assert bound("losses.LossConfig.label_smoothing") == 0.2


def test_a_flag_binds_a_class_that_no_file_has_bound(folder):
    configuration.parse(["model.gin"], flags("HypernetworkConfig.bottleneck_dim=3"))
    assert bound("HypernetworkConfig.bottleneck_dim") == 3


def test_a_scoped_flag_binds_in_its_scope_alone(folder):
    configuration.parse(["model.gin"], flags("encoder/config.AdapterConfig.norm_input=True"))
    encoder = bound("config.TransformerConfig.encoder_adapter")
    assert (encoder.norm_input, encoder.bottleneck_dim, encoder.source) == (True, 8, "manual")


def test_a_flag_may_refer_to_a_class(folder):
    configuration.parse(
        ["model.gin"], flags("TransformerConfig.decoder_adapter=@decoder/AdapterConfig()")
    )
    assert bound("config.TransformerConfig.decoder_adapter").source == "none"


def test_the_returned_text_binds_the_same_again(folder):
    text = configuration.parse(["model.gin"], flags("BOTTLENECK_DIM=5"))
    (folder / "again.gin").write_text(text)
    assert configuration.parse(["again.gin"]) == text
    assert bound("BOTTLENECK_DIM/gin.macro.value") == 5


def test_a_second_parse_forgets_the_first(folder):
    configuration.parse(["model.gin"], flags("BOTTLENECK_DIM=5"))
    configuration.parse(["model.gin"])
    assert bound("BOTTLENECK_DIM/gin.macro.value") == 8


def test_files_are_found_in_this_folder_then_in_given_ones_then_in_the_package(folder):
    other = folder / "other"
    other.mkdir()
    (other / "model.gin").write_text("")
    (other / "only_here.gin").write_text("")
    path = configuration.search_path([str(other)])
    assert configuration.find_file("model.gin", path) == "model.gin"
    assert configuration.find_file("only_here.gin", path) == str(other / "only_here.gin")
    assert configuration.find_file("optim/adamw_linear.gin", path).endswith("adamw_linear.gin")


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("3", 3),
        ("1e-3", 1e-3),
        ("None", None),
        ("'a b'", "a b"),
        ('"/quoted/as/T5X/wants"', "/quoted/as/T5X/wants"),
        ("('relu',)", ("relu",)),
        ("{'inputs': 8}", {"inputs": 8}),
        ("/a/b", "/a/b"),
        ("gs://bucket/run 1", "gs://bucket/run 1"),
        ("glue_cola_v200", "glue_cola_v200"),
        ("12abc", "12abc"),
        ("", ""),
    ],
)
def test_a_flag_that_is_no_gin_value_is_a_string(folder, value, expected):
    (folder / "one.gin").write_text(
        MODEL_FILE.replace(
            "config.TransformerConfig.encoder",
            "config.TransformerConfig.dtype = %ANY\nconfig.TransformerConfig.encoder",
        )
    )
    configuration.parse(["one.gin"], [configuration.to_binding("ANY", value)])
    assert bound("ANY/gin.macro.value") == expected


RUN_FILE = """
from __gin__ import dynamic_registration

import a_module_that_is_not_there as trainer
from hyperdecoders_jax.modeling import config

BOTTLENECK_DIM = 3
include 'model.gin'

TRAIN_STEPS = %gin.REQUIRED
ACTIVATIONS = ['relu', ('gelu',), {'silu': %BOTTLENECK_DIM}]
trainer.Trainer.num_steps = %TRAIN_STEPS
config.TransformerConfig.mlp_activations = %ACTIVATIONS
config.TransformerConfig.decoder_adapter = @decoder/config.AdapterConfig()
"""


def parse_needed(folder, *arguments, file=RUN_FILE):
    (folder / "run.gin").write_text(file)
    configuration.parse(
        ["run.gin"], flags(*arguments), function=config.TransformerConfig,
        are_macros_checked=False, is_all_bound=False,
    )  # fmt: skip


def test_what_a_call_does_not_read_is_neither_bound_nor_imported_nor_required(folder):
    parse_needed(folder)
    assert bound("config.TransformerConfig.encoder_adapter").bottleneck_dim == 8
    assert bound("config.TransformerConfig.decoder_adapter").bottleneck_dim == 64
    with pytest.raises(ValueError, match="no bound parameters"):
        bound("losses.LossConfig.label_smoothing")


def test_what_a_call_reads_is_bound_as_with_all_the_rest(folder):
    parse_needed(folder, "encoder/AdapterConfig.norm_input=True", "BOTTLENECK_DIM=5")
    activations = gin.query_parameter("ACTIVATIONS/gin.macro.value")
    assert repr(activations) == "['relu', ('gelu',), {'silu': %BOTTLENECK_DIM}]"
    encoder = bound("config.TransformerConfig.encoder_adapter")
    assert (encoder.norm_input, encoder.bottleneck_dim) == (True, 5)


THEIR_FILE = f"""{MODEL_FILE}
import nowhere.engine
from nowhere.engine import runs as theirs
import nowherebut.here

ENGINE = @theirs.Engine()
SPEED = 3
theirs.Engine.speed = %SPEED
nowhere.engine.go.engine = %ENGINE
scope/config.AdapterConfig.source = @theirs.source
"""


def test_modules_that_are_left_out_are_neither_imported_nor_bound(folder):
    (folder / "run.gin").write_text(THEIR_FILE)
    with pytest.raises(ValueError, match=r"run.gin:\d+ imports 'nowherebut.here'"):
        configuration.parse(["run.gin"], left_out=["nowhere"])
    text = configuration.parse(["run.gin"], flags("SPEED=4"), left_out=["nowhere", "nowherebut"])
    assert bound("config.TransformerConfig.encoder_adapter").bottleneck_dim == 8
    assert bound("losses.LossConfig.label_smoothing") == 0.0
    assert "nowhere" not in text
    assert "scope/" not in text


def test_a_mistake_in_what_a_call_reads_is_told_without_the_rest(folder):
    with pytest.raises(ValueError, match="Did you mean 'decoder_adapter'"):
        parse_needed(folder, file=RUN_FILE.replace(".decoder_adapter", ".decodr_adapter"))
    with pytest.raises(ValueError, match=r"ACTIVATIONS \(read in run.gin:13\) is set by no file"):
        parse_needed(folder, file=RUN_FILE.replace("\nACTIVATIONS =", "\nTRAIN_STEPS ="))
    with pytest.raises(ValueError, match=r"BOTTLENEK_DIM .*Did you mean 'BOTTLENECK_DIM'"):
        parse_needed(folder, "BOTTLENEK_DIM=3")
    with pytest.raises(ValueError, match="names 'Trainer'"):
        parse_needed(folder, "Trainer.num_steps=3")


# Mistakes. Each is told in three parts, with the nearest name.


def test_a_missing_file_is_told_with_where_it_was_searched(folder):
    with pytest.raises(
        ValueError, match=r"adamw_liner.gin' is in none of .*'optim/adamw_linear.gin'"
    ):
        configuration.parse(["optim/adamw_liner.gin"])


def test_a_missing_include_is_told_with_who_includes_it(folder):
    (folder / "run.gin").write_text("include 'modl.gin'")
    with pytest.raises(ValueError, match=r"included by run.gin.*Did you mean 'model.gin'"):
        configuration.parse(["run.gin"])


def test_a_circle_of_includes_is_told(folder):
    (folder / "a.gin").write_text("include 'b.gin'")
    (folder / "b.gin").write_text("include 'a.gin'")
    with pytest.raises(ValueError, match="must not go round in a circle"):
        configuration.parse(["a.gin"])


def test_a_macro_that_nobody_reads_is_told(folder):
    with pytest.raises(ValueError, match=r"LABEL_SMOTHING .*read by none.*'LABEL_SMOOTHING'"):
        configuration.parse(["model.gin"], flags("LABEL_SMOTHING=0.1"))


def test_a_macro_that_nobody_sets_is_told(folder):
    (folder / "model.gin").write_text(MODEL_FILE.replace("BOTTLENECK_DIM = 8", ""))
    with pytest.raises(ValueError, match=r"BOTTLENECK_DIM \(read in model.gin:\d+\) is set by no"):
        configuration.parse(["model.gin"])


def test_a_required_macro_is_told_with_the_file_that_erased_it(folder):
    (folder / "run.gin").write_text("include 'model.gin'\nBOTTLENECK_DIM = %gin.REQUIRED")
    with pytest.raises(ValueError, match=r"BOTTLENECK_DIM must be set; run.gin:2 declares"):
        configuration.parse(["run.gin"])
    configuration.parse(["run.gin"], flags("BOTTLENECK_DIM=2"))


def test_an_unknown_parameter_is_told_in_a_file_and_in_a_flag(folder):
    with pytest.raises(ValueError, match=r"sets 'botleneck_dim'. Did you mean 'bottleneck_dim'"):
        configuration.parse(["model.gin"], flags("AdapterConfig.botleneck_dim=3"))
    (folder / "model.gin").write_text(MODEL_FILE.replace("  source =", "  sorce ="))
    with pytest.raises(ValueError, match=r"model.gin:12 sets 'sorce'. Did you mean 'source'"):
        configuration.parse(["model.gin"])


def test_an_unknown_class_is_told_in_a_file_and_in_a_flag(folder):
    with pytest.raises(ValueError, match=r"names 'AdapterConfg'. Did you mean 'AdapterConfig'"):
        configuration.parse(["model.gin"], flags("AdapterConfg.source=manual"))
    (folder / "model.gin").write_text(MODEL_FILE.replace("losses.LossConfig", "losses.LosConfig"))
    with pytest.raises(ValueError, match=r"has no 'LosConfig'. Did you mean 'LossConfig'"):
        configuration.parse(["model.gin"])
    (folder / "model.gin").write_text(MODEL_FILE.replace("losses.LossConfig", "loses.LossConfig"))
    with pytest.raises(ValueError, match=r"names 'loses.LossConfig'.* Did you mean 'losses'"):
        configuration.parse(["model.gin"])


def test_a_module_that_is_not_there_is_told(folder):
    (folder / "model.gin").write_text(MODEL_FILE.replace("modeling import", "modelling import"))
    with pytest.raises(ValueError, match=r"no 'hyperdecoders_jax.modelling'.*'modeling'"):
        configuration.parse(["model.gin"])


def test_an_ambiguous_flag_is_told(folder):
    (folder / "model.gin").write_text(
        MODEL_FILE.replace("import losses\n", "import losses\nimport copies\n")
    )
    (folder / "copies.py").write_text("class LossConfig:\n  def __init__(self, z_loss): pass")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        with pytest.raises(ValueError, match=r"could be any of .*Write more of its name"):
            configuration.parse(["model.gin"], flags("LossConfig.z_loss=1.0"))


def test_a_line_that_is_no_gin_is_told(folder):
    (folder / "model.gin").write_text("A = 3\nthis is no gin\n")
    with pytest.raises(ValueError, match=r"model.gin:2 is none of them"):
        configuration.parse(["model.gin"])


def test_an_open_bracket_in_a_flag_is_told(folder):
    with pytest.raises(ValueError, match=r"must be one gin value; got '\(1,'.*Close its brackets"):
        configuration.to_binding("SIZES", "(1,")


def test_a_flag_that_is_no_binding_is_told(folder):
    with pytest.raises(ValueError, match="must be a binding NAME=VALUE"):
        configuration.parse(["model.gin"], ["include 'other.gin'"])


def parse_run(*arguments, files=(), are_macros_checked=True):
    configuration.parse(
        ["runs/embedded/train.gin", "experiments/demo_hyperdecoder.gin", *files],
        flags("MODEL_DIR=/nowhere", *arguments),
        function=train.train,
        are_macros_checked=are_macros_checked,
    )


@pytest.mark.parametrize(
    "flag",
    [
        "decoder/AdapterConfig.norm_input=True",
        "AdapterConfig.norm_input=True",
        "decoder/HypernetworkConfig.pooled_mlp=False",
        "PipelineConfig.shuffle=False",
        "SCHEDULE=@schedules.ConstantConfig()",
    ],
)
def test_a_flag_that_is_used_is_taken(flag):
    parse_run(flag, are_macros_checked=False)


@pytest.mark.parametrize(
    ("flag", "message"),
    [
        ("decodr/AdapterConfig.norm_input=True", "Did you mean 'decoder/AdapterConfig.norm_input'"),
        ("AdapterConfig.bottleneck_dim=3", "coder/AdapterConfig.bottleneck_dim'"),
        ("encoder/HypernetworkConfig.pooled_mlp=False", "'decoder/HypernetworkConfig.pooled_mlp'"),
        ("AdafactorConfig.clip_norm=2.0", "Did you mean 'AdamWConfig.clip_norm'"),
        ("ConstantConfig.learning_rate=2.0", "Did you mean 'LinearConfig.learning_rate'"),
        ("SamplingConfig.temperature=0.5", "temperature of SamplingConfig, which is not read"),
    ],
)
def test_a_flag_that_nothing_uses_is_told(flag, message):
    name = re.escape(f"A flag must set what this run uses; --gin.{flag} sets ")
    with pytest.raises(ValueError, match=f"{name}.*{message}.*Correct the flag, or leave it out"):
        parse_run(flag)


def test_a_macro_that_only_unused_parts_read_is_told(folder):
    (folder / "constant.gin").write_text(
        "from __gin__ import dynamic_registration\n"
        "from hyperdecoders_jax.training import schedules\n"
        "SCHEDULE = @schedules.ConstantConfig()\n"
        "schedules.ConstantConfig.learning_rate = 0.1\n"
    )
    files = ["constant.gin"]
    with pytest.raises(ValueError, match=r"sets WARMUP_STEPS, which only parts .* Leave the flag"):
        parse_run("WARMUP_STEPS=3", files=files)
    parse_run("WARMUP_STEPS=3", files=files, are_macros_checked=False)


def test_files_may_bind_what_nothing_uses(folder):
    configuration.parse(["model.gin"], function=config.AdapterConfig)


@pytest.mark.parametrize(
    ("flag", "message"),
    [
        ("LEARNING_RATE=fast", "LEARNING_RATE (set in --gin.LEARNING_RATE='fast') is 'fast', and "
         "learning_rate of LinearConfig is of type float. Correct"),
        ("BATCH_SIZE=64x", "is '64x', and batch_size of PipelineConfig is of type int."),
        ("PipelineConfig.shuffle=1", "shuffle is 1, and shuffle of PipelineConfig is of type bool"),
        ("EVAL_EXAMPLES=2.5", "is 2.5, and eval_examples of train is of type int | None."),
        ("TASK_FEATURE_LENGTHS=32", "is 32, and task_feature_lengths of"),
        ("TASK_NAMES=demo_topic", "is 'demo_topic', and task_names of"),
    ],
)  # fmt: skip
def test_a_value_of_another_type_is_told(flag, message):
    with pytest.raises(ValueError, match=f"A value must have the type .*{re.escape(message)}"):
        parse_run(flag)
