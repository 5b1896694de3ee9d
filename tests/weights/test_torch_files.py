import collections
import pathlib
import sys
import zipfile

import pytest

from hyperdecoders_jax.weights import arrays, torch_files
from tests.weights.stored import assert_equal, make

pytestmark = pytest.mark.torch


@pytest.fixture
def torch():
    return pytest.importorskip("torch", reason="PyTorch is not installed")


def test_a_file_gives_back_every_bit_shape_and_type(torch, tmp_path):
    torch_files.write(tmp_path / "pytorch_model.bin", arrays.in_memory(make()))
    assert_equal(torch_files.open(tmp_path / "pytorch_model.bin"), make())
    assert_equal(torch_files.open(tmp_path), make())


@pytest.mark.parametrize("is_zip", [True, False])
def test_a_state_dict_of_any_age_opens(torch, tmp_path, is_zip):
    linear = torch.nn.Linear(3, 2)
    state = collections.OrderedDict(linear.state_dict(), transposed=linear.weight.T)
    path = tmp_path / "pytorch_model.bin"
    torch.save(state, path, _use_new_zipfile_serialization=is_zip)
    assert_equal(torch_files.open(path), {n: x.detach().numpy() for n, x in state.items()})


def test_names_of_one_array_share_their_bytes(torch, tmp_path):
    one = arrays.in_memory(make())["a"]
    torch_files.write(tmp_path / "a.bin", {"a": one, "b": one})
    state = torch.load(tmp_path / "a.bin", weights_only=True)
    assert state["a"].data_ptr() == state["b"].data_ptr()


def test_shards_open_and_a_missing_one_is_named(torch, tmp_path):
    held = make()
    for i, names in enumerate((["a", "b"], ["c", "d"])):
        part = arrays.in_memory({name: held[name] for name in names})
        torch_files.write(tmp_path / f"pytorch_model-{i}.bin", part)
    (tmp_path / "pytorch_model.bin.index.json").write_text(
        '{"weight_map": {"a": "pytorch_model-0.bin", "b": "pytorch_model-0.bin", '
        '"c": "pytorch_model-1.bin", "d": "pytorch_model-1.bin"}}'
    )
    assert_equal(torch_files.open(tmp_path), held)
    (tmp_path / "pytorch_model-1.bin").unlink()
    with pytest.raises(FileNotFoundError, match=r"All 2 shards .*missing: pytorch_model-1\.bin"):
        torch_files.open(tmp_path)


class Marker:
    """A pickle that touches a file when a careless reader opens it."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return pathlib.Path.touch, (self.path,)


@pytest.mark.parametrize("is_zip", [True, False])
def test_code_in_a_file_is_refused_and_not_run(torch, tmp_path, is_zip):
    marker, path = tmp_path / "executed", tmp_path / "pytorch_model.bin"
    state = {"a": torch.zeros(2), "b": Marker(marker)}
    torch.save(state, path, _use_new_zipfile_serialization=is_zip)
    with pytest.raises(ValueError, match=r"could run code, and nothing of it was run.*safetensors"):
        torch_files.open(path)
    assert not marker.exists()
    # The file does run code where somebody lets it.
    torch.load(path, weights_only=False)
    assert marker.exists()


def test_damaged_files_are_refused(torch, tmp_path):
    path = tmp_path / "pytorch_model.bin"
    torch_files.write(path, arrays.in_memory(make()))
    whole = path.read_bytes()
    for damaged in (whole[:-30], whole[:200], b"", b"\xff" * 40):
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match=r"pytorch_model\.bin is .*ownload"):
            torch_files.open(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.txt", "no weights")
    with pytest.raises(ValueError, match=r"pytorch_model\.bin is .*again"):
        torch_files.open(path)


def test_what_is_no_float_tensor_is_refused(torch, tmp_path):
    path = tmp_path / "pytorch_model.bin"
    torch.save({"q": torch.zeros(2, dtype=torch.int8)}, path)
    with pytest.raises(ValueError, match=r"q in .* is torch\.int8\. Save .* not quantised"):
        torch_files.open(path)
    torch.save({"state_dict": {"a": torch.zeros(2)}}, path)
    with pytest.raises(ValueError, match=r"state_dict in .* is dict\. Save model\.state_dict"):
        torch_files.open(path)
    for state, kind in (([torch.zeros(2)], "list"), ({1: torch.zeros(2)}, "dict")):
        torch.save(state, path)
        with pytest.raises(ValueError, match=rf"by their names; .* holds a {kind}\. Save model"):
            torch_files.open(path)
    for tensor, kind in (
        (torch.zeros(2).to_sparse(), "torch.sparse_coo on cpu"),
        (torch.zeros(2, device="meta"), "torch.strided on meta"),
    ):
        torch.save({"q": tensor}, path)
        with pytest.raises(ValueError, match=rf"must be dense .*; q in .* is {kind}\. Save"):
            torch_files.open(path)


def test_a_torch_that_is_not_safe_is_refused(torch, tmp_path, monkeypatch):
    torch_files.write(tmp_path / "a.bin", arrays.in_memory(make()))
    monkeypatch.setattr(torch, "__version__", "2.5.1+cu121")
    with pytest.raises(ImportError, match=r"2\.6 or newer .*CVE-2025-32434.*; 2\.5\.1.* Update"):
        torch_files.open(tmp_path / "a.bin")


def test_missing_files_and_a_missing_torch_are_named(tmp_path, monkeypatch):
    with pytest.raises(FileNotFoundError, match=r"nothing at .*absent\. Correct the path"):
        torch_files.open(tmp_path / "absent")
    (tmp_path / "model.safetensors").write_bytes(b"")
    with pytest.raises(FileNotFoundError, match=r"holds model\.safetensors\. Name another"):
        torch_files.open(tmp_path)
    (tmp_path / "a.bin").write_bytes(b"")
    monkeypatch.setitem(sys.modules, "torch", None)
    message = r"need PyTorch; importing it failed: import of torch halted.*\. Install it"
    with pytest.raises(ImportError, match=message):
        torch_files.open(tmp_path / "a.bin")


def test_why_an_installed_torch_cannot_be_imported_is_told(tmp_path, monkeypatch):
    (tmp_path / "a.bin").write_bytes(b"")
    (tmp_path / "torch.py").write_text("raise OSError('libcudart.so: cannot open it')")
    monkeypatch.delitem(sys.modules, "torch", raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ImportError, match=r"importing it failed: libcudart\.so: cannot open it\."):
        torch_files.open(tmp_path / "a.bin")


def test_an_open_file_reads_on_when_its_name_is_gone(torch, tmp_path):
    torch_files.write(tmp_path / "a.bin", arrays.in_memory(make()))
    found = torch_files.open(tmp_path / "a.bin")
    (tmp_path / "a.bin").unlink()
    assert_equal(found, make())
