"""Every family in every kind of file: the same numbers, and the same file again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

transformers = pytest.importorskip("transformers")

from public import CASES, Case, saved  # noqa: E402
from test_equality import close, compared  # noqa: E402

import mmtx  # noqa: E402
from mmtx.interop.families import FAMILIES  # noqa: E402


def case_of(name: str) -> Case:
    """The first case of a family: its maker is called like it."""
    found = [case for case in CASES.values() if case[0].__name__ == name.removesuffix("_text")]
    assert found, f"public.py has no case of {name}"
    return found[0]


def shards(model: Any, folder: Path) -> None:
    model.save_pretrained(folder, max_shard_size="8KB")
    assert (folder / "model.safetensors.index.json").is_file()


def pickle(model: Any, folder: Path) -> None:
    folder.mkdir()
    model.config.save_pretrained(folder)
    torch.save(model.state_dict(), folder / "pytorch_model.bin")


def pickled_shards(model: Any, folder: Path) -> None:
    state = model.state_dict()
    places = {key: f"pytorch_model-{i % 2}.bin" for i, key in enumerate(state)}
    folder.mkdir()
    model.config.save_pretrained(folder)
    for name in {*places.values()}:
        torch.save({key: value for key, value in state.items() if places[key] == name}, folder / name)
    (folder / "pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": places}))


def same_state(first: Any, second: Any) -> bool:
    states = first.state_dict(), second.state_dict()
    return states[0].keys() == states[1].keys() and all(torch.equal(v, states[1][k]) for k, v in states[0].items())


@pytest.mark.parametrize("name", FAMILIES)
def test_kinds_of_files(name: str, tmp_path: Path) -> None:
    """One file, several, and weights alone in pickles hold the same model."""
    make, changes, _ = case_of(name)
    theirs = make(**changes)
    expected = mmtx.from_pretrained(saved(theirs, tmp_path / "one"))
    for write in (shards, pickle, pickled_shards):
        write(theirs, tmp_path / write.__name__)
        assert same_state(mmtx.from_pretrained(tmp_path / write.__name__), expected)


@pytest.mark.parametrize("dtype", [torch.bfloat16, pytest.param(torch.float16, marks=pytest.mark.slow)], ids=str)
@pytest.mark.parametrize("name", FAMILIES)
def test_half_precision(name: str, dtype: torch.dtype, tmp_path: Path) -> None:
    """Outputs of `transformers`, which reads the same file in float32. Whisper's sinusoids are exact in mmtx, whatever
    the file has rounded them to."""
    make, changes, make_inputs = case_of(name)
    torch.manual_seed(0)
    theirs = make(**changes)
    inputs, real = make_inputs(theirs)
    exact = {k: v.clone() for k, v in theirs.state_dict().items() if k.endswith("encoder.embed_positions.weight")}
    ours = mmtx.from_pretrained(saved(theirs.to(dtype), tmp_path))
    assert {value.dtype for value in ours.state_dict().values() if value.is_floating_point()} == {torch.float32}
    read = type(theirs).from_pretrained(tmp_path, dtype=torch.float32).eval()
    read.load_state_dict(exact, strict=False)
    pairs = compared(mmtx.interop.forward(ours, **inputs), read(**inputs), real)
    assert pairs
    for _, actual, expected in pairs:
        close(actual, expected, 1e-5)


def variants() -> list[tuple[str, dict[str, Any]]]:
    """Bodies without a head, and heads that are tied and untied, of the families that have them."""
    found: list[tuple[str, dict[str, Any]]] = []
    for name, family in FAMILIES.items():
        if family.body:
            found.append((name, {"kind": getattr(transformers, family.body)}))
        if {"tie_word_embeddings", "eos_token_id"} <= family.keys.keys() and name != "t5":  # tied by its own maker
            found += [(name, {"tie_word_embeddings": tied}) for tied in (True, False)]
    return found


@pytest.mark.parametrize(("name", "changes"), variants(), ids=str)
def test_shapes_of_files(name: str, changes: dict[str, Any], tmp_path: Path) -> None:
    """In shards of bfloat16; each weight comes out as it went in."""
    make, usual, _ = case_of(name)
    theirs = make(**{**usual, **changes}).to(torch.bfloat16)
    shards(theirs, tmp_path / "public")
    ours = mmtx.from_pretrained(tmp_path / "public")
    mmtx.to_pretrained(ours, tmp_path / "again")
    assert same_state(mmtx.from_pretrained(tmp_path / "again"), ours)
    written = load_file(tmp_path / "again" / "model.safetensors")
    known = FAMILIES[name].canonical({key: value.float() for key, value in theirs.state_dict().items()})
    out = FAMILIES[name].canonical(written)
    assert all(torch.equal(value, known[key]) for key, value in out.items() if key in known)
    assert {*out} & {*known}
