"""A run without its config.json is data that nobody reads: upgrade, once asked, writes it."""

import json
import shutil

import pytest

import hyperdecoders_jax
from hyperdecoders_jax import errors
from hyperdecoders_jax.commands import main
from hyperdecoders_jax.weights import run_folder
from tests.commands.test_t5x_run import ours, theirs  # noqa: F401 (fixtures)

# What the version of commit 32af0c9 saved beside the macros and parts that are bound still.
OLD_STATEMENTS = """
train_script.train.data = @pipeline.PipelineConfig()
train_script.train.eval_batch_size = %EVAL_BATCH_SIZE
train_script.train.eval_examples = %EVAL_EXAMPLES
train_script.train.eval_split = %EVAL_SPLIT
train_script.train.frozen_dtype = %FROZEN_DTYPE
train_script.train.generation = %GENERATION
train_script.train.initial_checkpoint_path = %INITIAL_CHECKPOINT_PATH
train_script.train.model = %MODEL
train_script.train.model_dir = %MODEL_DIR
train_script.train.optimizer = %OPTIMIZER
train_script.train.pack = %PACK
train_script.train.partitioning_config = @partitioning.PartitioningConfig()
train_script.train.random_seed = %RANDOM_SEED
train_script.train.schedule = %SCHEDULE
train_script.train.trainable = %TRAINABLE
train_script.train.trainer_config = @trainer.TrainerConfig()
train_script.train.vocabulary = %VOCABULARY
"""
# What it did not know.
NEW = ("run_config", "evaluation.EvaluationConfig", "PipelineConfig.pack")


pytestmark = pytest.mark.usefixtures("forget_configuration")


def as_of_an_earlier_version(run, folder):
    """A copy that does not describe itself, in another place, as the package saved it then."""
    folder = shutil.copytree(run, folder)
    fields = json.loads((folder / run_folder.CONFIG_FILE).read_text())
    (folder / run_folder.CONFIG_FILE).unlink()
    (folder / "spiece.model").unlink()
    config = folder / run_folder.SAVED_GIN
    text = config.read_text().replace(str(run), str(folder))
    if fields["runner"] == "embedded":
        lines = [line for line in text.splitlines() if not any(name in line for name in NEW)]
        text = "\n".join(lines) + OLD_STATEMENTS
        text = text.replace(
            "from hyperdecoders_jax.commands import", "from hyperdecoders_jax import"
        )
    config.write_text(text)
    return folder, fields


@pytest.fixture(params=["ours", "theirs"])
def run(request, tmp_path):
    """A run of each runner, and its config.json."""
    return as_of_an_earlier_version(request.getfixturevalue(request.param), tmp_path / "run")


def test_the_description_of_a_run_is_written_again(run, capsys):
    folder, fields = run
    assert main.main(["upgrade", f"--model_dir={folder}"]) == 0
    out = capsys.readouterr().out
    assert f"Reading {folder}/config.gin, which is a program" in out
    assert f"Wrote {folder}/config.json.\n" in out
    again = json.loads((folder / run_folder.CONFIG_FILE).read_text())
    assert again.pop("made_by").startswith("hyperdecoders_jax ")
    fields.pop("made_by")
    assert again == fields
    assert hyperdecoders_jax.load(folder).predict(["topic: a pear"])
    # Once is enough.
    assert main.main(["upgrade", f"--model_dir={folder}"]) == 2
    assert "reads a run that has a config.gin and no config.json" in capsys.readouterr().err


@pytest.mark.parametrize(
    "command",
    [
        ["convert", "--from=run:{run}", "--to=adapters:{new}"],
        ["export", "--checkpoint={run}", "--output={new}"],
        ["infer", "--checkpoint={run}", f"--input={__file__}"],
        ["infer", "--model_dir={run}", f"--input={__file__}"],
        ["eval", "--model_dir={run}", "--gin.EVAL_SPLIT=test"],
        ["analyze", "--checkpoint={run}", "--output={new}", "--mixture=demo"],
    ],
    ids=lambda command: " ".join(command[:2]),
)
def test_commands_refuse_a_run_that_does_not_describe_itself(ours, tmp_path, capsys, command):  # noqa: F811
    folder, _ = as_of_an_earlier_version(ours, tmp_path / "run")
    places = {"run": folder, "new": tmp_path / "new"}
    assert main.main([part.format(**places) for part in command]) == 2
    message = capsys.readouterr().err
    assert "has config.gin alone, which is a program. If you trust it, write" in message
    assert f"hyperdecoders upgrade --model_dir={folder}" in message
    assert not (tmp_path / "new").exists()


def test_load_refuses_a_run_that_does_not_describe_itself(ours, tmp_path):  # noqa: F811
    folder, _ = as_of_an_earlier_version(ours, tmp_path / "run")
    with pytest.raises(errors.UsageError, match=rf"hyperdecoders upgrade --model_dir={folder}"):
        hyperdecoders_jax.load(folder)


def test_a_checkpoint_of_t5x_may_be_that_of_such_a_run(theirs, tmp_path):  # noqa: F811
    folder, _ = as_of_an_earlier_version(theirs, tmp_path / "run")
    with pytest.raises(ValueError, match=r"format t5x, .*hyperdecoders upgrade --model_dir=FOLDER"):
        hyperdecoders_jax.load(folder)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "needs the model directory of a run; got --model_dir=None"),
        (["--model_dir={}/none"], "needs the model directory of a run; got --model_dir="),
        (["--model_dir={}"], "has a config.gin and no config.json; "),
    ],
)
def test_what_is_no_run_is_refused(tmp_path, capsys, arguments, message):
    assert main.main(["upgrade", *(flag.format(tmp_path) for flag in arguments)]) == 2
    assert message in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
