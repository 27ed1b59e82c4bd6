"""What an export writes is whole, and of one model."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from mmtx.errors import InvalidValue
from mmtx.interop.atomic_output import atomic_file, atomic_folder
from mmtx.run.import_export import to_pretrained, to_safetensors


def test_what_is_interrupted_leaves_what_was_there(tmp_path: Path) -> None:
    file = tmp_path / "model.safetensors"
    file.write_text("old")
    with pytest.raises(KeyboardInterrupt), atomic_file(file) as partial:
        partial.write_text("ne")
        raise KeyboardInterrupt
    assert [each.name for each in tmp_path.iterdir()] == [file.name] and file.read_text() == "old"


def test_files_of_another_model_do_not_stay_beside_it(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text("{}")
    refused = pytest.raises(InvalidValue, match=r"holds tokenizer.json of another model")
    with refused, atomic_folder(tmp_path, conflicting=("tokenizer.json", "config.json")) as folder:
        (folder / "config.json").write_text("{}")
    assert [each.name for each in tmp_path.iterdir()] == ["tokenizer.json"]


def test_what_cannot_be_made_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InvalidValue, match="^OUT=.*cannot be written"), atomic_file(tmp_path / "file" / "x"):
        pass


def test_a_run_is_not_written_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mmtx.run.import_export._merged", lambda run: torch.nn.Linear(1, 1))
    (tmp_path / "checkpoints").mkdir()
    with pytest.raises(InvalidValue, match="is of a run"):
        to_pretrained("run", tmp_path)
    with pytest.raises(InvalidValue, match="is a checkpoint of a run"):
        to_safetensors("run", tmp_path / "checkpoints" / "last.ckpt")
