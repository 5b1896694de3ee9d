import functools
import json
import shutil

import jax
import ml_dtypes
import numpy as np
import orbax.checkpoint as ocp
import pytest
import tensorstore
from flax import serialization

from hyperdecoders_jax import model
from hyperdecoders_jax.weights import arrays as arrays_lib
from hyperdecoders_jax.weights import names, t5x_checkpoint
from tests import tiny

KERNEL = "encoder/layers_0/mlp/wo/kernel"


def make_arrays(seed=0):
    """Parameters of two types, one with nothing but zeros, which zarr likes to leave out."""
    rng = np.random.default_rng(seed)
    return {
        "token_embedder/embedding": rng.normal(size=(7, 3)).astype(np.float32),
        KERNEL: rng.normal(size=(5, 3)).astype(ml_dtypes.bfloat16),
        "encoder/encoder_norm/scale": np.zeros(3, np.float32),
    }


def write(folder, layout="t5x", arrays=None, **kw):
    arrays = make_arrays() if arrays is None else arrays
    return t5x_checkpoint.write(folder, arrays_lib.in_memory(arrays), layout=layout, **kw)


def assert_holds(arrays, expected):
    """That `arrays` are `expected`, bit for bit, and know it before they are read."""
    assert set(arrays) == set(expected)
    for path, value in expected.items():
        assert (arrays[path].shape, arrays[path].dtype) == (value.shape, value.dtype), path
        found = arrays[path].read()
        assert found.dtype == value.dtype
        assert found.tobytes() == value.tobytes(), path


def write_by_hand(folder, target, specs, dtype="<f4", state=None, **contents):
    """An old checkpoint by other code: `specs` makes the spec of a folder of 2 x 2 chunks."""
    tree = {}
    for path, value in target.items():
        name = "target." + path.replace("/", ".")
        if specs is None:
            tree[path] = value
            continue
        metadata = {"shape": list(value.shape), "chunks": [2, 2], "compressor": {"id": "gzip"}}
        spec = {"driver": "zarr", "metadata": metadata | {"dtype": dtype}}
        kvstore = {"driver": "file", "path": str(folder / name)}
        tensorstore.open(spec | {"kvstore": kvstore}, create=True).result().write(value).result()
        tree[path] = spec | specs(name)
    optimizer = {"target": names.unflatten(tree), "state": state or {"step": np.int32(3)}}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "checkpoint").write_bytes(
        serialization.msgpack_serialize({"version": 3, "optimizer": optimizer} | contents)
    )


@pytest.mark.parametrize("layout", t5x_checkpoint.LAYOUTS)
def test_what_is_written_is_read_bit_for_bit(tmp_path, layout):
    folder = write(tmp_path, layout, step=11)
    assert folder.name == "checkpoint_11"
    assert_holds(t5x_checkpoint.open(folder), make_arrays())
    # The folder that holds it alone will do.
    assert_holds(t5x_checkpoint.open(tmp_path), make_arrays())


@pytest.mark.parametrize("layout", t5x_checkpoint.LAYOUTS)
def test_a_checkpoint_can_be_moved(tmp_path, layout):
    write(tmp_path / "here", layout)
    (tmp_path / "here").rename(tmp_path / "there, with a space")
    assert_holds(t5x_checkpoint.open(tmp_path / "there, with a space"), make_arrays())


def test_a_checkpoint_may_be_named_by_its_file(tmp_path):
    assert_holds(t5x_checkpoint.open(write(tmp_path) / "checkpoint"), make_arrays())


@pytest.mark.parametrize("layout", t5x_checkpoint.LAYOUTS)
def test_an_array_is_read_when_it_is_asked_for(tmp_path, layout):
    arrays = t5x_checkpoint.open(write(tmp_path, layout))
    shutil.rmtree(tmp_path)
    with pytest.raises(ValueError, match=f"must hold all chunks of its arrays.*{KERNEL} of"):
        arrays[KERNEL].read()


@pytest.mark.parametrize(
    "specs",
    [
        lambda name: {"kvstore": {"driver": "gfile", "path": name}},
        lambda name: {"kvstore": {"driver": "gcs", "bucket": "t5x-dummy-bucket", "path": name}},
        lambda name: {"kvstore": {"driver": "file"}, "path": f"{name}/"},
        None,
    ],
    ids=["gfile", "gcs", "path outside of kvstore", "inside of the file"],
)
def test_checkpoints_of_all_of_t5xs_years_are_read(tmp_path, specs):
    target = {KERNEL: np.arange(15, dtype=np.float32).reshape(5, 3)}
    write_by_hand(tmp_path / "checkpoint_3", target, specs)
    assert_holds(t5x_checkpoint.open(tmp_path), target)


def test_the_state_of_the_optimiser_is_left_and_named(tmp_path):
    state = {"step": np.int32(3), "param_states": {"encoder": {"scale": {"m": np.zeros(1)}}}}
    write_by_hand(tmp_path, {KERNEL: np.ones((5, 3), np.float32)}, None, state=state)
    found = t5x_checkpoint.account(tmp_path)
    assert set(found.arrays) == {KERNEL}
    assert found.left == {
        "state/step": "the count of steps",
        "state/param_states/encoder/scale/m": "state of T5X's optimiser",
    }


def test_orbax_restores_what_is_written_in_its_layout(tmp_path):
    folder = write(tmp_path, "orbax", step=11)
    restored = ocp.PyTreeCheckpointer().restore(folder / "state")
    assert_holds(arrays_lib.in_memory(names.flatten(restored["target"])), make_arrays())
    assert restored["state"]["step"] == 11


@pytest.mark.parametrize("use_ocdbt", [True, False])
def test_what_orbax_saves_is_read(tmp_path, use_ocdbt):
    tree = {"target": names.unflatten(make_arrays()), "state": {"step": np.int32(3)}}
    ocp.PyTreeCheckpointer(use_ocdbt=use_ocdbt).save(tmp_path / "checkpoint_3/state", tree)
    assert_holds(t5x_checkpoint.open(tmp_path), make_arrays())


@pytest.mark.parametrize("layout", t5x_checkpoint.LAYOUTS)
def test_only_checkpoints_and_folders_of_them_are_checkpoints(tmp_path, layout):
    folder = write(tmp_path / "run", layout)
    assert t5x_checkpoint.is_checkpoint(folder)
    assert t5x_checkpoint.is_checkpoint(tmp_path / "run")
    assert not t5x_checkpoint.is_checkpoint(tmp_path)
    assert not t5x_checkpoint.is_checkpoint(tmp_path / "google/t5-v1_1-small")
    (tmp_path / "checkpoint").mkdir()
    assert not t5x_checkpoint.is_checkpoint(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"")
    assert not t5x_checkpoint.is_checkpoint(tmp_path / "model.safetensors")


def test_a_folder_without_a_checkpoint_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"must be a folder with the file checkpoint.*ends"):
        t5x_checkpoint.open(tmp_path)


def test_a_folder_with_several_checkpoints_is_an_error(tmp_path):
    write(tmp_path, step=3)
    write(tmp_path, step=12)
    with pytest.raises(ValueError, match=r"must hold one checkpoint.*checkpoint_3, checkpoint_12"):
        t5x_checkpoint.open(tmp_path)


def test_a_tensorflow_checkpoint_is_an_error(tmp_path):
    (tmp_path / "checkpoint").write_text('model_checkpoint_path: "model.ckpt-1000000"\n')
    assert not t5x_checkpoint.is_checkpoint(tmp_path)
    with pytest.raises(ValueError, match=r"one of TensorFlow.*convert them with T5X"):
        t5x_checkpoint.open(tmp_path)


def test_a_cut_msgpack_is_an_error_wherever_it_is_cut(tmp_path):
    file = write(tmp_path) / "checkpoint"
    whole = file.read_bytes()
    for length in range(0, len(whole), 37):
        file.write_bytes(whole[:length])
        with pytest.raises(ValueError, match=r"must be a complete msgpack.*download it again"):
            t5x_checkpoint.open(tmp_path)


def test_a_msgpack_of_something_else_is_an_error(tmp_path):
    (tmp_path / "checkpoint").write_bytes(serialization.msgpack_serialize({"params": {}}))
    with pytest.raises(ValueError, match=r"with T5X's train state.*KeyError.'optimizer'"):
        t5x_checkpoint.open(tmp_path)


@pytest.mark.parametrize(
    "text", ['{"tree_metadata": {"(', '{"trees": {}}', '{"tree_metadata": []}']
)
def test_damaged_names_of_orbax_are_an_error(tmp_path, text):
    folder = write(tmp_path, "orbax")
    (folder / "state/_METADATA").write_text(text)
    with pytest.raises(ValueError, match="_METADATA must be JSON with the names of its arrays"):
        t5x_checkpoint.open(tmp_path)


def test_a_missing_array_is_an_error(tmp_path):
    folder = write(tmp_path)
    shutil.rmtree(folder / "target.encoder.layers_0.mlp.wo.kernel")
    with pytest.raises(ValueError, match=f"all chunks of its arrays.*{KERNEL} of.*does not exist"):
        t5x_checkpoint.open(tmp_path)


def test_a_name_without_an_array_is_an_error_under_orbax(tmp_path):
    index = write(tmp_path, "orbax") / "state/_METADATA"
    metadata = json.loads(index.read_text())
    keys = [{"key": key, "key_type": 2} for key in ("target", "encoder", "scale")]
    metadata["tree_metadata"]["x"] = {"key_metadata": keys}
    index.write_text(json.dumps(metadata))
    with pytest.raises(ValueError, match=r"all chunks of its arrays.*encoder/scale of"):
        t5x_checkpoint.open(tmp_path)


@pytest.mark.parametrize("damage", ["removed", "cut", "changed"])
def test_a_damaged_chunk_is_an_error_and_not_zeros(tmp_path, damage):
    target = {KERNEL: np.arange(1, 16, dtype=np.float32).reshape(5, 3)}
    specs = lambda name: {"kvstore": {"driver": "file", "path": name}}  # noqa: E731
    write_by_hand(tmp_path, target, specs)
    chunk = tmp_path / "target.encoder.layers_0.mlp.wo.kernel" / "2.1"
    stored = bytearray(chunk.read_bytes())
    if damage == "removed":
        chunk.unlink()
    elif damage == "cut":
        chunk.write_bytes(stored[: len(stored) // 2])
    else:
        stored[-6] ^= 1  # of gzip's checksum
        chunk.write_bytes(stored)
    arrays = t5x_checkpoint.open(tmp_path)
    with pytest.raises(ValueError, match=f"all chunks of its arrays, undamaged; {KERNEL}.*Copy"):
        arrays[KERNEL].read()


@pytest.mark.parametrize("layout", t5x_checkpoint.LAYOUTS)
def test_scanned_layers_are_refused(tmp_path, layout):
    write(tmp_path, layout, {"decoder/decoder/mlp/wo/kernel": np.ones((5, 2, 3), np.float32)})
    with pytest.raises(ValueError, match=r"decoder/decoder/mlp/wo/kernel \(scanned layers\)"):
        t5x_checkpoint.open(tmp_path)


def test_bfloat16_of_t5xs_first_months_is_refused(tmp_path):
    specs = lambda name: {"kvstore": {"driver": "file", "path": name}}  # noqa: E731
    write_by_hand(tmp_path, {KERNEL: np.ones((5, 3), np.uint16)}, specs, "<u2", version=2)
    with pytest.raises(ValueError, match=r"must be an array of floats.*uint16.*save it with T5X"):
        t5x_checkpoint.open(tmp_path)


def test_variables_that_are_no_parameters_are_refused(tmp_path):
    tree = {"target": {"scale": np.ones(3)}, "flax_mutables": {"mean": np.ones(3)}}
    ocp.PyTreeCheckpointer().save(tmp_path / "checkpoint_3/state", tree)
    with pytest.raises(ValueError, match=r"of target and state alone.*flax_mutables/mean"):
        t5x_checkpoint.open(tmp_path)


def test_a_checkpoint_without_parameters_is_refused(tmp_path):
    write(tmp_path, "orbax", {})
    with pytest.raises(ValueError, match=r"must hold parameters; .* has none under target"):
        t5x_checkpoint.open(tmp_path)


def test_a_checkpoint_is_not_written_over(tmp_path):
    write(tmp_path)
    with pytest.raises(FileExistsError, match=r"must go into a new folder.*checkpoint_0"):
        write(tmp_path, "orbax")


def test_an_unknown_layout_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"must be one of .*'orbx'. Did you mean 'orbax'\?"):
        write(tmp_path, "orbx")


class T5X:
    """T5X's side: its minimal T5 with Adafactor, and its two ways to save and restore."""

    def __init__(self, folder):
        checkpoints = pytest.importorskip("t5x.checkpoints", reason="T5X is not installed")
        from t5x import adafactor, partitioning, train_state
        from t5x.examples.t5 import network

        config = tiny.make_config("none", "none", dropout_rate=0.0)
        theirs = network.Transformer(
            network.T5Config(
                **{
                    field: getattr(config, field)
                    for field in network.T5Config.__dataclass_fields__
                    if hasattr(config, field) and field != "dtype"
                }
            )
        )
        tokens = np.ones((1, 1), np.int32)
        variables = jax.eval_shape(
            lambda: theirs.init(jax.random.key(0), tokens, tokens, tokens, enable_dropout=False)
        )
        params = tiny.make_params(model.Model(config))
        self.params = {k: np.asarray(v) for k, v in names.flatten(params).items()}
        factors = adafactor.standard_logical_factor_rules()
        self.state = train_state.FlaxOptimTrainState.create(
            adafactor.Adafactor(1e-3, logical_factor_rules=factors),
            {"params": params, "params_axes": variables["params_axes"]},
        )
        self.other_state = self.state.replace_params(jax.tree.map(lambda x: -x, params))
        self.checkpoints, self.folder = checkpoints, folder
        self.partitioner = partitioning.PjitPartitioner(num_partitions=1)

    def save(self, layout, dtype=np.float32):
        """Writes `params` as a checkpoint in `folder`."""
        if layout == "t5x":
            saver = self.checkpoints.Checkpointer
            saver(self.state, self.partitioner, str(self.folder), save_dtype=dtype).save(self.state)
        else:
            saver = self.checkpoints.OrbaxCheckpointManagerInterface
            manager = saver(str(self.folder), self.state, self.partitioner)
            manager.save(self.state)
            manager.close()

    def restore(self, path, with_orbax):
        """Starts a training from `path`, as `t5x.train` does; another state is fallen back to."""
        from t5x import state_utils

        keep_new = (("state/param_states.*", None),)
        rules = functools.partial(state_utils.apply_assignment_map, assignment_map=keep_new)
        if with_orbax:
            manager = self.checkpoints.OrbaxCheckpointManagerInterface
            restorer = manager(str(self.folder), self.other_state, self.partitioner)
        else:
            checkpointer = self.checkpoints.Checkpointer
            restorer = checkpointer(self.other_state, self.partitioner, str(self.folder))
        return restorer.restore(
            path=str(path),
            fallback_state=self.other_state.state_dict(),
            state_transformation_fns=[rules],
        )


@pytest.mark.t5x
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize(
    ("layout", "with_orbax"),
    [("t5x", False), ("t5x", True), ("orbax", True)],
    ids=["t5x", "t5x by its Orbax interface", "orbax"],
)
def test_t5x_starts_from_what_is_written(tmp_path, layout, with_orbax, dtype):
    t5x = T5X(tmp_path)
    expected = {path: value.astype(dtype) for path, value in t5x.params.items()}
    path = write(tmp_path, layout, expected, step=11)
    restored = t5x.restore(path, with_orbax)
    found = names.flatten(jax.tree.map(np.asarray, restored.params))
    assert_holds(arrays_lib.in_memory(found), expected)
    assert restored.step == 11


@pytest.mark.t5x
def test_t5x_loads_what_is_written_without_a_model(tmp_path):
    checkpoints = pytest.importorskip("t5x.checkpoints", reason="T5X is not installed")
    loaded = checkpoints.load_t5x_checkpoint(str(write(tmp_path, step=11)))
    assert_holds(arrays_lib.in_memory(names.flatten(loaded["target"])), make_arrays())
    assert loaded["state"] == {"step": 11}


@pytest.mark.t5x
@pytest.mark.parametrize(
    ("layout", "dtype"), [("t5x", "float32"), ("t5x", "bfloat16"), ("orbax", "float32")]
)
def test_what_t5x_saves_is_read(tmp_path, layout, dtype):
    t5x = T5X(tmp_path)
    t5x.save(layout, np.dtype(dtype))
    found = t5x_checkpoint.account(tmp_path)
    expected = {path: value.astype(dtype) for path, value in t5x.params.items()}
    assert_holds(found.arrays, expected)
    assert len(found.left) == 1 + 4 * len(expected)  # Adafactor has four arrays for a parameter
