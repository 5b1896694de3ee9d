import pytest

from hyperdecoders_jax.commands import accelerators, doctor

TPU = {"vendor": "0x1ae0", "device": "0x0063"}


@pytest.fixture(autouse=True)
def no_variables(monkeypatch):
    for name in accelerators._TPU_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)


def add(root, *paths):
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text("")


def add_pci(root, **ids):
    folder = root / "sys/bus/pci/devices/0000:00:05.0"
    folder.mkdir(parents=True)
    for name, value in ids.items():
        (folder / name).write_text(f"{value}\n")


@pytest.mark.parametrize(("path", "kind"), [("dev/accel0", "TPU"), ("dev/nvidia0", "GPU")])
def test_each_sign_is_found_and_told(tmp_path, path, kind):
    add(tmp_path, path)
    assert list(accelerators.find(tmp_path)) == [kind]
    assert f"jax must compute on this machine's {kind}" in accelerators.unused(tmp_path)


def test_a_tpu_is_found_by_its_number_alone(tmp_path):
    add_pci(tmp_path, **TPU)
    assert list(accelerators.find(tmp_path)) == ["TPU"]


def test_a_machine_without_any_is_silent(tmp_path):
    # Google's network cards are of the same maker; drivers leave files where no GPU is; NPUs.
    add_pci(tmp_path, **TPU | {"device": "0x0042"})
    add(tmp_path, "dev/null", "dev/nvidiactl", "dev/dxg", "dev/accel/accel0")
    add(tmp_path, "proc/driver/nvidia/gpus/0000:01:00.0/information")
    assert accelerators.find(tmp_path) == {}
    assert accelerators.unused(tmp_path) is None


@pytest.mark.parametrize("devices", ["", "-1"])
def test_hidden_gpus_are_a_choice(tmp_path, monkeypatch, devices):
    monkeypatch.delenv("JAX_PLATFORMS", raising=False)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", devices)
    add(tmp_path, "dev/nvidia0")
    assert "CUDA_VISIBLE_DEVICES hides it: unset it" in accelerators.unused(tmp_path)
    assert accelerators.is_cpu_chosen()
    monkeypatch.setenv("TPU_NAME", "a TPU, which it does not hide")
    assert not accelerators.is_cpu_chosen()


@pytest.mark.parametrize("platforms", ["cpu", ""])
def test_doctor_fails_and_commands_warn_unless_the_cpu_was_chosen(monkeypatch, capsys, platforms):
    monkeypatch.setenv("TPU_WORKER_ID", "0")
    monkeypatch.setenv("JAX_PLATFORMS", platforms)
    assert doctor.report() == (0 if platforms else 1)
    told = "though there is $TPU_WORKER_ID"
    assert told in capsys.readouterr().out
    accelerators.warn_if_unused()
    warning = capsys.readouterr().err.splitlines()
    assert (len(warning), set(warning[0]), told in warning[1]) == (3, {"!"}, True)
    assert ("unset it" in warning[1]) == bool(platforms)
