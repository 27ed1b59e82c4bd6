"""Continuing a text of the set, greedily or by sampling."""

from collections.abc import Mapping, Sequence
from functools import reduce
from itertools import takewhile
from operator import or_
from types import MappingProxyType
from typing import Any

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from mmtx.batch import Batch
from mmtx.decoding.cpu_layout import column_major
from mmtx.decoding.filters import suppressed
from mmtx.decoding.grammar import Followed, Grammar
from mmtx.decoding.guided import Guided, check_guidance
from mmtx.decoding.sampling import GREEDY, Sampling
from mmtx.decoding.streaming import WHOLE, Streaming
from mmtx.decoding.text_decoder import Logits, TextDecoder
from mmtx.errors import InvalidValue, check_within
from mmtx.model import MultimodalTransformer
from mmtx.process.device_copies import HostCopy
from mmtx.process.stopping import track

MOST_NEW_TOKENS = 2**31 - 1


def check_max_new_tokens(value: int | None) -> None:
    """Raises InvalidValue if so many tokens cannot be written; None: no limit is given."""
    if value is not None:
        check_within("max_new_tokens", value, 1, MOST_NEW_TOKENS)


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
    end: int | Sequence[int] | None = None,
    keep_end: bool = False,
    suppress_first: Sequence[int] = (),
    guidance: Mapping[str, float | int] = MappingProxyType({}),
    grammar: Grammar | None = None,
    cache: bool = True,
    streaming: Streaming = WHOLE,
) -> list[list[int]]:
    """Continues one text of the set.

    Beyond the context, the oldest ids are cropped and all is recomputed for each token, so that the result is the same
    with and without the cache; or the text streams. Whether all texts have ended is read a token later, so that a GPU
    is not waited for, but where there is a grammar.

    Args:
        model: in eval mode.
        logits: from hidden states to scores of the next id.
        batch: the whole set; each text to continue has at least one id, and they may be of unequal lengths.
        text: the name to continue.
        max_new_tokens: upper limit for each.
        sampling: draws the ids.
        generator: source of randomness, on the device of the model.
        end: id that ends a text, or several of which each does.
        keep_end: that id is part of the result, as its last; else it is not.
        suppress_first: ids that no continuation begins with.
        guidance: ``{name: scale}``, see `Guided`; a scale of 1 is off.
        grammar: of the new ids, over the ends given here.
        cache: keep keys and values of earlier tokens.
        streaming: go on beyond the context with a cache of bounded size.

    Returns:
        The new ids of each sample.
    """
    check_guidance(guidance, model.names, text)
    if streaming.cache_size is not None and not cache:
        raise InvalidValue("cache_size", streaming.cache_size, "needs a cache", "cache=true, or cache_size=null")
    prompt, lengths = batch[text]["ids"], batch.lengths[text]
    ends = () if end is None else (end,) if isinstance(end, int) else tuple(end)
    starts = lengths.tolist()
    shortest, longest = min(starts, default=0), max(starts, default=0)
    if shortest < 1:
        raise ValueError(f"the prompts under '{text}' must have at least 1 token")
    scales = {name: scale for name, scale in guidance.items() if scale != 1}
    room: Any = {"start": shortest, "stop": longest + max_new_tokens, "cache": cache, "streaming": streaming}
    decoder: Guided | TextDecoder = (
        Guided(model, logits, batch, text, scales=scales, **room)
        if scales
        else TextDecoder(model, logits, batch, text, **room)
    )
    followed = Followed(grammar, starts, max_new_tokens, suppress_first) if grammar is not None else None
    ended, all_ended = torch.zeros(len(prompt), dtype=torch.bool, device=prompt.device), _AllEnded()
    with column_major(model, products=max_new_tokens if cache else 0, vectors=len(prompt)):
        for column in track(range(shortest, longest + max_new_tokens), "writing, token"):
            scores = decoder.scores()
            if column in starts:
                scores = suppressed(scores, suppress_first, lengths == column)
            if sampling.penalises:
                scores = sampling.penalised(scores, decoder.written, lengths)
            if followed is not None:
                scores = followed.filtered(scores, column)
            new = sampling.draw(scores, generator)
            if ends:
                new = torch.where(ended, ends[0], new)
            if column < longest:  # longer prompts go on as they are
                new = torch.where(column < lengths, prompt[:, column], new)
            decoder.append(new)
            if followed is not None:
                ended = ended | followed.advance(new, column)
            if ends:
                ended = ended | _is_over(new, column, lengths, max_new_tokens, ends)
            if (ends or followed is not None) and all_ended(ended):
                break
    counts = followed.lengths() if followed is not None else [max_new_tokens] * len(starts)
    rows = zip(decoder.written.tolist(), starts, counts, strict=True)
    return [_until(row[start : start + count], ends, keep_end) for row, start, count in rows]


class _AllEnded:
    """Whether all texts have ended: of a GPU, as it was a token before, so that the host is always one ahead of it."""

    def __init__(self) -> None:
        self._before: HostCopy | None = None

    def __call__(self, ended: Bool[Tensor, " B"]) -> bool:
        newest = HostCopy(ended.all()[None].float())
        due, self._before = (self._before if ended.is_cuda else newest), newest
        return due is not None and bool(due.numbers()[0])


def _is_over(
    new: Int[Tensor, " B"], column: int, lengths: Int[Tensor, " B"], max_new_tokens: int, ends: Sequence[int]
) -> Bool[Tensor, " B"]:
    """Rows that have ended or have reached their limit."""
    is_end = reduce(or_, [new == end for end in ends])  # numbers on the host: a GPU is not waited for
    return (column + 1 >= lengths + max_new_tokens) | (is_end & (column >= lengths))


def _until(ids: list[int], ends: Sequence[int], keep_end: bool) -> list[int]:
    before = list(takewhile(lambda number: number not in ends, ids))
    return ids[: len(before) + 1] if keep_end else before
