"""What eval is told by a run's configuration and by flags; whole runs are in test_train.py."""

import gin
import pytest

from hyperdecoders_jax.commands import cli, eval
from hyperdecoders_jax.config import gin_binding, gin_files


@pytest.mark.parametrize("command", ["eval", "infer"])
def test_the_batch_size_of_evaluation_reaches_eval_and_infer(command):
    run_file = cli.COMMANDS[command].run_file
    files = cli.with_run_file(["experiments/demo_hyperdecoder.gin"], run_file, [])
    bindings = ["MODEL_DIR = 'x'", "BATCH_SIZE = 6", "EVAL_BATCH_SIZE = 5"]
    gin_binding.parse(gin_files.read(files, bindings), readers=cli.TRAIN_FILES)
    function = {"eval": "evaluate"}.get(command, command)
    bound = gin.get_bindings(f"{command}_script.{function}")
    gin.clear_config()
    assert (bound["batch_size"], bound["eval_batch_size"]) == (6, 5)


def test_an_evaluation_without_a_split_is_refused():
    with pytest.raises(ValueError, match=r"got EVAL_SPLIT = None.*--gin.EVAL_SPLIT=validation"):
        eval.evaluate(
            trained=None,
            mixture_or_task_name="demo",
            task_feature_lengths={},
            split=None,
            batch_size=4,
            eval_batch_size=None,
            num_examples=None,
            generation=None,
            left_out_metrics=(),
            output_dir=None,
        )
