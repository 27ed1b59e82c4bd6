"""Filters of scores: as those of transformers, ties included, and by their definitions."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from transformers.generation.logits_process import (
    LogitsProcessorList,
    MinPLogitsWarper,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from mmtx.decoding.filters import less_for_each_draw, min_p, top_k, top_p, without_repetition
from mmtx.decoding.sampling import Sampling

ROWS, IDS = 40, 31


def random_scores(seed: int, *, ties: bool) -> Tensor:
    """Of halves, where ids are to be equal: about six of each."""
    scores = 3 * torch.randn(ROWS, IDS, generator=torch.Generator().manual_seed(seed))
    return (scores / 3).mul(2).round() / 2 if ties else scores


def texts(seed: int) -> Tensor:
    return torch.randint(IDS, (ROWS, 12), generator=torch.Generator().manual_seed(seed))


ties = pytest.mark.parametrize("ties", [False, True], ids=["all different", "ties"])


@ties
@pytest.mark.parametrize("limit", [1, 2, 5, IDS - 1, IDS, IDS + 9])
def test_top_k(ties: bool, limit: int) -> None:
    scores = random_scores(limit, ties=ties)
    assert top_k(scores, limit).equal(TopKLogitsWarper(limit)(None, scores))


@ties
@pytest.mark.parametrize("limit", [0.05, 0.3, 0.5, 0.9, 0.999, 1.0])
def test_top_p(ties: bool, limit: float) -> None:
    scores = random_scores(int(1000 * limit), ties=ties)
    assert top_p(scores, limit).equal(TopPLogitsWarper(limit)(None, scores))


@ties
@pytest.mark.parametrize("limit", [0.01, 0.1, 0.3, 1.0])
def test_min_p(ties: bool, limit: float) -> None:
    scores = random_scores(int(1000 * limit), ties=ties)
    assert min_p(scores, limit).equal(MinPLogitsWarper(limit)(None, scores))


@ties
@pytest.mark.parametrize("penalty", [0.5, 1.0, 1.2, 3.0])
def test_repetition_penalty(ties: bool, penalty: float) -> None:
    scores, written = random_scores(1, ties=ties), texts(1)
    assert without_repetition(scores, written, penalty).equal(
        RepetitionPenaltyLogitsProcessor(penalty)(written, scores)
    )


@ties
def test_the_list_is_theirs(ties: bool) -> None:
    """All of them, in the order of transformers."""
    scores, written = random_scores(2, ties=ties), texts(2)
    theirs = LogitsProcessorList(
        [
            RepetitionPenaltyLogitsProcessor(1.3),
            TemperatureLogitsWarper(0.7),
            TopKLogitsWarper(20),
            TopPLogitsWarper(0.9),
            MinPLogitsWarper(0.05),
        ]
    )
    sampling = Sampling(temperature=0.7, top_k=20, top_p=0.9, min_p=0.05, repetition_penalty=1.3)
    ours = sampling.filtered(sampling.penalised(scores, written, torch.zeros(ROWS, dtype=torch.long)))
    expected = theirs(written, scores)
    assert ours.isinf().equal(expected.isinf())
    assert 0 < ours.isinf().sum() < ours.numel() - ROWS
    torch.testing.assert_close(ours.softmax(-1), expected.softmax(-1))


def test_frequency_and_presence_penalties() -> None:
    """Id by id, of what was written behind each prompt."""
    scores, written = random_scores(3, ties=False), texts(3)
    starts = torch.randint(13, (ROWS,), generator=torch.Generator().manual_seed(4))
    expected = scores.clone()
    for row, (ids, start) in enumerate(zip(written.tolist(), starts.tolist(), strict=True)):
        for i in range(IDS):
            times = ids[start:].count(i)
            expected[row, i] -= times * 0.4 + (0.7 if times else 0)
    found = less_for_each_draw(scores, written, starts, frequency=0.4, presence=0.7)
    torch.testing.assert_close(found, expected)
    sampling = Sampling(frequency_penalty=0.4, presence_penalty=0.7)
    assert sampling.penalised(scores, written, starts).equal(found)


@pytest.mark.parametrize("changes", [{}, {"temperature": 0.5}, {"top_k": 4}, {"top_p": 0.5}, {"min_p": 0.2}])
def test_what_is_off_changes_nothing(changes: dict[str, Any]) -> None:
    scores = random_scores(5, ties=False)
    assert Sampling(**changes).penalised(scores, texts(5), torch.zeros(ROWS, dtype=torch.long)) is scores
