"""A tiny run compiled for TPUs; its estimates need no more than shapes."""

import dataclasses
import importlib.metadata
import importlib.util
import re

import jax
import pytest

from hyperdecoders_jax.evaluation.config import EvaluationConfig
from hyperdecoders_jax.model import Model
from hyperdecoders_jax.planning import chips, planner, programs
from hyperdecoders_jax.planning.planner import Options, Planner
from hyperdecoders_jax.training import partitioning
from hyperdecoders_jax.training.trainer import TrainerConfig
from tests import tiny
from tests.commands import tiny_runs

needs_compiler = pytest.mark.skipif(
    importlib.util.find_spec("libtpu") is None, reason="needs the TPU compiler"
)
PRICES = {"v5e": None}
SIZES = dict(vocab_size=32, num_encoder_layers=1, num_decoder_layers=1, num_tasks=None)


@pytest.fixture(scope="module", autouse=True)
def _tasks():
    import hyperdecoders_jax.tasks.mixtures  # noqa: F401


def make_run(**fields):
    model = Model(tiny.make_config(**SIZES))
    return tiny_runs.make_config(model=model, trainer=TrainerConfig(50), **fields)


def packed(run, **fields):
    return dataclasses.replace(run, data=dataclasses.replace(run.data, pack=True, **fields))


def test_all_combinations_are_tried_and_the_runs_own_values_else():
    options = Options(("v5e:2x2", "v6e:2x2"), (1, 2), remat=("none", "layer"))
    found = options.choices(make_run())
    assert len(found) == 8
    assert {x.num_microbatches for x in found} == {1}
    decoding = dataclasses.replace(options, is_for_training=False).choices(make_run())
    assert [(x.topology, x.model_parallel, x.remat) for x in decoding] == [
        ("v5e:2x2", 1, None), ("v5e:2x2", 2, None), ("v6e:2x2", 1, None), ("v6e:2x2", 2, None),
    ]  # fmt: skip
    assert found[1] == dataclasses.replace(found[0], remat="layer")


def test_packed_rows_must_be_counted_where_examples_are_asked_for():
    run = packed(make_run(), examples_per_step=16)
    with pytest.raises(
        ValueError, match=r"packed rows hold .* EXAMPLES_PER_STEP=16 alone\. Give --rows"
    ):
        Planner(run, Options(("v5e:2x2",)), PRICES)
    with pytest.raises(ValueError, match=r"--rows must go with EXAMPLES_PER_STEP, .* --rows=3 "):
        Planner(make_run(), Options(("v5e:2x2",), num_rows=3), PRICES)
    made = Planner(run, Options(("v5e:2x2",), num_rows=8), PRICES)
    assert made._num_rows == 8


def test_a_batch_has_the_lengths_and_segments_of_the_run():
    partitioner = partitioning.make_partitioner(devices=jax.devices()[:1])
    plain = programs.batch_shapes(4, tiny_runs.LENGTHS, partitioner)
    assert plain.encoder_input_tokens.shape == (4, 8)
    assert (plain.task_ids.shape, plain.is_packed) == ((4,), False)
    rows = programs.batch_shapes(4, tiny_runs.LENGTHS, partitioner, max_segments=3)
    assert (rows.task_ids.shape, rows.decoder_positions.shape) == ((4, 3), (4, 4))


def test_bytes_of_a_chip_are_those_of_its_shard():
    partitioner = partitioning.make_partitioner(devices=jax.devices()[:1])
    key = jax.ShapeDtypeStruct((), jax.random.key(0).dtype, sharding=partitioner.replicated)
    batch = programs.batch_shapes(4, tiny_runs.LENGTHS, partitioner)
    assert programs.chip_bytes((key, batch)) == 4 * 4 * (8 + 3 * 4 + 1)


@needs_compiler
def test_a_train_step_is_compiled_for_a_slice():
    options = Options(("v5e:2x2",), (2, 3), is_fast=True)
    made = list(Planner(make_run(), options, PRICES).estimates())
    assert "must divide the number of devices; got 3 and 4" in made[1].problem
    found = made[0]
    assert found.fits
    assert found.num_chips == 4
    assert found.figures.cycles > 0
    assert found.figures.sent_bytes["all-reduce"] > 0
    # What is sharded is smaller than the whole, and all that is told is what the compiler counts.
    memory = found.memory
    counted = memory.weights + memory.optimiser + memory.batch + memory.other
    assert counted == found.figures.argument_bytes
    total = sum(4 * x.size for x in jax.tree.leaves(make_run().model.param_shapes()))
    assert total / 2 < memory.weights < total


def test_a_loop_over_layers_is_compiled_in_full():
    class Whole:
        def figures(self):
            return "of the whole program"

    made = Planner(make_run(), Options(("v5e:2x2",), is_fast=True), PRICES)
    deep = planner.cut(make_run().model, 5, 5)
    compute = dataclasses.replace(deep.config.compute, scan_layers=True)
    scanned = Model(dataclasses.replace(deep.config, compute=compute))
    assert made._figures(scanned, Whole(), None, None) == "of the whole program"


def test_a_compiler_that_writes_no_cycles_is_told(monkeypatch):
    monkeypatch.setattr(importlib.metadata, "version", {"libtpu": "7"}.__getitem__)
    message = r"must write estimated cycles .* libtpu 7 wrote none\. .*jax\[train,tpu\]'"
    with pytest.raises(ValueError, match=message):
        programs.check_cycles(0)
    assert programs.check_cycles(3) == 3


@needs_compiler
def test_where_nothing_can_be_partitioned_it_is_told():
    options = Options(("v5e:2x2",), (3,))
    with pytest.raises(ValueError, match="must divide the number of devices; got 3 and 4"):
        list(Planner(make_run(), options, PRICES).estimates())


def test_decoding_takes_the_task_whose_texts_cost_most():
    generation = {"demo_find": (4, 2), "demo_topic": (3, 1)}
    run = make_run(evaluation=EvaluationConfig(batch_size=3, generation=generation))
    assert planner._longest(run) == "demo_find"
    assert planner._longest(make_run()) is None
    assert re.search(
        r"Not counted: .* of 3 examples x 2 beams, up to 4 tokens, .* --for=infer",
        planner.uncounted(run),
    )
    assert planner.uncounted(make_run(split=None)) is None


def test_a_slice_without_the_compiler_is_no_choice(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ImportError, match="libtpu"):
        next(Planner(make_run(), Options(("v5e:2x2",)), PRICES).estimates())
    assert chips.of("v5e:2x2").clock == 1.5e9
