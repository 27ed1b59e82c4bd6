"""What stays as it is while the rest learns, and low-rank updates, which are those of the library peft."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from builders import model, text
from torch import nn
from torch.testing import assert_close

from mmtx.errors import InvalidValue
from mmtx.modalities.text import Text
from mmtx.nn.linear_by_group import LinearByGroup
from mmtx.nn.low_rank import LoRA, freeze
from mmtx.nn.low_rank_update import measure_magnitudes, merge_updates, original_of, updates_of
from mmtx.nn.stacked_linear import StackedLinear

RANK, ALPHA, X = 3, 6.0, torch.randn(4, 5, 6, generator=torch.Generator().manual_seed(1))


class Halves(nn.Module):
    """A map of three matrices, and one that reads it."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv, self.out = StackedLinear(6, 12, bias=False), nn.Linear(12, 4)
        self.stored_together = {"qkv.weight": {"query": 4, "key": 3, "value": 5}}

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.out(torch.tanh(self.qkv(x)))


def updated(seed: int = 0, **settings: Any) -> Halves:
    """With updates that are not zero."""
    torch.manual_seed(seed)
    made = Halves()
    LoRA(**{"rank": RANK, "alpha": ALPHA, "targets": ["*"], **settings}).add(made)
    for update in (*updates_of(made.qkv), *updates_of(made.out)):
        nn.init.normal_(update.up)
    return made


@pytest.mark.parametrize("dropout", [0.0, 0.4])
@pytest.mark.parametrize("magnitudes", [False, True])
@pytest.mark.parametrize("rank_stabilised", [False, True])
def test_an_update_is_that_of_peft(rank_stabilised: bool, magnitudes: bool, dropout: float) -> None:
    """Outputs, and gradients of all that learns and of what comes in, in training and behind it."""
    peft = pytest.importorskip("peft")
    ours = updated(rank_stabilised=rank_stabilised, magnitudes=magnitudes, dropout=dropout)
    plain = Halves()
    plain.load_state_dict({k.replace("parametrizations.weight.original", "weight"): v for k, v in _own(ours).items()})
    named = {"use_rslora": rank_stabilised, "use_dora": magnitudes, "lora_dropout": dropout}
    config = peft.LoraConfig(r=RANK, lora_alpha=ALPHA, target_modules=["qkv", "out"], **named)
    theirs = peft.get_peft_model(plain, config).base_model.model
    pairs = []
    for name in ("qkv", "out"):
        (update,), layer = updates_of(getattr(ours, name)), getattr(theirs, name)
        pairs += [(update.down, layer.lora_A["default"].weight), (update.up, layer.lora_B["default"].weight)]
        pairs += [(update.magnitude, layer.lora_magnitude_vector["default"].weight)] if magnitudes else []
    with torch.no_grad():
        for own, their in pairs:
            assert own is not None
            if own.dim() == 1:
                own.mul_(1.3)
            their.copy_(own)
    ours, theirs = ours.double(), theirs.double()
    for training in (True, False):
        results = []
        for each in (ours.train(training), theirs.train(training)):
            torch.manual_seed(7)
            x = X.double().requires_grad_()
            y = each(x)
            y.square().sum().backward()
            results.append([y, x.grad])
        gradients = [[own.grad for own, _ in pairs], [their.grad for _, their in pairs]]
        assert_close(results[0] + gradients[0], results[1] + gradients[1], atol=1e-10, rtol=1e-10)


def _own(module: nn.Module) -> dict[str, torch.Tensor]:
    return {key: value for key, value in module.state_dict().items() if ".weight.0." not in key}


@pytest.mark.parametrize("magnitudes", [False, True])
def test_merged_is_unmerged(magnitudes: bool) -> None:
    ours = updated(targets=["qkv.query", "qkv.value", "out"], magnitudes=magnitudes, dropout=0.3)
    merged = copy.deepcopy(ours)
    merge_updates(merged)
    assert merged.state_dict().keys() == Halves().state_dict().keys()
    assert_close(merged(X), ours.eval()(X), atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("magnitudes", [False, True])
def test_parts_of_a_map(magnitudes: bool) -> None:
    """A matrix of three is updated by itself; the rows of the others stay, and the rows of each have their own rank."""
    ours = updated(
        targets=["qkv.query", "qkv.value"], magnitudes=magnitudes, ranks={"*.query": 1}, alphas={"*.v*": 2.0}
    )
    query, value = updates_of(ours.qkv)
    assert (query.down.shape, query.up.shape, value.up.shape) == ((1, 6), (4, 1), (5, RANK))
    assert (query.scale, value.scale) == (ALPHA / 1, 2.0 / RANK)
    frozen = original_of(ours.qkv)
    assert torch.equal(ours.qkv.weight[4:7], frozen[4:7])
    for update, rows in ((query, slice(0, 4)), (value, slice(7, 12))):
        expected = frozen[rows] + update.scale * update.up @ update.down
        if magnitudes:
            expected = expected / expected.norm(dim=1, keepdim=True) * frozen[rows].norm(dim=1, keepdim=True)
        assert_close(ours.qkv.weight[rows], expected)
    assert_close(ours.qkv(X, rows=slice(4, None)), X @ ours.qkv.weight[4:].T)


def test_each_part_drops_features_by_itself() -> None:
    """As separate maps would: keys are not updated, so that nothing of theirs is dropped."""
    ours = updated(targets=["qkv.query", "qkv.value"], dropout=0.5)
    whole = ours.qkv.eval()(X)
    torch.manual_seed(3)
    dropped = ours.qkv.train()(X)
    torch.manual_seed(3)
    expected = [whole[..., 4:7]]
    for update, rows in zip(updates_of(ours.qkv), (slice(0, 4), slice(7, 12)), strict=True):
        x = nn.functional.dropout(X, 0.5)
        expected.append(X @ original_of(ours.qkv)[rows].T + update.scale * x @ (update.up @ update.down).T)
    assert_close(dropped, torch.cat([expected[1], expected[0], expected[2]], dim=-1))


def test_dropped_features_of_experts() -> None:
    torch.manual_seed(0)
    experts, counts, x = LinearByGroup(2, 6, 4, bias=True), torch.tensor([1, 3]), X[0, :4]
    LoRA(rank=1, alpha=1.0, targets=["0"], dropout=0.5, magnitudes=True).add(nn.Sequential(experts))
    (update,) = updates_of(experts)
    nn.init.normal_(update.up)
    torch.manual_seed(3)
    y = experts(x, counts)
    torch.manual_seed(3)
    dropped, bias = nn.functional.dropout(x, 0.5), experts.bias
    assert bias is not None
    for row, expert in enumerate([0, 1, 1, 1]):
        frozen = original_of(experts)[expert]
        added = experts.weight[expert] - frozen
        assert_close(y[row], frozen @ x[row] + added @ dropped[row] + bias[expert])


def test_roles_and_names_choose() -> None:
    whole = model({"text": text()})
    LoRA(rank=1, alpha=1.0, targets=["*"], roles=["matrix"]).add(whole)
    names = {name for name, child in whole.named_modules() if updates_of(child)}
    assert {name.rpartition(".")[2] for name in names} == {"qkv", "out", "up", "down"}
    with pytest.raises(InvalidValue, match="targets=tok.* matches no linear map"):
        LoRA(rank=1, alpha=1.0, targets=["tok*"], roles=["matrix"]).add(model({"text": text()}))


def test_lengths_follow_other_weights() -> None:
    ours = Halves()
    LoRA(rank=1, alpha=1.0, targets=["*"], magnitudes=True).add(ours)
    with torch.no_grad():
        original_of(ours.qkv).mul_(torch.arange(12)[:, None])  # one row is zero
    measure_magnitudes(ours)
    assert_close(ours.qkv.weight, original_of(ours.qkv))
    ours(X).sum().backward()
    assert all(p.grad.isfinite().all() for p in ours.parameters() if p.grad is not None)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"ranks": {"*.out": 0}}, r"ranks.\*.out=0 must be at least 1"),
        ({"dropout": 1.0}, r"dropout=1.0 must lie in \[0, 1\)"),
    ],
)
def test_values_that_cannot_be(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidValue, match=message):
        updated(**settings)


def test_heads_have_no_dropout() -> None:
    made = Halves()
    made.roles = {"out.weight": "head"}
    with pytest.raises(InvalidValue, match="dropout=0.1 cannot be of the features of a head: out; nearest: 0"):
        LoRA(rank=1, alpha=1.0, targets=["*"], dropout=0.1).add(made)


@pytest.mark.parametrize("name", ["source", "target"])
def test_an_embedding_that_two_texts_share_goes_by_either_name(name: str) -> None:
    source = text()
    target = Text(spec=source.spec, dim=24, clock=None, causal=True, context=None, share="source", num_segments=0)
    whole = model({"source": source, "target": target})
    freeze(whole, [f"tokenizers.{name}.embedding.*"])
    assert [key for key, value in whole.named_parameters() if not value.requires_grad] == [
        "tokenizers.source.embedding.weight"
    ]
    with pytest.raises(InvalidValue, match=r"freeze=tokenizers.nobody.\* matches no parameter"):
        freeze(whole, ["tokenizers.nobody.*"])
