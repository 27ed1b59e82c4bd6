"""Where files cannot be locked."""

import pytest

from mmtx.errors import UserError
from mmtx.run import lock


def test_a_system_without_locks_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(lock, "fcntl", None)
    with (tmp_path / ".lock").open("w") as file, pytest.raises(UserError, match=r"\.lock cannot be locked on .*WSL"):
        lock.lock(file)
