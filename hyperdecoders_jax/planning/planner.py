"""A run tried on slices: each choice is compiled, and what the compiler says is estimated."""

from __future__ import annotations

import dataclasses
import functools
import itertools
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import jax

from hyperdecoders_jax import errors
from hyperdecoders_jax.data import mixtures
from hyperdecoders_jax.decoding import decode
from hyperdecoders_jax.model import Model
from hyperdecoders_jax.planning import chips, flops, programs
from hyperdecoders_jax.planning.estimate import NUM_PRICED, Choice, Estimate, Memory, Work
from hyperdecoders_jax.trained import placed
from hyperdecoders_jax.training import partitioning, trainer
from hyperdecoders_jax.training import trainable as trainable_lib
from hyperdecoders_jax.training.partitioning import Partitioner

if TYPE_CHECKING:
    from hyperdecoders_jax.config.run_config import RunConfig


@dataclasses.dataclass(frozen=True)
class Options:
    """What is tried; an empty sequence is the run's own value."""

    topologies: Sequence[str]
    model_parallel: Sequence[int] = ()
    num_microbatches: Sequence[int] = ()
    remat: Sequence[str] = ()
    num_rows: int | None = None  # Of a packed batch that EXAMPLES_PER_STEP asks for.
    is_fast: bool = False  # From programs of few layers.
    is_for_training: bool = True

    def choices(self, run: RunConfig) -> list[Choice]:
        """All combinations, in the order in which they are given."""
        tried = [self.topologies, self.model_parallel or [run.partitioning.model_parallel]]
        if self.is_for_training:  # Decoding has no gradient.
            tried.append(self.num_microbatches or [run.trainer.num_microbatches])
            tried.append(self.remat or [run.model.config.compute.remat])
        return [Choice(*values) for values in itertools.product(*tried)]


class Planner:
    """Estimates choices for one run, which needs no data and no weights."""

    def __init__(self, run: RunConfig, options: Options, prices: dict[str, float | None]):
        names = mixtures.resolve_task_names(run.data.mixture_or_task_name, run.data.task_names)
        self._run = dataclasses.replace(run, model=run.model.for_tasks(names))
        self._options, self._prices = options, prices
        self._num_rows, self._lengths = self._sizes()

    def estimates(self) -> Iterator[Estimate]:
        """Each choice's estimate, as soon as it is compiled.

        ValueError if none of them can be partitioned, ImportError without the compiler.
        """
        choices = self._options.choices(self._run)
        devices = {x.topology: chips.devices(x.topology) for x in choices}
        errors_of = []
        for choice in choices:
            try:
                yield self._estimate(choice, devices[choice.topology])
            except ValueError as error:
                errors_of.append(error)
                yield self._without_figures(choice, devices[choice.topology], str(error))
        if len(errors_of) == len(choices):
            raise errors_of[0]

    def _sizes(self) -> tuple[int, dict[str, int]]:
        data = self._run.data
        if not self._options.is_for_training:
            return self._run.eval_batch_size, dict(data.task_feature_lengths)
        if data.examples_per_step is None and self._options.num_rows is not None:
            raise ValueError(
                "--rows must go with EXAMPLES_PER_STEP, which packs as many rows as it needs; got "
                f"--rows={self._options.num_rows} without it. Set BATCH_SIZE, which counts rows."
            )
        if data.examples_per_step is not None and self._options.num_rows is None:
            raise ValueError(
                "A plan reads no data, so it must be told how many packed rows hold the examples "
                f"of a step; got EXAMPLES_PER_STEP={data.examples_per_step} alone. Give --rows=N: "
                "`train` prints it as it starts, and docs/packing.md has examples."
            )
        lengths = data.packed_lengths if data.pack else dict(data.task_feature_lengths)
        return self._options.num_rows or data.batch_size, lengths

    @functools.cached_property
    def _work(self) -> Work:
        run, num_rows = self._run, self._num_rows
        if not self._options.is_for_training:
            return Work(NUM_PRICED / num_rows, num_rows, None)
        layers = [getattr(run.model.config, name) for name in programs.STACKS]
        lengths = (self._lengths["inputs"], self._lengths["targets"])
        models = [run.model]
        if min(layers) > programs.DEEPEST:  # To trace shallow ones is faster.
            models = [cut(run.model, *depth) for depth in programs.DEPTHS]
        found = [flops.of_example(model, run.trainable, *lengths) for model in models]
        total = found[0] if len(found) == 1 else programs.extend(*found, *layers)
        num_examples = run.data.examples_per_step or num_rows
        return Work(run.trainer.num_train_steps, num_examples, num_rows * total)

    def _estimate(self, choice: Choice, devices: Sequence[jax.Device]) -> Estimate:
        config = self._run.partitioning
        config = dataclasses.replace(config, model_parallel=choice.model_parallel)
        config.check_attention_heads(
            self._run.model.config.compute.attention_heads, self._run.model.config.num_heads
        )
        partitioner = partitioning.make_partitioner(config, devices)
        partitioner.check_batch_size(self._num_rows, choice.num_microbatches or 1)
        model = self._run.model
        if choice.remat is not None:
            model = _with_remat(model, choice.remat)
        lowered = self._lower(model, choice, partitioner)
        try:
            figures = self._figures(model, lowered, choice, partitioner)
        except RuntimeError as error:
            if (words := errors.memory_words(error)) is None:
                raise
            return self._without_figures(choice, devices, words)
        memory = self._memory(lowered, figures, choice, partitioner)
        return dataclasses.replace(
            self._without_figures(choice, devices, None), figures=figures, memory=memory
        )

    def _without_figures(
        self, choice: Choice, devices: Sequence[jax.Device], problem: str | None
    ) -> Estimate:
        chip, price = chips.of(choice.topology), self._prices[choice.topology.partition(":")[0]]
        return Estimate(choice, chip, len(devices), self._work, problem=problem, price=price)

    def _figures(
        self, model: Model, lowered: programs.Lowered, choice: Choice, partitioner: Partitioner
    ) -> programs.Figures:
        layers = [getattr(model.config, name) for name in programs.STACKS]
        # A loop compiles as fast in full, and its memory does not follow from few layers. Decoding
        # has none.
        is_loop = model.config.compute.scan_layers and self._options.is_for_training
        is_whole = not self._options.is_fast or is_loop
        if is_whole or min(layers) <= programs.DEEPEST:
            return lowered.figures()
        shallow = [cut(model, *depth) for depth in programs.DEPTHS]
        found = [self._lower(x, choice, partitioner).figures() for x in shallow]
        return programs.by_difference(found, *layers)

    def _lower(self, model: Model, choice: Choice, partitioner: Partitioner) -> programs.Lowered:
        run, data = self._run, self._run.data
        if not self._options.is_for_training:
            batch = programs.batch_shapes(self._num_rows, self._lengths, partitioner)
            generation = run.evaluation.generation or {}
            verbs = placed.Verbs(model, partitioner, run.max_target_len, generation)
            return programs.predict(verbs, _longest(run), self._placed(model), batch)
        segments = data.max_segments if data.pack else 0
        batch = programs.batch_shapes(self._num_rows, self._lengths, partitioner, segments)
        config = trainer.TrainerConfig(
            run.trainer.num_train_steps, num_microbatches=choice.num_microbatches
        )
        recipe = trainer.TrainingRecipe(model, run.optimizer, run.schedule, config)
        frozen_dtype = run.start.frozen_dtype
        return programs.train_step(recipe, run.trainable, frozen_dtype, partitioner, batch)

    def _placed(self, model: Model):
        """Shapes of all parameters as they are placed to decode."""
        trained, frozen = trainable_lib.split(model.param_shapes(), self._run.trainable)
        frozen_dtype = self._run.start.frozen_dtype
        frozen = jax.eval_shape(lambda x: trainable_lib.cast_frozen(x, frozen_dtype), frozen)
        return trainable_lib.merge(trained, frozen)

    def _memory(
        self,
        lowered: programs.Lowered,
        figures: programs.Figures,
        choice: Choice,
        partitioner: Partitioner,
    ) -> Memory:
        is_training = self._options.is_for_training
        parameters, optimiser = [lowered.shapes[0]], 0
        batch = programs.chip_bytes(lowered.shapes[2 if is_training else 1])
        if is_training:
            state, frozen, _ = lowered.shapes
            parameters, optimiser = [state.trainable, frozen], programs.chip_bytes(state.opt_state)
        weights = sum(map(programs.chip_bytes, parameters))
        return Memory(
            weights=weights,
            optimiser=optimiser,
            batch=batch,
            temporaries=figures.temporary_bytes,
            logits=self._logits_bytes(choice, partitioner),
            program=figures.program_bytes,
            other=figures.argument_bytes - weights - optimiser - batch,
        )

    def _logits_bytes(self, choice: Choice, partitioner: Partitioner) -> float:
        """Bytes of the logits, in float32, that one chip has at a time."""
        config = self._run.model.config
        shards = choice.model_parallel if config.vocab_size % choice.model_parallel == 0 else 1
        rows = self._num_rows / partitioner.num_data
        if not self._options.is_for_training:
            beams = decode.num_hypotheses(_decoding_of(self._run, _longest(self._run))[0])
            return 4 * rows * beams * config.vocab_size / shards
        length = self._lengths["targets"]
        length = min(length, config.compute.logits_chunk or length)
        return 4 * rows / choice.num_microbatches * length * config.vocab_size / shards


def cut(model: Model, num_encoder_layers: int, num_decoder_layers: int) -> Model:
    """The same model with so many layers."""
    depth = dict(zip(programs.STACKS, (num_encoder_layers, num_decoder_layers), strict=True))
    return dataclasses.replace(model, config=dataclasses.replace(model.config, **depth))


def _with_remat(model: Model, remat: str) -> Model:
    compute = dataclasses.replace(model.config.compute, remat=remat)
    return dataclasses.replace(model, config=dataclasses.replace(model.config, compute=compute))


def uncounted(run: RunConfig) -> str | None:
    """What the run's own evaluations decode beside the train step; None if it has none."""
    if run.evaluation.split is None:
        return None
    decoding, max_len = _decoding_of(run, _longest(run))
    return (
        "Not counted: the run's evaluations (EVAL_SPLIT), which decode batches of "
        f"{run.eval_batch_size} examples x {decode.num_hypotheses(decoding)} beams, up to "
        f"{max_len} tokens, beside the train state; --for=infer plans one."
    )


def _longest(run: RunConfig) -> str | None:
    """The task whose texts cost most to decode; None if it is decoded as others are."""

    def tokens(name):
        decoding, max_len = _decoding_of(run, name)
        return decode.num_hypotheses(decoding) * max_len

    return max([*(run.evaluation.generation or {}), None], key=tokens)


def _decoding_of(run: RunConfig, name: str | None) -> tuple[decode.DecodingConfig, int]:
    generation = run.evaluation.generation or {}
    return decode.for_task(run.model.decoding, run.max_target_len, generation, name)
