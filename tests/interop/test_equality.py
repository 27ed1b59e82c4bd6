"""Public models, imported: equal numbers, equal gradients, and the same file again."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

transformers = pytest.importorskip("transformers")

from public import CASES, OUTPUTS, mixtral, qwen3_moe, saved, text_inputs  # noqa: E402

import mmtx  # noqa: E402
from mmtx.interop.families import FAMILIES  # noqa: E402
from mmtx.interop.family import text_batch  # noqa: E402
from mmtx.interop.links import write  # noqa: E402


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()


def first_of_each(names: Iterable[str]) -> list[Any]:
    """Names of `CASES`, of which those behind the first of a family are slow tests."""
    found, families = [], set()
    for name in names:
        make, _, _ = CASES[name]
        found.append(pytest.param(name, marks=[pytest.mark.slow] * (make in families)))
        families.add(make)
    return found


def close(actual: Tensor, expected: Tensor, tolerance: float) -> None:
    size = max(1.0, expected.abs().max().item()) if expected.numel() else 1.0
    torch.testing.assert_close(actual / size, expected / size, atol=tolerance, rtol=tolerance)


def compared(ours: Any, theirs: Any, real: Tensor | None) -> list[tuple[str, Tensor, Tensor]]:
    """The outputs that both give, of real tokens."""
    found = []
    for key in (*OUTPUTS, "action_preds", "state_preds", "return_preds"):
        if key not in ours:
            continue
        mine, other = ours[key], getattr(theirs, key)
        mask = real
        if real is not None and key == "last_hidden_state" and "action_preds" in ours:
            mask = real.repeat_interleave(3, dim=1)
        per_token = mask is not None and mine.ndim == 3 and mine.shape[1] == mask.shape[1]
        found.append((key, mine[mask], other[mask]) if per_token else (key, mine, other))
    return found


@pytest.mark.parametrize("attention", ["eager", pytest.param("sdpa", marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", CASES)
def test_outputs_and_gradients(name: str, attention: str, tmp_path: Path) -> None:
    make, changes, make_inputs = CASES[name]
    theirs = make(**changes)
    if attention == "sdpa" and theirs.config.model_type in ("t5", "gpt_oss", "gemma2", "mamba2"):
        attention = "eager"
    theirs.set_attn_implementation(attention)
    ours = mmtx.from_pretrained(saved(theirs, tmp_path))
    inputs, real = make_inputs(theirs)
    mine, other = mmtx.interop.forward(ours, **inputs), theirs(**inputs)
    pairs = compared(mine, other, real)
    assert pairs
    for _, actual, expected in pairs:
        close(actual, expected, 1e-5)
    sum(actual.square().sum() for _, actual, _ in pairs).backward()
    sum(expected.square().sum() for _, _, expected in pairs).backward()
    compare_gradients(ours, theirs)


ENCODERS = ("bert", "modernbert", "esm")


@pytest.mark.parametrize(
    "name",
    [name for name in CASES if CASES[name][2] is text_inputs and (not name.startswith(ENCODERS) or "headless" in name)],
)
def test_packed_rows(name: str, tmp_path: Path) -> None:
    """All texts in one row give what each gives there."""
    make, changes, make_inputs = CASES[name]
    theirs = make(**changes)
    ours = mmtx.from_pretrained(saved(theirs, tmp_path))
    inputs, real = make_inputs(theirs)
    batch = text_batch("text", inputs["input_ids"], inputs["attention_mask"]).packed()
    assert batch.is_packed
    hidden = ours.model(batch).tokens("text")
    outputs = theirs(**inputs)
    is_body = "last_hidden_state" in outputs
    actual = hidden if is_body else ours.objective("next_token").head.logits(ours.model, hidden)
    close(actual[real], (outputs.last_hidden_state if is_body else outputs.logits)[real], 1e-5)


@pytest.mark.parametrize(
    "make", [lambda **keys: mixtral(num_hidden_layers=1, **keys), lambda **keys: qwen3_moe(mlp_only_layers=[0], **keys)]
)
def test_the_balance_of_experts_with_a_mask(make: Any, tmp_path: Path) -> None:
    """Of one layer; of several, theirs is of all layers together."""
    theirs = make(output_router_logits=True, router_aux_loss_coef=0.5)
    ours = mmtx.from_pretrained(saved(theirs, tmp_path))
    inputs, _ = text_inputs(theirs)
    with ours.model.sharing():
        score = ours.objective("experts")(ours.model, text_batch("text", *inputs.values()))
    assert score.mean_loss() == pytest.approx(0.5 * theirs(**inputs).aux_loss.item(), rel=1e-6)


def compare_gradients(ours: Any, theirs: Any) -> None:
    """Of all weights, each by its public name; where one of theirs is added to another, both have its gradient."""
    family = FAMILIES[ours.origin["family"]]
    grads = {key: p.grad for key, p in ours.named_parameters(remove_duplicate=False) if p.grad is not None}
    expected = {key: p.grad for key, p in theirs.named_parameters() if p.grad is not None}
    expected = family.canonical(expected)
    checked = 0
    for link in family.links(ours.origin["config"]):
        known = all(key in grads for key in link.ours) and all(key in expected for key in link.theirs)
        if not link.ours or not known or len(link.theirs) > 1 and len(link.ours) > 1:
            continue
        if "embed_ln.bias" in link.theirs:  # to which the first position is added
            pairs = [(grads[link.ours[0]], expected["embed_ln.bias"])]
        else:
            own = [grads[key] for key in link.ours]
            constant = link.write([torch.zeros_like(grad) for grad in own])  # a link may add one
            written = [value - less for value, less in zip(link.write(own), constant, strict=True)]
            pairs = list(zip(written, map(expected.get, link.theirs), strict=True))
        for actual, wanted in pairs:
            assert wanted is not None
            close(actual, wanted, 1e-4)
            checked += 1
    assert checked >= 20


@pytest.mark.parametrize("name", first_of_each(CASES))
def test_there_and_back(name: str, tmp_path: Path) -> None:
    """Written and read again, it is the same to the bit; and `transformers` reads what was written."""
    make, changes, make_inputs = CASES[name]
    theirs = make(**changes)
    first = mmtx.from_pretrained(saved(theirs, tmp_path / "public"))
    mmtx.to_pretrained(first, tmp_path / "again")
    second = mmtx.from_pretrained(tmp_path / "again")
    files = (load_file(tmp_path / name / "model.safetensors") for name in ("public", "again"))
    weights, again = (FAMILIES[first.origin["family"]].canonical(file) for file in files)
    assert all(torch.equal(again[key], value) for key, value in weights.items())
    assert second.config == first.config or _but_place(second.config) == _but_place(first.config)
    assert list(first.state_dict()) == list(second.state_dict())
    for key, value in first.state_dict().items():
        assert torch.equal(value, second.state_dict()[key]), key
    more = {"add_pooling_layer": False} if name == "bert-plain" else {}
    reloaded = type(theirs).from_pretrained(tmp_path / "again", **more).eval()
    inputs, real = make_inputs(theirs)
    ours = mmtx.interop.forward(first, **inputs)
    for _, actual, expected in compared(ours, reloaded(**inputs), real):
        close(actual, expected, 1e-5)


def _but_place(config: Any) -> Any:
    return json.dumps({key: value for key, value in config.items() if key != "data"}, sort_keys=True)


@pytest.mark.parametrize("name", first_of_each(name for name in CASES if "headless" not in name))
def test_a_learner_of_unknown_origin_is_recognised(name: str, tmp_path: Path) -> None:
    make, changes, _ = CASES[name]
    ours = mmtx.from_pretrained(saved(make(**changes), tmp_path / "public"))
    origin, ours.origin = ours.origin, None
    mmtx.to_pretrained(ours, tmp_path / "again")
    weights = load_file(tmp_path / "again" / "model.safetensors")
    expected = write(FAMILIES[origin["family"]].links(origin["config"]), ours.state_dict())
    again = FAMILIES[origin["family"]].canonical(weights)
    assert all(torch.equal(again[key], value) for key, value in expected.items())
