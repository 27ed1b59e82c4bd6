"""Cached decoding of a text: scores of its next id, every token computed once where that is possible."""

from collections.abc import Callable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from mmtx.attention.memory_rule import Memory
from mmtx.batch import Batch
from mmtx.decoding.prompt_lookup import PromptLookup
from mmtx.decoding.replayed import Replayed, can_replay
from mmtx.decoding.streaming import WHOLE, Stream, Streaming
from mmtx.decoding.text_in_set import cache_can_grow, with_text
from mmtx.modalities.capabilities import Ids
from mmtx.model import MultimodalTransformer
from mmtx.nn.cache import Cache
from mmtx.tokens import TokenSet

Logits = Callable[[Tensor], Tensor]
"""From hidden states to scores of the next id."""


class TextDecoder:
    """Scores of the next id of one text of the set, one column after another.

    With a cache, what the text attends to (an encoder's memory, a picture before it) is computed once. On a CPU, a text
    that is written alone is computed several columns at a time where `PromptLookup` drafts them; on a GPU, that would
    wait for every id, and nothing here does.

    Args:
        batch: the whole set.
        text: name of the text.
        start: columns of the text that are given.
        stop: columns that may be written in all.
        cache: keep what layers need of earlier tokens, as long as nothing is cropped, and if all mixers can: one that
            reads tokens one after the other cannot read over padding before the text.
        streaming: beyond what such a cache holds.

    Raises:
        InvalidValue: this text cannot stream.
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
        streaming: Streaming = WHOLE,
    ) -> None:
        self._written = [batch[text]["ids"][:, :start]]  # side by side
        self._length, self._num_read = start, 0  # of the columns; those that the stream has read
        self._rows: Int[Tensor, " rows"] | None = None  # of the batch, once some are selected
        self._model, self._logits, self._batch, self._text = model, logits, batch, text
        tokenizer = model.tokenizer(text)
        assert isinstance(tokenizer, Ids)
        self._tokenizer, self._context = tokenizer, tokenizer.context
        room = min(stop - 1, self._context)
        self._stream = Stream(model, batch, text, streaming) if streaming.cache_size is not None else None
        self._cached: _Cached | None = None
        self._lookup: PromptLookup | None = None
        self._draft: list[int] = []  # ids that may come next
        self._scores: list[Tensor] = []  # of the next id, and of the ids that follow each of the draft
        if cache and self._stream is None and start <= room and cache_can_grow(model, text):
            given = self.written
            blank = given.new_zeros(len(given), room - start)
            whole = model.tokenize(with_text(batch, text, torch.cat([given, blank], dim=1)))
            reads_on = not model.backbone.needs_time_order or whole.connectivity.is_sequence
            empty = model.backbone.new_cache(len(whole.connectivity)) if reads_on else None
            self._cached = _Cached(model, tokenizer, whole, room, empty) if empty is not None else None
            if empty is not None and empty.rewinds and len(given) == 1 and not given.is_cuda:
                self._lookup = PromptLookup(given[0].tolist())

    @property
    def written(self) -> Int[Tensor, "B n"]:
        """The text so far."""
        if len(self._written) > 1:
            self._written = [torch.cat(self._written, dim=1)]
        return self._written[0]

    def scores(self) -> Float[Tensor, "B V"]:
        """Scores of the id that follows what is written."""
        if not self._scores:
            self._scores = list(self._compute().unbind(1))
        return self._scores[0]

    def append(self, ids: Int[Tensor, " B"]) -> None:
        self._written.append(ids[:, None])
        self._length += 1
        accepted = False
        if self._lookup is not None:
            new = int(ids[0])
            self._lookup.append(new)
            accepted = self._draft[:1] == [new]
        self._draft, self._scores = (self._draft[1:], self._scores[1:]) if accepted else ([], [])

    def select(self, index: Int[Tensor, " rows"]) -> None:
        """Goes on with some rows, in any order, any number of times."""
        self._written, self._rows = [self.written[index]], index if self._rows is None else self._rows[index]
        self._lookup, self._draft, self._scores = None, [], []
        for kept in (kept for kept in (self._cached, self._stream) if kept is not None):
            kept.select(index)

    def _compute(self) -> Float[Tensor, "B k V"]:
        """Scores of the next id, and of those that follow each id of a new draft."""
        if self._stream is not None:
            new, self._num_read = self._length - self._num_read, self._length
            ids = self._written[-1][:, -1:] if new == 1 else self.written[:, -new:]
            return self._logits(self._stream.extend(ids)[:, -1:])
        left = self._cached.room - self._length if self._cached is not None else -1
        if self._cached is not None and left >= 0:
            self._draft = self._lookup.draft(left) if self._lookup is not None else []
            return self._logits(self._cached.hidden(self._written[-1][:, -1:], self._length, self._draft))
        cropped = self.written[:, -self._context :]
        batch = self._batch if self._rows is None else self._batch.select(self._rows)
        with self._model.sharing():  # no later step uses this one's hidden states, so none are kept
            states = self._model(with_text(batch, self._text, cropped))
        return self._logits(states.tokens(self._text)[:, -1:])


class _Cached:
    """Hidden states of the newest columns, every token computed once."""

    def __init__(self, model: MultimodalTransformer, tokenizer: Ids, whole: TokenSet, room: int, cache: Cache) -> None:
        self.room, self._cache = room, cache
        self._backbone, self._tokenizer = model.backbone, tokenizer
        self._content, self._place, self._connectivity = whole.content, whole.place, whole.connectivity
        self._memory: Memory | None = model.run_encoder(whole.memory) if whole.memory is not None else None
        self._before = len(self._connectivity) - room  # tokens that stand before the text
        self._step: Replayed | None = None
        if cache.replays and can_replay(self._place.device):
            self._step = Replayed(self._at)

    def hidden(self, ids: Int[Tensor, "B 1"], length: int, draft: list[int]) -> Float[Tensor, "B k D"]:
        """Of the newest id and of each id of a draft behind it, which overwrites what is left of the draft before.

        Args:
            ids: the newest of each text.
            length: of the texts, these ids included.
            draft: of the only text.
        """
        newest = self._before + length - 1
        if self._step is not None and self._cache.length:
            self._cache.length = newest + 1
            return self._step(ids, newest)
        stop = newest + 1 + len(draft)
        columns = torch.cat([ids, ids.new_tensor([draft])], dim=1) if draft else ids
        x = self._tokenizer.embed(columns) + self._place[:, newest:stop]
        connectivity = self._connectivity.prefix(stop)
        if self._cache.length:
            connectivity = connectivity.tail(1 + len(draft))
            self._cache.length = newest
        else:
            x = torch.cat([self._content[:, :newest] + self._place[:, :newest], x], dim=1)
        return self._backbone(x, connectivity, self._cache, self._memory)[:, -1 - len(draft) :]

    def _at(self, ids: Int[Tensor, "B 1"], column: Int[Tensor, " 1"]) -> Float[Tensor, "B 1 D"]:
        """Of the newest id, by the same kernels whatever its column."""
        x = self._tokenizer.embed(ids) + self._place.index_select(1, column)
        return self._backbone(x, self._connectivity.at(column), self._cache, self._memory)

    def select(self, index: Int[Tensor, " rows"]) -> None:
        self._step = None  # which works on the memory of the rows before
        self._content, self._connectivity = self._content[index], self._connectivity.select(index)
        if self._place.shape[0] > 1:
            self._place = self._place[index]
        if self._memory is not None:
            self._memory = self._memory.select(index)
        self._cache.select(index)
