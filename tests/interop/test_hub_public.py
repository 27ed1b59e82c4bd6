"""Public families on a hub: uploaded, read again, and equal to `transformers`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load, load_file

transformers = pytest.importorskip("transformers")

from fake_hub import TOKEN, Hub  # noqa: E402
from public import gpt2, saved  # noqa: E402
from small_data import small_tokenizer  # noqa: E402

import mmtx  # noqa: E402
from mmtx.commands.main import main  # noqa: E402
from mmtx.errors import UserError  # noqa: E402
from mmtx.hub.model_files import SIDE_FILES, files_to_read  # noqa: E402


@pytest.fixture
def folder(tmp_path: Path, hub: Hub, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small GPT-2, which is not on the hub yet."""
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    monkeypatch.chdir(tmp_path)
    return small_tokenizer(saved(gpt2(vocab_size=263, n_positions=64), tmp_path / "public"))


def test_a_public_folder_goes_there_and_comes_back(hub: Hub, folder: Path) -> None:
    assert main(["push", str(folder), "lab/gpt2"]) == 0
    ids = torch.randint(0, 263, (2, 9), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        here, there = (mmtx.interop.forward(mmtx.from_pretrained(p), input_ids=ids) for p in (folder, "hub://lab/gpt2"))
        theirs = transformers.GPT2LMHeadModel.from_pretrained(folder)(ids).logits
    assert torch.equal(here.logits, there.logits)
    torch.testing.assert_close(there.logits, theirs)
    page = (files := hub.repositories["lab/gpt2"].commits[hub.repositories["lab/gpt2"].branches["main"]])["README.md"]
    assert b"GPT2LMHeadModel.from_pretrained('lab/gpt2')" in page and b"library_name: transformers" in page
    assert files.keys() >= {"config.json", "model.safetensors", "tokenizer.json"}


def test_a_run_is_pushed_for_transformers(hub: Hub, folder: Path) -> None:
    """Imported from the hub, pushed from the run: the weights of the public model again."""
    hub.repository("lab/public").commit("main", {file.name: file.read_bytes() for file in folder.iterdir()})
    assert main(["import", "hub://lab/public", "run"]) == 0
    assert main(["push", "run", "lab/again", "--format", "hf"]) == 0
    again = hub.repositories["lab/again"]
    files = again.commits[again.branches["main"]]
    one, other = load_file(folder / "model.safetensors"), load(files["model.safetensors"])
    assert one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)
    assert files["README.md"].startswith(b"---\nlibrary_name: transformers\npipeline_tag: text-generation\n")


def test_another_family_is_named_before_its_weights_come(hub: Hub, folder: Path) -> None:
    config = json.dumps({"model_type": "xlnet"}).encode()
    hub.repository("lab/xlnet").commit("main", {"config.json": config, "model.safetensors": b"x" * 100})
    with pytest.raises(UserError, match="^hub://lab/xlnet is a model of the family 'xlnet'; mmtx reads gpt2"):
        mmtx.from_pretrained("hub://lab/xlnet")
    assert not any(request.endswith("model.safetensors") for request in hub.requests)


def test_a_public_model_is_no_run(hub: Hub, folder: Path, capsys: pytest.CaptureFixture) -> None:
    hub.repository("lab/public").commit("main", {file.name: file.read_bytes() for file in folder.iterdir()})
    assert main(["evaluate", "hub://lab/public"]) == 2
    message = (
        "hub://lab/public is no run; if it is a public model, `mmtx import hub://lab/public RUN` makes one of it\n"
    )
    assert capsys.readouterr().err.endswith(f"mmtx: {message}")


def test_weights_come_in_one_form() -> None:
    shards = [f"model-0000{i}-of-00002.safetensors" for i in (1, 2)]
    both = ["config.json", "pytorch_model.bin", "tf_model.h5", *shards, "model.safetensors.index.json", "run.py"]
    assert files_to_read(both) == ["config.json", *shards, "model.safetensors.index.json"]
    assert files_to_read(["vocab.txt", "pytorch_model.bin", "model.safetensors"]) == ["model.safetensors", "vocab.txt"]
    assert "run.py" not in SIDE_FILES
