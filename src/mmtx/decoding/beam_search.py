"""Beam search for the most probable continuation of a text of the set."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from mmtx.batch import Batch
from mmtx.decoding.sampling import suppressed
from mmtx.decoding.text_decoder import Logits, TextDecoder
from mmtx.errors import InvalidValue, check_at_least
from mmtx.model import MultimodalTransformer
from mmtx.process.stopping import track

MAX_BEAMS = 65536
MAX_PENALTY = 50
"""A float holds this power of the length of any text of up to eight million ids."""


def check_search(beam_size: int, length_penalty: float) -> None:
    """Raises InvalidValue for settings that beam search cannot use."""
    check_at_least("beam_size", beam_size, 1)
    if beam_size > MAX_BEAMS:
        raise InvalidValue("beam_size", beam_size, f"must be at most {MAX_BEAMS}: all are kept in memory")
    if not 0 <= length_penalty < math.inf:
        raise InvalidValue("length_penalty", length_penalty, "must be at least 0, and finite")
    if length_penalty > MAX_PENALTY:
        problem = f"must be at most {MAX_PENALTY}: beyond it, powers of the lengths of texts overflow"
        raise InvalidValue("length_penalty", length_penalty, problem)


@dataclass(frozen=True)
class Hypothesis:
    """A text that beam search found.

    Attributes:
        ids: without the end.
        log_probability: of the ids, and of the end if it was reached.
        score: log-probability over the length penalty.
    """

    ids: list[int]
    log_probability: float
    score: float


@torch.inference_mode()
def beam_search(
    model: MultimodalTransformer,
    logits: Logits,
    batch: Batch,
    text: str,
    *,
    beam_size: int,
    length_penalty: float,
    max_new_tokens: int,
    end: int,
    suppress_first: Sequence[int] = (),
    cache: bool = True,
) -> list[Hypothesis]:
    """The best continuation of each text that a beam finds.

    A hypothesis of n ids, its end included, scores ``log P / ((5 + n) / 6) ** length_penalty`` (Wu et al. 2016, arXiv
    1609.08144, equation 14). A search is over when no live hypothesis can still overtake the best finished one.

    Args (the others are those of `generate`):
        batch: the whole set; the prompts are of one length, at least 1.
        beam_size: live hypotheses kept for each text.
        length_penalty: 0 takes the most probable text; above 0 longer ones gain.
        max_new_tokens: upper limit; hypotheses that are live then count as finished.
    """
    check_search(beam_size, length_penalty)
    check_at_least("max_new_tokens", max_new_tokens, 1)
    prompt = batch[text]["ids"]
    start = prompt.shape[1]
    if start == 0 or bool((batch.lengths[text] != start).any()):
        raise ValueError(f"the prompts under '{text}' must be of one length, at least 1 token")
    decoder = TextDecoder(model, logits, batch, text, start=start, stop=start + max_new_tokens, cache=cache)
    count = len(prompt)
    beams = [_Beam(beam_size, length_penalty, max_new_tokens) for _ in range(count)]
    alive = torch.zeros(count, 1, device=prompt.device)  # log-probabilities of each beam's live hypotheses
    for step in track(range(max_new_tokens), "searching, token"):
        logits_now = decoder.scores()
        at_first = torch.full((len(logits_now),), step == 0, device=prompt.device)
        logits_now = suppressed(logits_now, suppress_first, at_first)
        scores = alive[..., None] + logits_now.float().log_softmax(-1).unflatten(0, (count, -1))
        found = _best(scores, 2 * beam_size)
        written = decoder.written[:, start:].unflatten(0, (count, -1))
        kept = [beam.advance(rows, best, end) for beam, rows, best in zip(beams, written, found, strict=True)]
        if all(beam.is_over for beam in beams) or step == max_new_tokens - 1:
            break
        first_row = torch.arange(count)[:, None] * scores.shape[1]  # of each beam
        parents = first_row + torch.tensor([[each.parent for each in row] for row in kept])
        new = torch.tensor([[each.id for each in row] for row in kept], device=prompt.device)
        alive = torch.tensor([[each.log_probability for each in row] for row in kept], device=prompt.device)
        decoder.select(parents.flatten().to(prompt.device))
        decoder.append(new.flatten())
    return [beam.best() for beam in beams]


class _Candidate(NamedTuple):
    """A live hypothesis of a beam, extended by one id."""

    log_probability: float
    parent: int
    id: int


def _best(scores: Float[Tensor, "B K V"], count: int) -> list[list[_Candidate]]:
    """The most probable candidates of each beam, the best first."""
    best, index = scores.flatten(1).topk(min(count, scores[0].numel()))
    rows = zip(best.tolist(), index.tolist(), strict=True)
    return [[_Candidate(p, *divmod(i, scores.shape[-1])) for p, i in zip(*row, strict=True)] for row in rows]


class _Beam:
    """The best finished hypothesis of one search, and whether it is over."""

    def __init__(self, size: int, length_penalty: float, max_new_tokens: int) -> None:
        self.size, self.length_penalty, self.max_new_tokens = size, length_penalty, max_new_tokens
        self.is_over = False
        self._best: Hypothesis | None = None

    def advance(self, written: Int[Tensor, "K n"], candidates: list[_Candidate], end: int) -> list[_Candidate]:
        """Finishes the hypotheses that the candidates end; returns the `size` best of those that stay live."""
        length = written.shape[1] + 1
        live = [each for each in candidates if each.id != end][: self.size]
        live += [_Candidate(float("-inf"), candidates[0].parent, 0)] * (self.size - len(live))
        if self.is_over:
            return live
        finished = [each for each in candidates[: self.size] if each.id == end]
        for log_probability, parent, last in [*finished, *(live if length == self.max_new_tokens else [])]:
            ids = written[parent].tolist() + ([] if last == end else [last])
            self._offer(Hypothesis(ids, log_probability, log_probability / self._penalty(length)))
        if self._best is not None:
            self.is_over = live[0].log_probability / self._penalty(self.max_new_tokens) <= self._best.score
        return live

    def best(self) -> Hypothesis:
        assert self._best is not None
        return self._best

    def _offer(self, hypothesis: Hypothesis) -> None:
        if self._best is None or hypothesis.score > self._best.score:
            self._best = hypothesis

    def _penalty(self, length: int) -> float:
        return ((5 + length) / 6) ** self.length_penalty
