"""Whom a user trusted as a run began, and that a run cannot say so itself."""

import json

import pytest

from mmtx.run.directory import RunDirectory
from mmtx.run.named_plugins import FILE, named_plugins, remember_plugins


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    run = RunDirectory(tmp_path / "run")
    run.create()
    remember_plugins(run, ["my_lab", "other"])
    return run


def test_what_was_named_is_known_of_the_run_and_its_checkpoints(run, tmp_path):
    assert named_plugins(run.path) == named_plugins(run.last) == ["my_lab", "other"]
    moved = run.path.rename(tmp_path / "moved")
    assert named_plugins(moved) == ["my_lab", "other"]
    key = tmp_path / "state" / "mmtx" / "key"
    assert key.stat().st_mode & 0o777 == 0o600 and len(key.read_bytes()) == 32
    assert [file.name for file in key.parent.iterdir()] == ["key"]


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"plugins": 3, "code": 4}', '{"plugins": [], "code": ""}'])
def test_what_is_damaged_names_nothing(run, content):
    (run.path / FILE).write_text(content)
    assert named_plugins(run.path) == []


def test_another_list_needs_another_code(run):
    kept = json.loads((run.path / FILE).read_text())
    (run.path / FILE).write_text(json.dumps({**kept, "plugins": ["evil_lab"]}))
    assert named_plugins(run.path) == []


def test_another_users_run_names_nothing(run, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "other_user"))
    assert named_plugins(run.path) == []


def test_without_a_folder_of_the_users_nothing_is_known(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "file"))
    run = RunDirectory(tmp_path / "run")
    run.create()
    remember_plugins(run, ["my_lab"])
    assert named_plugins(run.path) == []


def test_a_run_without_plugins_has_no_file(tmp_path):
    run = RunDirectory(tmp_path / "run")
    run.create()
    remember_plugins(run, [])
    assert not (run.path / FILE).exists()
