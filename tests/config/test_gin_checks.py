"""Names in gin files and flags against the code, and what a call uses of them."""

import re

import pytest

from hyperdecoders_jax import errors
from hyperdecoders_jax.commands import train
from hyperdecoders_jax.modeling import config
from tests.commands import tiny_runs
from tests.config.parsing import MODEL_FILE, flags, parse


def test_an_unknown_parameter_is_told_in_a_file_and_in_a_flag(folder):
    with pytest.raises(ValueError, match=r"sets 'botleneck_dim'. Did you mean 'bottleneck_dim'"):
        parse(["model.gin"], flags("AdapterConfig.botleneck_dim=3"))
    (folder / "model.gin").write_text(MODEL_FILE.replace("  source =", "  sorce ="))
    with pytest.raises(ValueError, match=r"model.gin:12 sets 'sorce'. Did you mean 'source'"):
        parse(["model.gin"])


def test_an_unknown_class_is_told_in_a_file_and_in_a_flag(folder):
    with pytest.raises(ValueError, match=r"names 'AdapterConfg'. Did you mean 'AdapterConfig'"):
        parse(["model.gin"], flags("AdapterConfg.source=manual"))
    (folder / "model.gin").write_text(MODEL_FILE.replace("losses.LossConfig", "losses.LosConfig"))
    with pytest.raises(ValueError, match=r"has no 'LosConfig'. Did you mean 'LossConfig'"):
        parse(["model.gin"])
    (folder / "model.gin").write_text(MODEL_FILE.replace("losses.LossConfig", "loses.LossConfig"))
    with pytest.raises(ValueError, match=r"names 'loses.LossConfig'.* Did you mean 'losses'"):
        parse(["model.gin"])


def test_a_module_that_is_not_there_is_told(folder):
    (folder / "model.gin").write_text(MODEL_FILE.replace("modeling import", "modelling import"))
    with pytest.raises(ValueError, match=r"no 'hyperdecoders_jax.modelling'.*'modeling'"):
        parse(["model.gin"])


def test_an_ambiguous_flag_is_told(folder):
    (folder / "model.gin").write_text(
        MODEL_FILE.replace("import losses\n", "import losses\nimport copies\n")
    )
    (folder / "copies.py").write_text("class LossConfig:\n  def __init__(self, z_loss): pass")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        with pytest.raises(ValueError, match=r"could be any of .*Write more of its name"):
            parse(["model.gin"], flags("LossConfig.z_loss=1.0"))


def parse_run(*arguments, files=(), are_macros_checked=True):
    parse(
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
    parse(["model.gin"], function=config.AdapterConfig)


@pytest.mark.parametrize(
    ("flag", "message"),
    [
        ("LEARNING_RATE=fast", "LEARNING_RATE (set in --gin.LEARNING_RATE='fast') is 'fast', and "
         "learning_rate of LinearConfig is of type float. Correct"),
        ("BATCH_SIZE=64x", "is '64x', and batch_size of PipelineConfig is of type int."),
        ("PipelineConfig.shuffle=1", "shuffle is 1, and shuffle of PipelineConfig is of type bool"),
        ("EVAL_EXAMPLES=2.5", "num_examples of EvaluationConfig is of type int | None."),
        ("TASK_FEATURE_LENGTHS=32", "is 32, and task_feature_lengths of"),
        ("TASK_NAMES=demo_topic", "is 'demo_topic', and task_names of"),
    ],
)  # fmt: skip
def test_a_value_of_another_type_is_told(flag, message):
    with pytest.raises(ValueError, match=f"A value must have the type .*{re.escape(message)}"):
        parse_run(flag)


@pytest.mark.parametrize(
    ("flag", "message"),
    [
        ("GENERATION=3", "GENERATION (set in --gin.GENERATION=3) is 3, and generation of Eval"),
        ("GENERATION={'a': (3, 'x')}", "is {'a': (3, 'x')}, and generation of EvaluationConfig"),
        ("LEFT_OUT_METRICS=(3,)", "is (3,), and left_out"),
        ("TASK_FEATURE_LENGTHS={'inputs': 'x', 'targets': 4}", "and task_feature_lengths of Pi"),
        ("MODEL=3", "is 3, and model of RunConfig is of type Model. Correct it."),
        ("TRAIN_STEPS=1e3", "num_train_steps of TrainerConfig is of type int. Write 1000."),
    ],
)
def test_a_value_inside_another_or_of_a_class_has_its_type(flag, message):
    with pytest.raises(ValueError, match=f"A value must have the type .*{re.escape(message)}"):
        parse_run(flag, are_macros_checked=False)


@pytest.mark.parametrize(
    ("field", "message"),
    [
        ("optimizer", "RunConfig.optimizer must have a method precondition; got 3. Give an"),
        ("schedule", "RunConfig.schedule must have a method make; got 3. Give an object such as"),
    ],
)
def test_an_optimizer_or_a_schedule_that_is_none_is_told(field, message):
    with pytest.raises(ValueError, match=message):
        tiny_runs.make_config(**{field: 3})


def test_a_call_that_needs_its_own_result_is_told(folder):
    (folder / "run.gin").write_text(
        "from __gin__ import dynamic_registration\n"
        "from hyperdecoders_jax import model\n"
        "model.Model.config = @model.Model()\n"
    )
    message = r"must not need its own result; MODEL/model.Model -> MODEL/model.Model is a circle"
    with pytest.raises(errors.ConfigurationError, match=message):
        parse_run(files=["run.gin"], are_macros_checked=False)


def test_a_scope_that_is_written_with_a_dot_is_told_with_a_slash(folder):
    message = r"Did you mean '--gin.decoder/AdapterConfig.norm_input=True'\?"
    with pytest.raises(errors.ConfigurationError, match=message):
        parse_run("decoder.AdapterConfig.norm_input=True")
    (folder / "model.gin").write_text(MODEL_FILE.replace("encoder/config", "encoder.config"))
    message = r"names 'encoder.config.AdapterConfig'.*Did you mean 'encoder/config.AdapterConfig'"
    with pytest.raises(errors.ConfigurationError, match=message):
        parse(["model.gin"])
