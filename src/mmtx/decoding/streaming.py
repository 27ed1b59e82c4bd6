"""A text that goes on without end in bounded memory: its first tokens, its notes and the newest stay in the cache."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from mmtx.attention.memory_rule import Memory
from mmtx.batch import Batch, Vocabulary
from mmtx.decoding.notebook import Notebook
from mmtx.decoding.text_in_set import cache_can_grow, with_text
from mmtx.errors import InvalidValue, check_at_least
from mmtx.modalities.capabilities import Ids
from mmtx.model import MultimodalTransformer
from mmtx.nn.cache import Cache

KEPT_FIRST = 4
"""As in the paper: attention that has nothing to attend to goes to these."""


@dataclass(frozen=True)
class Streaming:
    """How a text goes on beyond what a cache holds (Xiao et al. 2023, arXiv 2309.17453).

    Args:
        cache_size: tokens of the text in a cache that is never full: for a new one the oldest is dropped; null: the
            cache ends with the context, and everything is computed again for each token
        keep_first: the first of them, which are never dropped
        notes: of them, those between two marks, which are dropped only for newer ones between marks; 0: none are kept
        note_marks: where notes begin and end: two ids, or texts that are one id each
    """

    cache_size: int | None = None
    keep_first: int = KEPT_FIRST
    notes: int = 0
    note_marks: Sequence[str | int] = ()

    def __post_init__(self) -> None:
        check_at_least("cache_size", self.cache_size, 1)
        check_at_least("keep_first", self.keep_first, 0)
        check_at_least("notes", self.notes, 0)
        if self.cache_size is None:
            for key, own, usual in (("keep_first", self.keep_first, KEPT_FIRST), ("notes", self.notes, 0)):
                if own != usual:
                    raise InvalidValue(key, own, "is of a stream; give its cache_size too")
        elif self.keep_first >= self.cache_size:
            problem = f"leaves no place for the newest of cache_size={self.cache_size} tokens"
            raise InvalidValue("keep_first", self.keep_first, problem, f"at most {self.cache_size - 1}")
        elif self.notes >= self.cache_size - self.keep_first:
            room = self.cache_size - self.keep_first
            problem = f"leaves no place for the newest of the {room} that keep_first={self.keep_first} leaves"
            raise InvalidValue("notes", self.notes, problem, f"at most {room - 1}")
        if len(set(self.note_marks)) != 2 * (self.notes > 0):
            needed = (
                "must be two, a beginning and an end" if self.notes else "are of notes; give how many tokens they have"
            )
            raise InvalidValue("note_marks", list(self.note_marks), needed, "notes=16" if not self.notes else None)

    def mark_ids(self, vocabulary: Vocabulary | None) -> tuple[int, int]:
        """Raises InvalidValue for a text that is not one id, or that there is no vocabulary for."""
        begin, end = (self._id(mark, vocabulary) for mark in self.note_marks)
        return begin, end

    def _id(self, mark: str | int, vocabulary: Vocabulary | None) -> int:
        if isinstance(mark, int):
            return mark
        if vocabulary is None:
            raise InvalidValue("note_marks", list(self.note_marks), "has texts, and the data no vocabulary", "two ids")
        ids = vocabulary.encode(mark)
        if len(ids) != 1:
            problem = f"has '{mark}', which is {len(ids)} ids: {ids}"
            raise InvalidValue("note_marks", list(self.note_marks), problem, "texts that are one id each")
        return ids[0]


WHOLE = Streaming()


class Stream:
    """Hidden states of a text, every token computed once, however long it becomes.

    A position is a place in the cache. With a cache of five, two of them the first::

        token   cached before   place of each
        t2      t0 t1           t0 0, t1 1, t2 2
        t5      t0 t1 t3 t4     t0 0, t1 1, t3 2, t4 3, t5 4
        t6      t0 t1 t4 t5     t0 0, t1 1, t4 2, t5 3, t6 4

    So whatever follows from positions (rotations, biases, windows) is never farther than the cache is long. Keys are
    kept unturned. An embedding of positions that is added to a token is that of the place at which it came in. A
    recurrence has nothing to drop, and goes on from its state.

    Names before the text, and what an encoder gives, are kept as well, and are not counted. Of notes, see `Notebook`.

    Args:
        batch: the whole set; the text may have any ids.
        text: name of the text, last in the set.
        streaming: with a size.

    Raises:
        InvalidValue: the cache is longer than the context, or such a set or a mixer of this stack cannot stream.
    """

    def __init__(self, model: MultimodalTransformer, batch: Batch, text: str, streaming: Streaming) -> None:
        assert streaming.cache_size is not None
        tokenizer, size = model.tokenizer(text), streaming.cache_size
        if not isinstance(tokenizer, Ids) or not cache_can_grow(model, text):
            problem = f"cannot be: '{text}' must be causal, the last name of the set and alone on its clock"
            raise InvalidValue("cache_size", size, problem, "null")
        if size > tokenizer.context:
            problem = f"is more than the context of '{text}', modality.{text}.context"
            raise InvalidValue("cache_size", size, problem, f"at most {tokenizer.context}")
        blank = batch[text]["ids"].new_zeros(len(batch), size)
        whole = model.tokenize(with_text(batch, text, blank))
        self._tokenizer, self._backbone, self._content = tokenizer, model.backbone, whole.content
        self._place, self._connectivity = whole.place, whole.connectivity
        self._before = len(self._connectivity) - size  # tokens that stand before the text
        self._oldest = self._before + streaming.keep_first  # the first place from which tokens are dropped
        self._notebook: Notebook | None = None
        if streaming.notes:
            marks, first = streaming.mark_ids(tokenizer.spec.vocabulary), streaming.keep_first
            self._notebook = Notebook(len(batch), first, streaming.notes, marks, blank.device)
        self._cache = _new_cache(model, whole.connectivity.is_sequence, len(self._connectivity), size)
        self._memory: Memory | None = model.run_encoder(whole.memory) if whole.memory is not None else None

    @property
    def num_cached(self) -> int:
        """Tokens of each row in the cache, names before the text among them."""
        return self._cache.length

    def extend(self, ids: Int[Tensor, "B n"]) -> Float[Tensor, "B n D"]:
        """Hidden states of the ids that follow. As many as there is room for are computed at once, the others one by
        one."""
        at_once = min(ids.shape[1], len(self._connectivity) - max(self._cache.length, self._before))
        parts = [ids[:, :at_once]] * (at_once > 0) + list(ids[:, at_once:].split(1, dim=1)) * (at_once < ids.shape[1])
        return torch.cat([self._computed(part) for part in parts], dim=1)

    def select(self, index: Int[Tensor, " rows"]) -> None:
        """Goes on with some rows, in any order, any number of times."""
        self._content, self._connectivity = self._content[index], self._connectivity.select(index)
        self._place = self._place[index] if self._place.shape[0] > 1 else self._place
        self._memory = self._memory.select(index) if self._memory is not None else None
        self._cache.select(index)
        if self._notebook is not None:
            self._notebook.select(index)

    def _computed(self, ids: Int[Tensor, "B n"]) -> Float[Tensor, "B n D"]:
        if self._cache.length == len(self._connectivity):
            self._cache.drop(self._oldest if self._notebook is None else self._before + self._notebook.next_dropped())
        if self._notebook is not None:
            self._notebook.read(ids)
        start = max(self._cache.length, self._before)
        stop = start + ids.shape[1]
        x = self._tokenizer.embed(ids) + self._place[:, start:stop]
        connectivity = self._connectivity.prefix(stop)
        if self._cache.length:
            connectivity = connectivity.tail(ids.shape[1])
        else:
            x = torch.cat([self._content[:, :start] + self._place[:, :start], x], dim=1)
        return self._backbone(x, connectivity, self._cache, self._memory)[:, -ids.shape[1] :]


def _new_cache(model: MultimodalTransformer, is_sequence: bool, capacity: int, size: int) -> Cache:
    """Raises InvalidValue where a mixer cannot stream."""
    for key, mixer in model.backbone.mixers.items():
        own = mixer.new_cache(0)
        if own is None or not own.streams:
            problem = f"cannot be: backbone.{key}={type(mixer).__name__} has no cache that tokens can be dropped from"
            raise InvalidValue("cache_size", size, problem, "null")
        if mixer.needs_time_order and not is_sequence:
            problem = f"cannot be: backbone.{key}={type(mixer).__name__} would read padding before the text"
            raise InvalidValue("cache_size", size, problem, "null")
    cache = model.backbone.new_cache(capacity, by_place=True)
    if cache is None:
        raise InvalidValue("cache_size", size, "cannot be: backbone.memory_tokens computes whole segments", "null")
    return cache
