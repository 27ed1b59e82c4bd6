"""Drawing of ids: through temperature, top-k and top-p, by their definitions."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from random_sets import examples
from torch import Tensor

from mmtx.decoding.sampling import Sampling
from mmtx.errors import InvalidValue

scores = st.lists(
    st.floats(-6, 6, allow_nan=False).map(lambda x: round(x, 2)), min_size=2, max_size=8, unique=True
).map(torch.tensor)


def kept(logits: Tensor, sampling: Sampling) -> set[int]:
    """Which ids are ever drawn, and that they are drawn as often as their renormalised probability."""
    drawn = sampling.draw(logits.expand(4000, -1), torch.Generator().manual_seed(0))
    counts = torch.bincount(drawn, minlength=len(logits)) / 4000
    support = set(drawn.tolist())
    probability = (logits / sampling.temperature).softmax(-1)
    probability = probability * torch.tensor([i in support for i in range(len(logits))])
    assert (counts - probability / probability.sum()).abs().max() < 0.05
    return support


@examples(40)
@given(scores, st.integers(1, 9))
def test_top_k_keeps_the_k_best(logits: Tensor, k: int) -> None:
    best = sorted(range(len(logits)), key=lambda i: -logits[i].item())[:k]
    support = kept(logits, Sampling(top_k=k))
    assert support <= set(best)
    assert {i for i in best if logits.softmax(-1)[i] > 0.01 * sum(logits.softmax(-1)[best])} <= support


@examples(40)
@given(scores, st.floats(0.05, 1.0))
def test_top_p_keeps_the_smallest_set_that_reaches_p(logits: Tensor, p: float) -> None:
    probability = logits.double().softmax(-1).tolist()
    nucleus: list[int] = []
    for i in sorted(range(len(logits)), key=lambda i: -probability[i]):
        reached = sum(probability[j] for j in nucleus)
        if abs(reached - p) < 1e-5:
            return  # on the edge, rounding decides
        if reached >= p:
            break
        nucleus.append(i)
    support = kept(logits, Sampling(top_p=p))
    assert support <= set(nucleus)
    total = sum(probability[i] for i in nucleus)
    assert {i for i in nucleus if probability[i] / total > 0.01} <= support


def test_temperature() -> None:
    logits = torch.tensor([1.0, 0.0, -1.0])
    kept(logits, Sampling(temperature=0.5))
    kept(logits, Sampling(temperature=2.0))
    generator = torch.Generator().manual_seed(0)
    assert Sampling(temperature=0.0).draw(logits[None], generator).tolist() == [0]
    assert Sampling(temperature=1e-4).draw(logits.expand(50, -1), generator).tolist() == [0] * 50


def test_top_p_and_top_k_keep_the_best_at_least() -> None:
    logits = torch.tensor([[0.0, 5.0, 1.0]])
    for sampling in (Sampling(top_p=1e-6), Sampling(top_k=1)):
        assert sampling.draw(logits, None).tolist() == [1]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"temperature": -1.0}, "temperature=-1.0 must be at least 0"),
        ({"temperature": float("nan")}, "temperature=nan must be at least 0"),
        ({"top_k": 0}, "top_k=0 must be at least 1"),
        ({"top_k": 3, "temperature": 0.0}, "top_k=3 changes nothing beside temperature=0, which takes the best"),
        ({"min_p": 0.1, "temperature": 0.0}, "min_p=0.1 changes nothing beside temperature=0"),
        ({"min_p": 0.0}, r"min_p=0.0 must lie in \(0, 1\]"),
        ({"repetition_penalty": 0.0}, "repetition_penalty=0.0 must be above 0, and finite"),
        ({"repetition_penalty": math.inf}, "repetition_penalty=inf must be above 0, and finite"),
        ({"frequency_penalty": 2.5}, r"frequency_penalty=2.5 must lie in -2.0..2.0; nearest: 2.0"),
        ({"presence_penalty": math.nan}, r"presence_penalty=nan must lie in -2.0..2.0"),
        ({"top_p": 0.0}, r"top_p=0.0 must lie in \(0, 1\]"),
        ({"top_p": 1.5}, r"top_p=1.5 must lie in \(0, 1\]"),
    ],
)
def test_samplers_refuse_what_they_cannot_do(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidValue, match=message):
        Sampling(**changes)


@pytest.mark.parametrize(
    "sampling", [Sampling(1e-37), *(Sampling(1.0, top_p=p) for p in (1e-9, 1e-320)), Sampling(1.0, top_k=1)]
)
def test_draws_that_leave_one_id_take_the_best(sampling: Sampling) -> None:
    """Scores of hundreds over the least temperature would be infinite."""
    scores = 300 * torch.randn(5, 11, generator=torch.Generator().manual_seed(0))
    assert torch.equal(sampling.draw(scores, None), scores.argmax(-1))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"temperature": 1e-40}, "temperature=1e-40 is too near to 0 to divide by .* nearest: 0, which takes the best"),
        ({"temperature": math.nan}, "temperature=nan must be at least 0, and finite"),
        ({"temperature": math.inf}, "temperature=inf must be at least 0, and finite"),
        ({"top_p": math.nan}, "top_p=nan must lie in"),
        ({"top_p": 0.0}, "top_p=0.0 must lie in"),
        ({"top_k": 0}, "top_k=0 must be at least 1"),
    ],
)
def test_numbers_that_nothing_can_be_drawn_with_are_named(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidValue, match=message):
        Sampling(**changes)


def test_ids_are_those_that_torch_draws() -> None:
    """Bit for bit, on a CPU."""
    for seed in range(20):
        scores = torch.randn(3, 50, generator=torch.Generator().manual_seed(seed)) * 3
        kept = scores.masked_fill(scores < scores.topk(20).values[:, -1:], float("-inf"))
        generators = [torch.Generator().manual_seed(seed) for _ in range(2)]
        drawn = Sampling(0.5, top_k=20).draw(scores, generators[0])
        assert drawn.equal(torch.multinomial((kept / 0.5).softmax(-1), 1, generator=generators[1])[:, 0])
