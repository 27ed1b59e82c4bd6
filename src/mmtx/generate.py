"""Cached decoding of text, given whatever else is in the set."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from mmtx.batch import Batch
from mmtx.errors import InvalidValue
from mmtx.modalities.text import Text
from mmtx.model import MultimodalTransformer


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
    logits: Callable[[Tensor], Tensor],
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
        batch: the whole set; the texts to continue are all of one length.
        text: name of the text to continue.
        max_new_tokens: upper limit.
        sampling: how ids are drawn.
        generator: source of randomness, on the device of the model.
        end: id that ends a text; it is not part of the result.
        cache: keep keys and values of earlier tokens.

    Returns:
        The new ids of each sample.
    """
    prompt = batch[text]["ids"]
    if prompt.shape[1] == 0 or bool((batch.lengths[text] != prompt.shape[1]).any()):
        raise ValueError(f"the prompts under '{text}' must be of one length, at least 1 token")
    written, ended = [prompt], torch.zeros(len(prompt), dtype=torch.bool, device=prompt.device)
    for scores in _next_scores(model, logits, batch, text, max_new_tokens, cache, written):
        new = sampling.draw(scores, generator)
        if end is not None:
            new = torch.where(ended, end, new)
            ended = ended | (new == end)
        written.append(new[:, None])
        if end is not None and bool(ended.all()):
            break
    return [_until(row, end) for row in torch.cat(written, dim=1)[:, prompt.shape[1] :].tolist()]


def _until(ids: list[int], end: int | None) -> list[int]:
    return ids[: ids.index(end)] if end in ids else ids


def _next_scores(
    model: MultimodalTransformer,
    logits: Callable[[Tensor], Tensor],
    batch: Batch,
    text: str,
    max_new_tokens: int,
    cache: bool,
    written: list[Int[Tensor, "B n"]],
) -> Iterator[Float[Tensor, "B V"]]:
    """Scores of the next id, again and again; `written` is the prompt and, between steps, grows by what was drawn."""
    context = model.tokenizer(text).max_tokens
    room = 0
    if cache and _cache_can_grow(model, text):
        room = max(0, min(max_new_tokens, context - written[0].shape[1] + 1))
        yield from _cached_scores(model, logits, batch, text, room, written)
    for _ in range(max_new_tokens - room):
        encoded = model(_with_text(batch, text, torch.cat(written, dim=1)[:, -context:]))
        yield logits(encoded.tokens(text)[:, -1])


def _cache_can_grow(model: MultimodalTransformer, text: str) -> bool:
    """New tokens stand at the end, and nothing that stands before them listens to them."""
    tokenizer, clocks = model.tokenizers[text], list(model.clock_of.values())
    alone = model.names[-1] == text and clocks.count(clocks[-1]) == 1
    return alone and isinstance(tokenizer, Text) and tokenizer.causal


def _cached_scores(
    model: MultimodalTransformer,
    logits: Callable[[Tensor], Tensor],
    batch: Batch,
    text: str,
    steps: int,
    written: list[Int[Tensor, "B n"]],
) -> Iterator[Float[Tensor, "B V"]]:
    """As long as nothing is cropped: every token is computed once."""
    if steps == 0:
        return
    tokenizer = model.tokenizers[text]
    assert isinstance(tokenizer, Text)
    prompt = written[0]
    blank = prompt.new_zeros(len(prompt), steps - 1)
    whole = model.tokenize(_with_text(batch, text, torch.cat([prompt, blank], dim=1)))
    cache = model.backbone.new_cache(len(whole.connectivity))
    stop = len(whole.connectivity) - (steps - 1)
    x = whole.content[:, :stop] + whole.place[:, :stop]
    for step in range(steps):
        if step:
            x = tokenizer.embedding(written[-1]) + whole.place[:, stop - 1 : stop]
        heard = whole.connectivity.prefix(stop)
        hidden = model.backbone(x, heard.tail(1) if step else heard, cache)
        yield logits(hidden[:, -1])
        stop += 1


def _with_text(batch: Batch, text: str, ids: Int[Tensor, "B n"]) -> Batch:
    lengths = torch.full((len(ids),), ids.shape[1], device=ids.device)
    return batch.with_name(text, {**batch[text], "ids": ids}, lengths, full=True)
