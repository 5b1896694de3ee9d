"""The small tasks of the data tests."""

from tests.data.conftest import make_task, register

__all__ = ["make_task", "register"]
