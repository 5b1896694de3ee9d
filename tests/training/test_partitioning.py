import dataclasses

import jax
import numpy as np
import pytest
from jax.sharding import PartitionSpec

from hyperdecoders_jax.config import run_config
from hyperdecoders_jax.data.pipeline import PipelineConfig
from hyperdecoders_jax.model import Model
from hyperdecoders_jax.modeling.compute import ComputeConfig
from hyperdecoders_jax.training import partitioning
from hyperdecoders_jax.training.partitioning import PartitioningConfig
from tests import tiny as model_tiny
from tests.training import tiny


def abstract_partitioner(num_data, num_model, **options):
    """A partitioner of devices that need not exist; good for shardings, not for arrays."""
    mesh = jax.sharding.AbstractMesh((num_data, num_model), ("data", "model"))
    return partitioning.Partitioner(mesh, PartitioningConfig(num_model, **options))


def shardings_of(partitioner, model=None):
    model = model or tiny.make_model()
    return partitioner.param_shardings(model.param_shapes(), model.param_axes())


def test_every_parameter_has_a_sharding():
    model = tiny.make_model()
    shardings = shardings_of(abstract_partitioner(4, 2), model)
    assert jax.tree.structure(shardings) == jax.tree.structure(model.param_shapes())
    assert shardings["token_embedder"]["embedding"].spec == PartitionSpec("model", None)
    layer = shardings["decoder"]["layers_0"]
    assert layer["mlp"]["wo"]["kernel"].spec == PartitionSpec("model", None)
    assert layer["self_attention"]["query"]["kernel"].spec == PartitionSpec(None, "model")
    head = shardings["decoder_adapters"]["hypernetwork"]["feed_forward"]["down_kernel"]
    assert head["kernel"].spec == PartitionSpec(None, "model")


def test_a_backbone_parameter_that_does_not_divide_is_refused():
    with pytest.raises(ValueError, match=r"Axis 'joined_kv' of parameter 'decoder/.*size 10 and 4"):
        shardings_of(abstract_partitioner(1, 4))


def test_a_new_parameter_that_does_not_divide_is_replicated_and_listed():
    shardings = shardings_of(abstract_partitioner(4, 2), tiny.make_model(bottleneck_dim=3))
    replicated = partitioning.list_replicated(shardings)
    assert (
        "decoder_adapters/hypernetwork/feed_forward/down_bias/bias" in replicated
    )  # 3 over 2 devices
    assert (
        "decoder_adapters/hypernetwork/feed_forward/down_kernel/kernel" not in replicated
    )  # 24 over 2
    assert "decoder/layers_0/pre_mlp_layer_norm/scale" in replicated
    assert "decoder/layers_0/mlp/wo/kernel" not in replicated


def test_an_axis_without_a_rule_is_refused():
    partitioner = abstract_partitioner(1, 1, logical_axis_rules=(("embed", None),))
    with pytest.raises(KeyError, match=r"Every logical axis needs a rule .* got '.*' of parameter"):
        shardings_of(partitioner)


def test_a_batch_that_does_not_divide_is_refused():
    partitioner = abstract_partitioner(4, 2)
    partitioner.check_batch_size(24, num_microbatches=3)
    with pytest.raises(
        ValueError, match=r"divide by 12 .* got 10. Use a batch size of 12 or 24, or change"
    ):
        partitioner.check_batch_size(10, num_microbatches=3)


def test_devices_that_do_not_divide_are_refused():
    with pytest.raises(ValueError, match=r"must divide the number of devices; got 3 and 1 devices"):
        partitioning.make_partitioner(PartitioningConfig(3), jax.devices()[:1])


@dataclasses.dataclass(frozen=True)
class Device:
    """What the layout reads of a device."""

    id: int
    process_index: int


def devices_of(num_processes, each):
    """Numbered across processes, as on a TPU slice, whose hosts hold squares of a grid."""
    return [
        Device(id=place * num_processes + process, process_index=process)
        for place in range(each)
        for process in range(num_processes)
    ]


@pytest.mark.parametrize("model_parallel", [1, 2, 4, 8])
def test_each_process_has_its_rows_together(model_parallel):
    devices = devices_of(num_processes=4, each=4)
    shape = (16 // model_parallel, model_parallel)
    scattered = np.array(devices, object).reshape(shape)
    assert partitioning.has_rows_together(scattered) == (model_parallel >= 4)
    grid = partitioning.by_process(devices, shape)
    assert partitioning.has_rows_together(grid)
    assert [device.process_index for device in grid.flat] == [i // 4 for i in range(16)]
    assert set(grid.flat) == set(devices)


def test_rows_over_parts_of_processes_are_refused():
    with pytest.raises(ValueError, match=r"must divide the devices of a process, .* got 6, and 12"):
        partitioning.by_process(devices_of(num_processes=3, each=4), (2, 6))


def test_no_model_parallel_devices_are_refused():
    with pytest.raises(ValueError, match="at least 1; got 0"):
        PartitioningConfig(0)


def test_an_unknown_mesh_axis_is_refused():
    with pytest.raises(ValueError, match=r"mesh axis of 'mlp' .* got 'modle'"):
        PartitioningConfig(logical_axis_rules=(("mlp", "modle"),))


def test_one_process_reads_all_of_a_batch():
    assert partitioning.make_partitioner().data_shard() == (0, 1)


def test_placing_copies_parameters():
    partitioner = partitioning.make_partitioner()
    params = {"kernel": jax.numpy.ones((3, 5))}
    placed = partitioner.put_params(params, {"kernel": partitioner.replicated})
    placed["kernel"].delete()
    np.testing.assert_array_equal(params["kernel"], np.ones((3, 5)))


def test_a_placed_batch_is_the_batch():
    batch = tiny.make_batch()
    partitioner = partitioning.make_partitioner()
    placed = partitioner.put_batch(batch)
    jax.tree.map(np.testing.assert_array_equal, placed, batch)
    jax.tree.map(np.testing.assert_array_equal, partitioner.take_rows(placed), batch)


def test_heads_computed_at_a_time_are_shared_by_the_devices_of_a_copy():
    config = partitioning.PartitioningConfig(model_parallel=2)
    for heads in (None, 2, 4):
        config.check_attention_heads(heads)
    four = partitioning.PartitioningConfig(model_parallel=4)
    with pytest.raises(ValueError, match="Set ATTENTION_HEADS to 4 or 8 or 16, or to None"):
        four.check_attention_heads(2, num_heads=16)
    with pytest.raises(ValueError, match="Set MODEL_PARALLEL to a divisor of 6, a layer's heads"):
        four.check_attention_heads(2, num_heads=6)
    compute = ComputeConfig(dropout="broadcast", attention_heads=1)
    message = "ATTENTION_HEADS must be a multiple of MODEL_PARALLEL.* got 1 heads and 2 .*Set"
    with pytest.raises(ValueError, match=message):
        run_config.RunConfig(
            Model(model_tiny.make_config(compute=compute)),
            PipelineConfig("any", {"inputs": 7, "targets": 5}, batch_size=3),
            run_config.StartConfig(None, "bytes"),
            partitioning=config,
        )
