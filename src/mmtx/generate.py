"""One cached decoder for every text that a model writes: greedy, sampled, or by beam search."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from mmtx.batch import Batch
from mmtx.crossing import Memory
from mmtx.errors import InvalidValue
from mmtx.modalities.text import Text
from mmtx.model import MultimodalTransformer
from mmtx.nn.attention import LayerCache
from mmtx.nn.layout import input_by_input
from mmtx.tokens import TokenSet

Logits = Callable[[Tensor], Tensor]
"""From hidden states to scores of the next id."""


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
        if not self.temperature >= 0:
            raise InvalidValue("temperature", self.temperature, "must be at least 0")
        if self.top_k is not None and self.top_k < 1:
            raise InvalidValue("top_k", self.top_k, "must be at least 1")
        if self.top_p is not None and not 0 < self.top_p <= 1:
            raise InvalidValue("top_p", self.top_p, "must lie in (0, 1]")

    def draw(self, logits: Float[Tensor, "B V"], generator: torch.Generator | None) -> Int[Tensor, " B"]:
        if self.temperature == 0:
            return logits.argmax(-1)
        logits = logits.float() / self.temperature
        if self.top_k is not None and self.top_k < logits.shape[-1]:
            logits = logits.masked_fill(logits < logits.topk(self.top_k).values[:, -1:], float("-inf"))
        probability = logits.softmax(-1)
        if self.top_p is not None:
            ranked, index = probability.sort(-1, descending=True)
            beyond = ranked.cumsum(-1) - ranked >= self.top_p  # the best always stays
            probability = probability.masked_fill(beyond.scatter(-1, index, beyond), 0.0)
        return torch.multinomial(probability, 1, generator=generator)[:, 0]


GREEDY = Sampling(temperature=0.0)


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
        for column in range(shortest, longest + max_new_tokens):
            new = sampling.draw(decoder.scores(), generator)
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
        cache: keep keys and values of earlier tokens.
    """
    if beam_size < 1:
        raise InvalidValue("beam_size", beam_size, "must be at least 1")
    if length_penalty < 0:
        raise InvalidValue("length_penalty", length_penalty, "must be at least 0")
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
    for step in range(max_new_tokens):
        scores = alive[..., None] + decoder.scores().float().log_softmax(-1).unflatten(0, (count, -1))
        vocabulary = scores.shape[-1]
        best, index = scores.flatten(1).topk(min(2 * beam_size, scores[0].numel()))
        width = alive.shape[1]
        kept = []
        for b, beam in enumerate(beams):
            candidates = list(zip(best[b].tolist(), index[b].tolist(), strict=True))
            kept.append(beam.advance(decoder.written[b * width : (b + 1) * width, start:], candidates, vocabulary, end))
        if all(beam.is_over for beam in beams) or step == max_new_tokens - 1:
            break
        parents = torch.tensor([[b * width + i // vocabulary for _, i in row] for b, row in enumerate(kept)])
        new = torch.tensor([[i % vocabulary for _, i in row] for row in kept], device=prompt.device)
        alive = torch.tensor([[value for value, _ in row] for row in kept], device=prompt.device)
        decoder.select(parents.flatten().to(prompt.device))
        decoder.append(new.flatten())
    return [beam.best() for beam in beams]


class _Beam:
    """What one search has found and what it still follows."""

    def __init__(self, size: int, length_penalty: float, max_new_tokens: int) -> None:
        self.size, self.length_penalty, self.max_new_tokens = size, length_penalty, max_new_tokens
        self.is_over = False
        self._best: Hypothesis | None = None

    def advance(
        self, written: Int[Tensor, "K n"], candidates: list[tuple[float, int]], vocabulary: int, end: int
    ) -> list[tuple[float, int]]:
        """Ends what the candidates end, and gives `size` of those that go on, as (log-probability, index)."""
        length = written.shape[1] + 1
        going_on = [(value, i) for value, i in candidates if i % vocabulary != end][: self.size]
        going_on += [(float("-inf"), candidates[0][1] // vocabulary * vocabulary)] * (self.size - len(going_on))
        if self.is_over:
            return going_on
        for value, i in candidates[: self.size]:
            if i % vocabulary == end:
                self._offer(Hypothesis(written[i // vocabulary].tolist(), value, value / self._penalty(length)))
        if length == self.max_new_tokens:
            for value, i in going_on:
                ids = [*written[i // vocabulary].tolist(), i % vocabulary]
                self._offer(Hypothesis(ids, value, value / self._penalty(length)))
        if self._best is not None:
            self.is_over = going_on[0][0] / self._penalty(self.max_new_tokens) <= self._best.score
        return going_on

    def best(self) -> Hypothesis:
        assert self._best is not None
        return self._best

    def _offer(self, hypothesis: Hypothesis) -> None:
        if self._best is None or hypothesis.score > self._best.score:
            self._best = hypothesis

    def _penalty(self, length: int) -> float:
        return ((5 + length) / 6) ** self.length_penalty


class TextDecoder:
    """Scores of the next id of one text of the set, one column after another.

    What the text listens to (an encoder's memory, a picture before it) is computed once where there is a cache.

    Args:
        model: in eval mode.
        logits: from hidden states to scores of the next id.
        batch: the whole set.
        text: name of the text.
        start: columns of the text that are given.
        stop: columns that may be written in all.
        cache: keep keys and values of earlier tokens, as long as nothing is cropped.
    """

    def __init__(
        self,
        model: MultimodalTransformer,
        logits: Logits,
        batch: Batch,
        text: str,
        *,
        start: int,
        stop: int,
        cache: bool,
    ) -> None:
        self.written: Int[Tensor, "B n"] = batch[text]["ids"][:, :start]
        self._model, self._logits, self._batch, self._text = model, logits, batch, text
        tokenizer = model.tokenizer(text)
        assert isinstance(tokenizer, Text)
        self._tokenizer, self._context = tokenizer, tokenizer.context
        room = min(stop - 1, self._context)
        self._cached = None
        if cache and start <= room and _cache_can_grow(model, text):
            blank = self.written.new_zeros(len(self.written), room - start)
            whole = model.tokenize(_with_text(batch, text, torch.cat([self.written, blank], dim=1)))
            self._cached = _Cached(model, tokenizer, whole, room)

    def scores(self) -> Float[Tensor, "B V"]:
        """Scores of the id that follows what is written."""
        if self._cached is not None and self.written.shape[1] <= self._cached.room:
            return self._logits(self._cached.last_hidden(self.written))
        cropped = self.written[:, -self._context :]
        with self._model.sharing():  # no later step asks for what this one computes
            encoded = self._model(_with_text(self._batch, self._text, cropped))
        return self._logits(encoded.tokens(self._text)[:, -1])

    def append(self, ids: Int[Tensor, " B"]) -> None:
        self.written = torch.cat([self.written, ids[:, None]], dim=1)

    def select(self, index: Int[Tensor, " rows"]) -> None:
        """Goes on with some rows, in any order, any number of times."""
        self.written, self._batch = self.written[index], self._batch.select(index)
        if self._cached is not None:
            self._cached.select(index)


class _Cached:
    """Hidden states of the newest column, every token computed once."""

    def __init__(self, model: MultimodalTransformer, tokenizer: Text, whole: TokenSet, room: int) -> None:
        self.room = room
        self._backbone, self._tokenizer = model.backbone, tokenizer
        self._content, self._place, self._connectivity = whole.content, whole.place, whole.connectivity
        self._memory: Memory | None = model.remember(whole.memory) if whole.memory is not None else None
        self._cache: list[LayerCache] = self._backbone.new_cache(len(self._connectivity))
        self._before = len(self._connectivity) - room  # tokens that stand before the text
        self._computed = 0

    def last_hidden(self, written: Int[Tensor, "B n"]) -> Float[Tensor, "B D"]:
        stop = self._before + written.shape[1]
        connectivity = self._connectivity.prefix(stop)
        if self._computed == 0:
            x = self._content[:, :stop] + self._place[:, :stop]
        else:
            x = self._tokenizer.embed(written[:, -1:]) + self._place[:, stop - 1 : stop]
            connectivity = connectivity.tail(1)
        self._computed = stop
        return self._backbone(x, connectivity, self._cache, self._memory)[:, -1]

    def select(self, index: Int[Tensor, " rows"]) -> None:
        self._content, self._connectivity = self._content[index], self._connectivity.select(index)
        if self._place.shape[0] > 1:
            self._place = self._place[index]
        if self._memory is not None:
            self._memory = self._memory.select(index)
        for layer in self._cache:
            layer.select(index)


def _cache_can_grow(model: MultimodalTransformer, text: str) -> bool:
    """New tokens stand at the end, and nothing that stands before them listens to them."""
    tokenizer, names = model.tokenizer(text), model.decoded
    clocks = [model.clock_of[name] for name in names]
    alone = names[-1] == text and clocks.count(clocks[-1]) == 1
    return alone and isinstance(tokenizer, Text) and tokenizer.causal


def _with_text(batch: Batch, text: str, ids: Int[Tensor, "B n"]) -> Batch:
    lengths = torch.full((len(ids),), ids.shape[1], device=ids.device)
    return batch.with_name(text, {**batch[text], "ids": ids}, lengths, full=True)
