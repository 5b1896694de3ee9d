import os
import pathlib

import jax
import jax.numpy as jnp
import pytest

from hyperdecoders_jax.commands import compilation_cache


@pytest.fixture(autouse=True)
def cache_of_the_session(monkeypatch):
    folder = jax.config.jax_compilation_cache_dir
    monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR", raising=False)
    yield
    compilation_cache._set(folder)


def used():
    return jax.config.jax_compilation_cache_dir


def test_the_first_folder_that_is_named_is_used(tmp_path, monkeypatch):
    compilation_cache._set(None)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    compilation_cache.use()
    assert used() == str(tmp_path / "hyperdecoders_jax" / "compiled")
    # JAX read its own variable when it was imported.
    compilation_cache._set(str(tmp_path / "of_jax"))
    compilation_cache.use()
    assert used() == str(tmp_path / "of_jax")
    monkeypatch.setenv("COMPILATION_CACHE_DIR", str(tmp_path / "variable"))
    compilation_cache.use()
    assert used() == str(tmp_path / "variable")
    compilation_cache.use(str(tmp_path / "flag"))
    assert used() == str(tmp_path / "flag")
    compilation_cache.use("none")
    assert used() is None


def test_a_relative_cache_folder_of_the_user_is_ignored(monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", "here")
    assert compilation_cache.default_folder().startswith(os.path.expanduser("~/.cache/"))


def test_a_folder_that_cannot_be_is_told_and_stops_nothing(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    for folder in (f"{tmp_path}/file/compiled", "nowhere://bucket/compiled"):
        compilation_cache.use(folder)
        told = capsys.readouterr().err
        assert "must be a folder that can be written" in told
        assert folder in told
        assert "--compilation_cache_dir" in told
        assert used() is None


def test_what_was_used_longest_ago_is_removed_from_our_own_folder(tmp_path, monkeypatch):
    monkeypatch.setattr(compilation_cache, "MAX_BYTES", 25)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    ours = pathlib.Path(compilation_cache.default_folder())
    named = tmp_path / "named"
    for folder in (ours, named):
        folder.mkdir(parents=True)
        for age, name in enumerate(("new-cache", "old-cache", "oldest-cache", "other")):
            (folder / name).write_bytes(b"x" * 10)
            os.utime(folder / name, (10_000 - age, 10_000 - age))
    compilation_cache.use(str(named))
    assert len(os.listdir(named)) == 4
    compilation_cache.use(str(ours))
    assert sorted(os.listdir(ours)) == ["new-cache", "old-cache", "other"]


def test_a_damaged_entry_is_compiled_anew(tmp_path):
    compilation_cache.use(str(tmp_path))

    def result():
        jax.clear_caches()
        return jax.jit(lambda x: jnp.tanh(x) * 3 + 1)(jnp.arange(5.0)).tolist()

    wanted = result()
    entries = [path for path in tmp_path.iterdir() if path.name.endswith("-cache")]
    assert entries
    for path in entries:
        path.write_bytes(path.read_bytes()[:20])
    with pytest.warns(UserWarning, match="compilation cache"):
        assert result() == wanted
