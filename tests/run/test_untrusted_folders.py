"""The working directory and the file system of a run are not trusted."""

import errno
import fcntl
import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from mmtx.commands.main import main
from mmtx.config import check
from mmtx.config.targets import resolve
from mmtx.errors import UserError
from mmtx.process.child_processes import worker_command as command
from mmtx.run.directory import RunDirectory
from mmtx.run.lock import _warn


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOLCK])
def test_a_file_system_without_locks_is_named_once(number, tmp_path, monkeypatch, capsys):
    def flock(file, operation):
        raise OSError(number, "not here")

    _warn.cache_clear()
    monkeypatch.setattr(fcntl, "flock", flock)
    for _ in range(2):
        with RunDirectory(tmp_path).lock():
            pass
    assert capsys.readouterr().err == (
        f"mmtx: warning: {tmp_path}/.lock cannot be locked (not here): see to it that no other process works there\n"
    )


def test_a_lock_that_another_has_is_refused(tmp_path):
    with (
        RunDirectory(tmp_path).lock(),
        pytest.raises(UserError, match="is in use by pid"),
        RunDirectory(tmp_path).lock(),
    ):
        pass


def test_who_has_a_lock_is_named_and_nobody_else(tmp_path):
    for _ in range(2):
        with RunDirectory(tmp_path).lock():
            pass
    assert (tmp_path / ".lock").read_text().count("pid ") == 1


def test_a_fork_does_not_hold_the_lock_of_a_process_that_has_ended(tmp_path):
    """As a worker may outlive its run."""
    mine, its = socket.socketpair()
    with RunDirectory(tmp_path).lock():
        pid = os.fork()
        if pid == 0:
            mine.close()
            its.send(b"there")
            its.recv(1)  # until the test has ended
            os._exit(0)
        mine.recv(5)
    with RunDirectory(tmp_path).lock():
        pass
    mine.close()
    its.close()
    os.waitpid(pid, 0)


def test_a_home_that_is_not_there_is_a_line(capsys, monkeypatch):
    monkeypatch.chdir(Path(__file__).parents[1])  # below which there are earlier runs
    assert main(["report", ".", "out=~nobody-by-this-name/x"]) == 2
    assert "mmtx: a home directory cannot be found: " in capsys.readouterr().err


@pytest.mark.parametrize("name", ["random", "queue", "logging", "tokenizers"])
def test_a_file_of_the_working_directory_is_not_taken_for_a_module(name, tmp_path):
    (tmp_path / f"{name}.py").write_text("raise SystemExit('a file of the user')")
    start = command(Path("run"))
    words = [*start[: start.index("-m")], "-c", f"import {name}, mmtx.process.parent_watch, mmtx.sweep.remote"]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


def test_the_working_directory_is_looked_into_for_plugins_only(tmp_path, monkeypatch):
    (tmp_path / "my_lab.py").write_text("class Mine: pass")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    resolve("mmtx.Clock")
    check.findings({"plugins": []})
    assert str(tmp_path) not in sys.path
    assert resolve("my_lab.Mine", ["my_lab"]).__name__ == "Mine" and sys.path[-1] == str(tmp_path)
    del sys.modules["my_lab"]


def test_what_is_not_utf8_is_recorded_as_it_is(tmp_path):
    run = RunDirectory(tmp_path)
    run.set_status("failed", "cannot read \udcff.png")
    assert json.loads(run.status.read_text(encoding="utf-8"))["error"] == "cannot read \udcff.png"
