"""What eval is told by a run's configuration and by flags; whole runs are in test_train.py."""

import gin
import pytest

from hyperdecoders_jax.commands import configured, eval, flags
from hyperdecoders_jax.config import gin_binding
from tests.commands import tiny_runs


@pytest.mark.parametrize("command", ["eval", "infer"])
def test_the_batch_size_of_evaluation_reaches_eval_and_infer(command):
    bindings = ["MODEL_DIR = 'x'", "BATCH_SIZE = 6", "EVAL_BATCH_SIZE = 5"]
    given = configured.Sources(["experiments/demo_hyperdecoder.gin"], bindings)
    text = given.first(f"runs/embedded/{command}.gin").read()
    gin_binding.parse(text, readers=flags.TRAIN_FILES)
    function = {"eval": "evaluate"}.get(command, command)
    run = gin.get_bindings(f"{command}_script.{function}")["run"]
    gin.clear_config()
    assert (run.data.batch_size, run.eval_batch_size) == (6, 5)


def test_an_evaluation_without_a_split_is_refused():
    with pytest.raises(ValueError, match=r"got EVAL_SPLIT = None.*--gin.EVAL_SPLIT=validation"):
        eval.evaluate(tiny_runs.make_config(split=None), "best", None)
