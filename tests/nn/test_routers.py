"""Which experts a token takes, against loops over tokens and the formulas of the papers."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from mmtx.errors import InvalidValue
from mmtx.nn.roles import roles_of
from mmtx.nn.routers import Router, Routing, SigmoidRouter, SoftmaxRouter

KEYS: dict[str, Any] = {"top_k": 2, "normalise": True, "scale": 1.0, "num_groups": 1, "top_groups": 1}


def routed(router: Router, num_tokens: int = 20) -> tuple[list[list[float]], Routing]:
    """Logits of random tokens, as numbers, and what the router gives."""
    x = torch.randn(num_tokens, router.weight.shape[1], generator=torch.Generator().manual_seed(1))
    return (x @ router.weight.T).tolist(), router(x)


@pytest.mark.parametrize("normalise", [True, False])
def test_softmax_of_all_or_of_the_chosen(normalise: bool) -> None:
    """Mixtral takes a softmax over the logits of the chosen, OLMoE the probabilities among all."""
    logits, found = routed(SoftmaxRouter(8, 5, **{**KEYS, "normalise": normalise}))
    for own, chosen, weight in zip(logits, found.chosen, found.weight, strict=True):
        best = sorted(range(5), key=own.__getitem__, reverse=True)[:2]
        among = torch.tensor([own[i] for i in best] if normalise else own).softmax(0)
        assert chosen.tolist() == best
        torch.testing.assert_close(weight, among if normalise else among[best])


def test_a_bias_of_the_logits() -> None:
    """As gpt-oss: it chooses, and it weighs; what balances learns from it too."""
    router = SoftmaxRouter(8, 5, **KEYS, bias=True)
    assert router.bias is not None
    assert roles_of(router) == {"weight": "head", "bias": "bias"}
    with torch.no_grad():
        router.bias.copy_(torch.tensor([0.0, 3.0, -1.0, 0.5, 2.0]))
    logits, found = routed(router)
    for own, chosen, weight, given in zip(logits, found.chosen, found.weight, found.logits, strict=True):
        biased = torch.tensor(own) + router.bias
        best = biased.topk(2)
        assert chosen.equal(best.indices)
        torch.testing.assert_close(weight, best.values.softmax(0))
        torch.testing.assert_close(given, biased)


def deepseek(logits: list[float], bias: list[float], groups: int, top_groups: int, k: int) -> tuple[list[int], Any]:
    """Equations 12 to 16 of DeepSeek-V3, and the choice of groups of its section 2.1.2."""
    scores = torch.tensor(logits).sigmoid().tolist()
    biased = [score + own for score, own in zip(scores, bias, strict=True)]
    size = len(logits) // groups
    best_two = [sum(sorted(biased[g * size : (g + 1) * size])[-2:]) for g in range(groups)]
    taken = sorted(range(groups), key=best_two.__getitem__)[-top_groups:]
    allowed = [i for i in range(len(logits)) if i // size in taken]
    chosen = sorted(allowed, key=biased.__getitem__, reverse=True)[:k]
    return chosen, torch.tensor([scores[i] for i in chosen]) / sum(scores[i] for i in chosen)


@pytest.mark.parametrize(("groups", "top_groups"), [(1, 1), (4, 2), (8, 3)])
def test_sigmoids_with_a_bias_and_groups(groups: int, top_groups: int) -> None:
    keys = {**KEYS, "top_k": 3, "scale": 2.5, "num_groups": groups, "top_groups": top_groups}
    router = SigmoidRouter(8, 8, **keys, bias_rate=0.01)
    router.bias.copy_(torch.linspace(-0.5, 0.3, 8))
    logits, found = routed(router)
    for own, chosen, weight in zip(logits, found.chosen, found.weight, strict=True):
        expected, share = deepseek(own, router.bias.tolist(), groups, top_groups, 3)
        assert chosen.tolist() == expected
        torch.testing.assert_close(weight, 2.5 * share)
    torch.testing.assert_close(found.probability.sum(-1), torch.ones(20))


def test_a_bias_follows_the_loads() -> None:
    router = SigmoidRouter(8, 4, **KEYS, bias_rate=0.01)
    load, counts, left_out = torch.tensor([9.0, 1.0, 2.0, 0.0]), torch.tensor(0.0), torch.tensor(1.0)
    router.follow(load, left_out)
    assert not router.bias.any()
    router.follow(load, counts)
    torch.testing.assert_close(router.bias.data, torch.tensor([-0.015, 0.005, 0.005, 0.005]))  # recentred
    for _ in range(200):
        router.follow(routed(router, 500)[1].chosen.flatten().bincount(minlength=4).float(), counts)
    loads = routed(router, 500)[1].chosen.flatten().bincount(minlength=4)
    assert loads.max() < 1.2 * loads.float().mean()
    assert router.bias.mean().abs() < 1e-5


def test_what_it_computes_is_float32() -> None:
    router, x = SoftmaxRouter(8, 4, **KEYS), torch.randn(3, 8)
    with torch.autocast("cpu", torch.bfloat16):
        mixed = router(x)
    assert mixed.logits.equal(router(x).logits)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"top_k": 0}, "top_k=0 must be at least 1"),
        ({"top_k": 7}, "top_k=7 is more than the 6 experts that a token may take"),
        ({"num_groups": 4}, "num_groups=4 does not divide num_experts=6"),
        ({"num_groups": 3, "top_k": 3}, "top_k=3 is more than the 2"),
        ({"top_groups": 2}, "num_groups=1 must be at least 2"),
    ],
)
def test_what_cannot_be_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidValue, match=message):
        SoftmaxRouter(8, 6, **{**KEYS, **changes})
