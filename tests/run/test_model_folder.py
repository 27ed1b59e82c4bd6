"""A model folder holds what a checkpoint does, and is refused in one line where it is not what mmtx writes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from learners import made_learner
from safetensors import safe_open

from mmtx.errors import UserError
from mmtx.run.checkpoint_content import read_checkpoint
from mmtx.run.directory import is_run, newest_checkpoint
from mmtx.run.model_folder import read_model_folder, write_model_folder

WEIGHTS = {"a": torch.arange(6.0).view(2, 3), "b": torch.tensor(3), "half": torch.ones(2, dtype=torch.bfloat16)}
FITTED = {"state.mean": {"mean": torch.tensor([0.1, 0.2]), "count": 4}, "label.classes": ("x", "y"), "rate": None}
DESCRIPTION = {"config": {"name": "toy"}, "specs": {}, "fitted": FITTED, "fingerprint": {}, "step": 3}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_model_folder(WEIGHTS, DESCRIPTION, tmp_path / "model")
    return tmp_path / "model"


def test_everything_comes_back(folder: Path) -> None:
    held = read_model_folder(folder)
    assert held["state_dict"].keys() == {f"learner.{key}" for key in WEIGHTS}
    for key, value in WEIGHTS.items():
        found = held["state_dict"][f"learner.{key}"]
        assert torch.equal(found, value) and found.dtype == value.dtype
    fitted = held["mmtx"]["fitted"]
    assert torch.equal(fitted["state.mean"].pop("mean"), torch.tensor([0.1, 0.2]))
    assert fitted == {"state.mean": {"count": 4}, "label.classes": ("x", "y"), "rate": None}
    assert is_run(folder) and newest_checkpoint(folder) == folder / "mmtx.json"


def test_weights_with_two_names_are_stored_once(tmp_path: Path) -> None:
    state = made_learner("next_token").state_dict()
    twice = {**state, "again": state["model.type_embeddings.text"]}
    write_model_folder(twice, DESCRIPTION, tmp_path)
    held = read_model_folder(tmp_path)["state_dict"]
    assert held.keys() == {f"learner.{key}" for key in twice}
    assert torch.equal(held["learner.again"], state["model.type_embeddings.text"])
    with safe_open(tmp_path / "model.safetensors", "pt") as opened:
        assert len(opened.keys()) == len(state) + 1  # and a tensor of the description


def test_a_secret_is_not_in_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_TOKEN", "verysecret")
    write_model_folder(WEIGHTS, {**DESCRIPTION, "config": {"name": "verysecret"}}, tmp_path)
    assert not any(b"verysecret" in file.read_bytes() for file in tmp_path.iterdir())


DAMAGES = {
    "cut": lambda text: text[: len(text) // 2],
    "no object": lambda text: "[]",
    "no config": lambda text: json.dumps({**json.loads(text), "config": None}),
    "a tensor that is not there": lambda text: text.replace('"<tensor>": 0', '"<tensor>": 9'),
    "a format to come": lambda text: json.dumps({**json.loads(text), "format": 10_000}),
    "very deep": lambda text: "[" * 100_000,
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_what_mmtx_did_not_write_is_one_line(folder: Path, damage: str) -> None:
    file = folder / "mmtx.json"
    file.write_text(DAMAGES[damage](file.read_text()))
    with pytest.raises(UserError) as refused:
        read_checkpoint(file)
    assert "mmtx.json" in str(refused.value) and "\n" not in str(refused.value)


def test_weights_that_are_cut_are_named(folder: Path) -> None:
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-4])
    with pytest.raises(UserError, match=f"^{file} cannot be read as safetensors"):
        read_checkpoint(folder / "mmtx.json")
