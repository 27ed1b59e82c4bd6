"""Beam search for the most probable continuation of a text of the set."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from mmtx.batch import Batch
from mmtx.decoding.filters import suppressed
from mmtx.decoding.text_decoder import Logits, TextDecoder
from mmtx.errors import InvalidValue, check_at_least
from mmtx.model import MultimodalTransformer
from mmtx.process.device_copies import sent
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
    1609.08144, equation 14). A search is over when no live hypothesis can still overtake the best finished one. The
    host chooses among candidates, so it waits for a GPU once in each step.

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
    device = prompt.device
    decoder = TextDecoder(model, logits, batch, text, start=start, stop=start + max_new_tokens, cache=cache)
    count = len(prompt)
    beams = [_Beam(beam_size, length_penalty, max_new_tokens) for _ in range(count)]
    alive = torch.zeros(count, 1, device=device)  # log-probabilities of each beam's live hypotheses
    for step in track(range(max_new_tokens), "searching, token"):
        logits_now = decoder.scores()
        if step == 0:
            logits_now = suppressed(logits_now, suppress_first, torch.ones_like(logits_now[:, 0], dtype=torch.bool))
        scores = alive[..., None] + logits_now.float().log_softmax(-1).unflatten(0, (count, -1))
        found = _best(scores, 2 * beam_size)
        kept = [beam.advance(best, end) for beam, best in zip(beams, found, strict=True)]
        if all(beam.is_over for beam in beams) or step == max_new_tokens - 1:
            break
        chosen = sent(torch.tensor(kept, dtype=torch.float64), device)  # which holds every id and float32 as it is
        log_probability, parents, new = chosen.unbind(-1)
        first_row = torch.arange(count, device=device)[:, None] * scores.shape[1]  # of each beam
        alive = log_probability.float()
        decoder.select((first_row + parents.long()).flatten())
        decoder.append(new.long().flatten())
    return [beam.best() for beam in beams]


class _Candidate(NamedTuple):
    """A live hypothesis of a beam, extended by one id."""

    log_probability: float
    parent: int
    id: int


def _best(scores: Float[Tensor, "B K V"], count: int) -> list[list[_Candidate]]:
    """The most probable candidates of each beam, the best first."""
    best, index = scores.flatten(1).topk(min(count, scores[0].numel()))
    rows = torch.stack([best.double(), index.double()], dim=-1).tolist()  # read together
    return [[_Candidate(p, *divmod(int(i), scores.shape[-1])) for p, i in row] for row in rows]


class _Beam:
    """The live hypotheses of one search, the best finished one, and whether it is over."""

    def __init__(self, size: int, length_penalty: float, max_new_tokens: int) -> None:
        self.size, self.length_penalty, self.max_new_tokens = size, length_penalty, max_new_tokens
        self.is_over = False
        self._live: list[list[int]] = [[]]
        self._best: Hypothesis | None = None

    def advance(self, candidates: list[_Candidate], end: int) -> list[_Candidate]:
        """Finishes the hypotheses that the candidates end; returns the `size` best of those that stay live."""
        before, length = self._live, len(self._live[0]) + 1
        live = [each for each in candidates if each.id != end][: self.size]
        live += [_Candidate(float("-inf"), candidates[0].parent, 0)] * (self.size - len(live))
        self._live = [[*before[parent], new] for _, parent, new in live]
        if self.is_over:
            return live
        finished = [each for each in candidates[: self.size] if each.id == end]
        for log_probability, parent, last in [*finished, *(live if length == self.max_new_tokens else [])]:
            ids = before[parent] + ([] if last == end else [last])
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
