"""A folder with a gin file, in which a test stands."""

import gin
import pytest

from tests.config import parsing


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "model.gin").write_text(parsing.MODEL_FILE)
    yield tmp_path
    gin.clear_config()
