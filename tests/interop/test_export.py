"""What a model has learnt is in its public files, or nothing is written."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

transformers = pytest.importorskip("transformers")

from public import CASES, saved, t5  # noqa: E402

import mmtx  # noqa: E402
from mmtx.errors import UserError  # noqa: E402
from mmtx.experiment import rebuild  # noqa: E402

FOLDED = [name for name in CASES if not name.startswith("t5") and "headless" not in name]


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()


def with_types(learner: Any) -> Any:
    """As if its embeddings of types had learnt."""
    assert set(learner.model.type_embeddings) == set(learner.model.names)
    with torch.no_grad():
        for parameter in learner.model.type_embeddings.values():
            parameter.normal_(std=0.5)
    return learner


def outputs(given: Any, real: torch.Tensor | None) -> dict[str, torch.Tensor]:
    """Of real tokens; the decision transformer's heads for states and returns are not learnt here."""
    found = {}
    for key in ("logits", "prediction_logits", "seq_relationship_logits", "pooler_output", "action_preds"):
        if key in given:
            value = given[key]
            found[key] = value[real] if real is not None and value.ndim == 3 else value
    return found or {"last_hidden_state": given["last_hidden_state"]}


@pytest.mark.parametrize("is_own", [False, True], ids=["imported", "own"])
@pytest.mark.parametrize("name", FOLDED)
def test_embeddings_of_types_are_exported(name: str, is_own: bool, tmp_path: Path) -> None:
    """`transformers` computes the same from what was written, and so does mmtx when it reads it again."""
    make, changes, make_inputs = CASES[name]
    theirs = make(**changes)
    imported = mmtx.from_pretrained(saved(theirs, tmp_path / "public"))
    inputs, real = make_inputs(theirs)
    before = outputs(mmtx.interop.forward(imported, **inputs), real)
    learner = with_types(imported)
    if is_own:
        learner.origin = None
    learnt = outputs(mmtx.interop.forward(learner, **inputs), real)
    mmtx.to_pretrained(learner, tmp_path / "written")
    more = {"add_pooling_layer": False} if name == "bert-plain" else {}
    reloaded = type(theirs).from_pretrained(tmp_path / "written", **more).eval()
    again = outputs(reloaded(**inputs), real)
    back = outputs(mmtx.interop.forward(mmtx.from_pretrained(tmp_path / "written"), **inputs), real)
    for key, value in learnt.items():
        assert (value - before[key]).abs().max() > 1e-2
        size = max(1.0, value.abs().max().item())
        torch.testing.assert_close(again[key] / size, value / size, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(back[key] / size, value / size, atol=1e-5, rtol=1e-5)


def test_no_place_for_the_type_of_a_text_without_positions(tmp_path: Path) -> None:
    learner = with_types(mmtx.from_pretrained(saved(t5(), tmp_path / "public")))
    message = r"t5 has no place for model.type_embeddings.source, model.type_embeddings.target; .*\n.*=false"
    with pytest.raises(UserError, match=message):
        mmtx.to_pretrained(learner, tmp_path / "written")
    assert not (tmp_path / "written").exists()


def test_without_embeddings_of_types(tmp_path: Path) -> None:
    for name in ("gpt2", "whisper-80", "t5-1.0"):
        make, changes, make_inputs = CASES[name]
        theirs = make(**changes)
        imported = mmtx.from_pretrained(saved(theirs, tmp_path / name))
        ours = rebuild({**imported.config, "type_embeddings": False}, imported.specs)
        ours.load_state_dict(
            {key: value for key, value in imported.state_dict().items() if "type_embeddings" not in key}
        )
        mmtx.to_pretrained(ours, tmp_path / "again" / name)
        reloaded = type(theirs).from_pretrained(tmp_path / "again" / name).eval()
        inputs, real = make_inputs(theirs)
        actual = reloaded(**inputs).logits
        expected = mmtx.interop.forward(ours, **inputs).logits
        if real is not None:
            actual, expected = actual[real], expected[real]
        torch.testing.assert_close(actual, expected, atol=1e-5, rtol=1e-5)


def test_two_embeddings_where_the_family_has_one(tmp_path: Path) -> None:
    imported = mmtx.from_pretrained(saved(t5(), tmp_path / "public"))
    config = {**imported.config, "modality": {**imported.config["modality"]}}
    config["modality"]["target"] = {**config["modality"]["target"], "share": None}
    ours = rebuild(config, imported.specs)
    with pytest.raises(UserError, match=r"t5: modality.target.share=None, there source"):
        mmtx.to_pretrained(ours, tmp_path / "written")
    ours.load_state_dict(imported.state_dict())
    with torch.no_grad():
        ours.model.tokenizers["target"].embedding.weight += 1
    ours.origin = imported.origin
    with pytest.raises(UserError, match=r"target.embedding.weight differ; there they are one, shared.weight"):
        mmtx.to_pretrained(ours, tmp_path / "written")


@pytest.mark.parametrize("name", ["bert-plain", "bert-pooler", "vit-pooler"])
def test_no_place_for_a_head(name: str, tmp_path: Path) -> None:
    """Their body alone has no classes."""
    make, changes, _ = CASES[name]
    ours = mmtx.from_pretrained(saved(make(**changes), tmp_path / "public"))
    with torch.no_grad():
        ours.objective("classify").head.weight.normal_()
    with pytest.raises(UserError, match=r"has no place for objectives.classify.head.weight; without that"):
        mmtx.to_pretrained(ours, tmp_path / "written")
