"""Texts that a model writes: greedy, sampled, or by beam search."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from mmtx.batch import Batch
from mmtx.decoding.cpu_layout import input_by_input
from mmtx.decoding.decoder import Logits, TextDecoder
from mmtx.errors import InvalidValue
from mmtx.model import MultimodalTransformer
from mmtx.process.stopping import track


@dataclass(frozen=True)
class Sampling:
    """How the next id is drawn from its scores.

    Args:
        temperature: divides the scores; 0 takes the best.
        top_k: keep the k best.
        top_p: keep the smallest set whose probability reaches p (Holtzman et al. 2019, arXiv 1904.09751).
    """

    temperature: float = 1.0
    top_k: int | None = None
    top_p: float | None = None

    def __post_init__(self) -> None:
        check_temperature(self.temperature)
        if self.top_k is not None and self.top_k < 1:
            raise InvalidValue("top_k", self.top_k, "must be at least 1")
        if self.top_p is not None and not 0 < self.top_p <= 1:
            raise InvalidValue("top_p", self.top_p, "must lie in (0, 1]")

    def draw(self, logits: Float[Tensor, "B V"], generator: torch.Generator | None) -> Int[Tensor, " B"]:
        if self.temperature == 0:
            return logits.argmax(-1)
        logits = sharpened(logits, self.temperature)
        if self.top_k is not None and self.top_k < logits.shape[-1]:
            logits = logits.masked_fill(logits < logits.topk(self.top_k).values[:, -1:], float("-inf"))
        probability = logits.softmax(-1)
        if self.top_p is not None:
            ranked, index = probability.sort(-1, descending=True)
            beyond = ranked.cumsum(-1) - ranked >= self.top_p
            beyond[..., 0] = False  # the best always stays, even where float32 has no number as small as top_p
            probability = probability.masked_fill(beyond.scatter(-1, index, beyond), 0.0)
        return torch.multinomial(probability, 1, generator=generator)[:, 0]


def check_temperature(temperature: float) -> None:
    """Raises InvalidValue for a temperature that scores cannot be divided by; 0 stands for the best."""
    if not 0 <= temperature < math.inf:
        raise InvalidValue("temperature", temperature, "must be at least 0, and finite")
    least = torch.finfo(torch.float32).tiny
    if 0 < temperature < least:
        problem = f"is too near to 0 to divide by (at least {least:.2g})"
        raise InvalidValue("temperature", temperature, problem, "0, which takes the best each time")


def sharpened(logits: Float[Tensor, "*B V"], temperature: float) -> Float[Tensor, "*B V"]:
    """Scores over a temperature above 0, up to a constant in each row: the best are 0, so that none overflows."""
    logits = logits.float()
    return (logits - logits.amax(-1, keepdim=True)) / temperature


GREEDY = Sampling(temperature=0.0)


MOST_BEAMS = 65536
LARGEST_PENALTY = 50
"""With which a float holds the power of the length of any text of up to eight million ids."""


def check_search(beam_size: int, length_penalty: float) -> None:
    """Raises InvalidValue for settings with which nothing can be searched."""
    if beam_size < 1:
        raise InvalidValue("beam_size", beam_size, "must be at least 1")
    if beam_size > MOST_BEAMS:
        raise InvalidValue("beam_size", beam_size, f"must be at most {MOST_BEAMS}: all are kept in memory")
    if not 0 <= length_penalty < math.inf:
        raise InvalidValue("length_penalty", length_penalty, "must be at least 0, and finite")
    if length_penalty > LARGEST_PENALTY:
        problem = f"must be at most {LARGEST_PENALTY}: beyond it, powers of the lengths of texts overflow"
        raise InvalidValue("length_penalty", length_penalty, problem)


@torch.inference_mode()
def generate(
    model: MultimodalTransformer,
    logits: Logits,
    batch: Batch,
    text: str,
    *,
    max_new_tokens: int,
    sampling: Sampling = GREEDY,
    generator: torch.Generator | None = None,
    end: int | None = None,
    not_first: Sequence[int] = (),
    cache: bool = True,
) -> list[list[int]]:
    """Continues one text of the set.

    Beyond the context, the oldest ids are cropped and everything is computed anew for each token, so the result is the
    same with and without the cache.

    Args:
        model: in eval mode.
        logits: from hidden states to scores of the next id.
        batch: the whole set; each text to continue has at least one id, and they may be of unequal lengths.
        text: name of the text to continue.
        max_new_tokens: upper limit for each.
        sampling: how ids are drawn.
        generator: source of randomness, on the device of the model.
        end: id that ends a text; it is not part of the result.
        not_first: ids that nothing new begins with.
        cache: keep keys and values of earlier tokens.

    Returns:
        The new ids of each sample.
    """
    prompt, lengths = batch[text]["ids"], batch.lengths[text]
    shortest, longest = (int(lengths.min()), int(lengths.max())) if len(batch) else (0, 0)
    if shortest < 1:
        raise ValueError(f"the prompts under '{text}' must have at least 1 token")
    decoder = TextDecoder(model, logits, batch, text, start=shortest, stop=longest + max_new_tokens, cache=cache)
    ended = torch.zeros(len(prompt), dtype=torch.bool, device=prompt.device)
    with input_by_input(model, products=max_new_tokens if cache else 0, vectors=len(prompt)):
        for column in track(range(shortest, longest + max_new_tokens), "writing, token"):
            new = sampling.draw(_without(decoder.scores(), not_first, lengths == column), generator)
            if end is not None:
                new = torch.where(ended, end, new)
            if column < longest:  # longer prompts go on as they are
                new = torch.where(column < lengths, prompt[:, column], new)
            decoder.append(new)
            ended = ended | _is_over(new, column, lengths, max_new_tokens, end)
            if bool(ended.all()):
                break
    written = decoder.written.tolist()
    return [
        _until(row[start : start + max_new_tokens], end) for row, start in zip(written, lengths.tolist(), strict=True)
    ]


def _without(scores: Float[Tensor, "B V"], ids: Sequence[int], rows: Bool[Tensor, " B"]) -> Float[Tensor, "B V"]:
    """Scores at which some rows never take some ids."""
    if not ids or not bool(rows.any()):
        return scores
    without = scores.index_fill(-1, torch.tensor(ids, device=scores.device), float("-inf"))
    return torch.where(rows[:, None], without, scores)


def _is_over(
    new: Int[Tensor, " B"], column: int, lengths: Int[Tensor, " B"], max_new_tokens: int, end: int | None
) -> Bool[Tensor, " B"]:
    """Rows that need no more: they have ended, or are as long as they may be."""
    long_enough = column + 1 >= lengths + max_new_tokens
    return long_enough if end is None else long_enough | ((new == end) & (column >= lengths))


def _until(ids: list[int], end: int | None) -> list[int]:
    return ids[: ids.index(end)] if end in ids else ids


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
    not_first: Sequence[int] = (),
    cache: bool = True,
) -> list[Hypothesis]:
    """The best continuation of each text that a beam finds.

    A hypothesis of n ids, its end included, scores ``log P / ((5 + n) / 6) ** length_penalty`` (Wu et al. 2016, arXiv
    1609.08144, equation 14). A search is over when nothing that is alive can still overtake the best that has ended.

    Args:
        model: in eval mode.
        logits: from hidden states to scores of the next id.
        batch: the whole set; the prompts are of one length, at least 1.
        text: name of the text to continue.
        beam_size: hypotheses that are kept alive.
        length_penalty: 0 takes the most probable text; above 0 longer ones gain.
        max_new_tokens: upper limit; what is still alive then counts as it is.
        end: id that ends a text.
        not_first: ids that nothing new begins with.
        cache: keep keys and values of earlier tokens.
    """
    check_search(beam_size, length_penalty)
    if max_new_tokens < 1:
        raise InvalidValue("max_new_tokens", max_new_tokens, "must be at least 1")
    prompt = batch[text]["ids"]
    start = prompt.shape[1]
    if start == 0 or bool((batch.lengths[text] != start).any()):
        raise ValueError(f"the prompts under '{text}' must be of one length, at least 1 token")
    decoder = TextDecoder(model, logits, batch, text, start=start, stop=start + max_new_tokens, cache=cache)
    count = len(prompt)
    beams = [_Beam(beam_size, length_penalty, max_new_tokens) for _ in range(count)]
    alive = torch.zeros(count, 1, device=prompt.device)  # log-probability of what each beam keeps
    for step in track(range(max_new_tokens), "searching, token"):
        here = decoder.scores()
        here = _without(here, not_first, torch.full((len(here),), step == 0, device=here.device))
        scores = alive[..., None] + here.float().log_softmax(-1).unflatten(0, (count, -1))
        found = _best(scores, 2 * beam_size)
        written = decoder.written[:, start:].unflatten(0, (count, -1))
        kept = [beam.advance(own, ids, end) for beam, own, ids in zip(beams, written, found, strict=True)]
        if all(beam.is_over for beam in beams) or step == max_new_tokens - 1:
            break
        rows = torch.arange(count)[:, None] * scores.shape[1]  # where each beam's hypotheses begin
        parents = rows + torch.tensor([[each.parent for each in row] for row in kept])
        new = torch.tensor([[each.id for each in row] for row in kept], device=prompt.device)
        alive = torch.tensor([[each.log_probability for each in row] for row in kept], device=prompt.device)
        decoder.select(parents.flatten().to(prompt.device))
        decoder.append(new.flatten())
    return [beam.best() for beam in beams]


class _Candidate(NamedTuple):
    """One more id behind one of a beam's hypotheses."""

    log_probability: float
    parent: int
    id: int


def _best(scores: Float[Tensor, "B K V"], count: int) -> list[list[_Candidate]]:
    """The most probable candidates of each beam, the best first."""
    best, index = scores.flatten(1).topk(min(count, scores[0].numel()))
    rows = zip(best.tolist(), index.tolist(), strict=True)
    return [[_Candidate(p, *divmod(i, scores.shape[-1])) for p, i in zip(*row, strict=True)] for row in rows]


class _Beam:
    """What one search has found and what it still follows."""

    def __init__(self, size: int, length_penalty: float, max_new_tokens: int) -> None:
        self.size, self.length_penalty, self.max_new_tokens = size, length_penalty, max_new_tokens
        self.is_over = False
        self._best: Hypothesis | None = None

    def advance(self, written: Int[Tensor, "K n"], candidates: list[_Candidate], end: int) -> list[_Candidate]:
        """Ends what the candidates end, and gives `size` of those that go on."""
        length = written.shape[1] + 1
        going_on = [each for each in candidates if each.id != end][: self.size]
        going_on += [_Candidate(float("-inf"), candidates[0].parent, 0)] * (self.size - len(going_on))
        if self.is_over:
            return going_on
        over = [each for each in candidates[: self.size] if each.id == end]
        for log_probability, parent, last in [*over, *(going_on if length == self.max_new_tokens else [])]:
            ids = written[parent].tolist() + ([] if last == end else [last])
            self._offer(Hypothesis(ids, log_probability, log_probability / self._penalty(length)))
        if self._best is not None:
            self.is_over = going_on[0].log_probability / self._penalty(self.max_new_tokens) <= self._best.score
        return going_on

    def best(self) -> Hypothesis:
        assert self._best is not None
        return self._best

    def _offer(self, hypothesis: Hypothesis) -> None:
        if self._best is None or hypothesis.score > self._best.score:
            self._best = hypothesis

    def _penalty(self, length: int) -> float:
        return ((5 + length) / 6) ** self.length_penalty
