"""Scores of the next id of a text that is being written, every token computed once where that is possible."""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from mmtx.batch import Batch
from mmtx.crossing import Memory
from mmtx.modalities.text import Text
from mmtx.model import MultimodalTransformer
from mmtx.nn.attention import LayerCache
from mmtx.tokens import TokenSet

Logits = Callable[[Tensor], Tensor]
"""From hidden states to scores of the next id."""


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
