"""A tiny run under T5X: its model, where its train state lies, and its compiled step."""

import functools
import pathlib

import jax
import numpy as np
import seqio
from flax.core import unfreeze
from t5x import partitioning, trainer, utils

from hyperdecoders_jax.t5x import partitioning as rules
from hyperdecoders_jax.t5x.model import HyperdecoderModel
from hyperdecoders_jax.weights import names
from tests.training import tiny

VOCABULARY = seqio.ByteVocabulary()

# T5's own part of the parameters.
PLAIN = ("token_embedder", "encoder", "decoder")


class Run:
    """What `t5x.train` makes of a model and an optimiser.

    Args:
      optimizer_def: the optimiser; None: the state of an evaluation.
      model: a `Model`; None: the tiny one.
      num_model: devices that share the parameters.
      num_microbatches: or None.
    """

    def __init__(self, optimizer_def, model=None, num_model=1, num_microbatches=None):
        model = model or tiny.make_model(dropout_rate=0.0)
        self.model = HyperdecoderModel(model, VOCABULARY, VOCABULARY, optimizer_def)
        self.partitioner = partitioning.PjitPartitioner(
            rules.num_partitions(num_model),
            rules.model_parallel_submesh(num_model),
            logical_axis_rules=rules.logical_axis_rules(),
        )
        self.initializer = utils.TrainStateInitializer(
            optimizer_def,
            self.model.get_initial_variables,
            {name: x.shape for name, x in make_features().items()},
            self.partitioner,
        )
        axes = self.initializer.train_state_axes
        self.step = self.partitioner.partition(
            functools.partial(
                trainer.train_with_lr,
                learning_rate=1e-2,
                dropout_rng=jax.random.PRNGKey(1),
                model=self.model,
                num_microbatches=num_microbatches,
            ),
            in_axis_resources=(axes, self.partitioner.data_partition_spec),
            out_axis_resources=(axes, None),
        )

    @property
    def shapes(self):
        """The train state's."""
        return self.initializer.global_train_state_shape

    def from_scratch(self, seed=0):
        return self.initializer.from_scratch(jax.random.PRNGKey(seed))

    def train(self, state, steps, losses=None):
        """The state after the steps of the numbers in `steps`, each with a batch of its own.

        Args:
          state: to start from.
          steps: their numbers.
          losses: a list that is appended to.
        """
        for features in self.batches(steps):
            state, metrics = self.step(state, features)
            if losses is not None:
                losses.append(float(metrics["loss"].total))
        return state

    def batches(self, steps):
        """The batches of these numbers; each process puts its part in its place, as T5X does it."""
        shapes = {name: x.shape for name, x in make_features().items()}
        layout = self.partitioner.get_data_layout(shapes["task_ids"][0])
        size = layout.batch_size // layout.num_shards
        part = slice(layout.shard_id * size, (layout.shard_id + 1) * size)
        parts = ({name: x[part] for name, x in make_features(i).items()} for i in steps)
        return utils.ShardedDatasetIterator(parts, self.partitioner, shapes)

    def manager(self, folder):
        """Orbax's manager of the checkpoints in `folder`, which T5X makes before."""
        pathlib.Path(folder).mkdir(parents=True, exist_ok=True)
        return utils.create_orbax_checkpoint_manager(
            save_cfg=utils.SaveCheckpointConfig(dtype=None),
            restore_cfg=None,
            train_state=self.shapes,
            partitioner=self.partitioner,
            model_dir=str(folder),
        )

    def save(self, folder, state):
        """Writes a checkpoint, and returns its folder."""
        manager = self.manager(folder)
        manager.save(state)
        manager.close()
        return f"{folder}/checkpoint_{int(state.step)}"

    def start(self, folder, restore):
        """What `t5x.train` starts from, given `CheckpointConfig.restore` and an empty folder."""
        state, manager = utils.create_checkpoint_manager_and_restore(
            self.initializer,
            self.partitioner,
            restore,
            restore.path,
            jax.random.PRNGKey(0),
            save_checkpoint_cfg=utils.SaveCheckpointConfig(dtype=None),
            model_dir=str(folder),
            use_orbax=True,
        )
        manager.close()
        return state

    def resume(self, path, restore):
        """What `t5x.train` continues with from a checkpoint of its own."""
        manager = self.manager(path.rsplit("/", 1)[0])
        functions = [
            functools.partial(function, is_resuming=True)
            for function in restore.state_transformation_fns
        ]
        state = manager.restore(path=path, state_transformation_fns=functions)
        manager.close()
        return state


def make_features(seed=0, **sizes):
    """A batch as T5X passes it."""
    return {name: np.asarray(x) for name, x in tiny.make_batch(seed, **sizes).features().items()}


def make_arrays(parts=PLAIN):
    """Random arrays by path, of some parts of the tiny model."""
    rng = np.random.default_rng(3)
    shapes = tiny.make_model().param_shapes()
    flat = names.flatten({key: shapes[key] for key in parts})
    return {path: rng.normal(size=x.shape).astype(np.float32) for path, x in flat.items()}


def flatten(params):
    """Parameters by path, on the host."""
    return {path: np.asarray(x) for path, x in names.flatten(unfreeze(params)).items()}
