"""Ways to corrupt a text: what is read of it, and what is written.

Axes: B texts, n ids of the longest. Ids are those of the content, without begin and end; behind a text's length they
mean nothing. All that is drawn comes from the batch's generator; sizes follow from n: nothing waits for a device.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from mmtx.errors import InvalidValue


@dataclass(frozen=True)
class Rewritten:
    """What a corruption makes of texts.

    Attributes:
        read: ids of the corrupted texts.
        read_lengths: how many of them are real.
        written: ids that are to be written from these.
        written_lengths: how many of them are real.
    """

    read: Int[Tensor, "B r"]
    read_lengths: Int[Tensor, " B"]
    written: Int[Tensor, "B w"]
    written_lengths: Int[Tensor, " B"]


class Corruption(ABC):
    """From texts to what is read and written. A text of fewer than two ids is read as it is.

    Attributes:
        num_sentinels: ids that it needs besides those of texts, in a text of so many.
    """

    def num_sentinels(self, length: int) -> int:
        return 0

    @abstractmethod
    def __call__(
        self,
        ids: Int[Tensor, "B n"],
        lengths: Int[Tensor, " B"],
        sentinels: Int[Tensor, " S"],
        generator: torch.Generator,
    ) -> Rewritten:
        """Args:
        ids: of texts.
        lengths: of each.
        sentinels: ids in the order of their use, at least `num_sentinels`.
        generator: on their device.
        """


class Spans(Corruption):
    """Spans are left out and written, each behind the sentinel that is read in its place (T5; Raffel et al. 2020, JMLR
    21, section 3.1.4): of ``Thank you for inviting me`` is read ``Thank <0> me`` and written ``<0> you for inviting``.

    The number of ids and of spans follows from the length alone. A text begins with a span that is kept and ends with
    one that is left out; how long each is, is drawn.

    Args:
        share: of the ids, that is left out.
        mean_span: ids of a span, on average.
    """

    def __init__(self, *, share: float, mean_span: float) -> None:
        if not 0 < share < 1:
            raise InvalidValue("share", share, "must be above 0 and below 1")
        if mean_span < 1:
            raise InvalidValue("mean_span", mean_span, "must be at least 1")
        self.share, self.mean_span = share, float(mean_span)

    def num_sentinels(self, length: int) -> int:
        return int(self.counts(torch.tensor(length))[1])

    def counts(self, lengths: Int[Tensor, "..."]) -> tuple[Int[Tensor, "..."], Int[Tensor, "..."]]:
        """Ids that are left out of texts, and their spans."""
        ids = (lengths.double() * self.share).round().long().clamp(min=1).minimum((lengths - 1).clamp(min=0))
        spans = (ids.double() / self.mean_span).round().long().clamp(min=1).minimum(ids).minimum(lengths - ids)
        return ids, spans

    def __call__(
        self,
        ids: Int[Tensor, "B n"],
        lengths: Int[Tensor, " B"],
        sentinels: Int[Tensor, " S"],
        generator: torch.Generator,
    ) -> Rewritten:
        gone, real = self.left_out(lengths, ids.shape[1], generator), _real(ids, lengths)
        sentinel, first = _sentinel_of(gone, sentinels)
        most_gone, most_spans = (int(count) for count in self.counts(torch.tensor(ids.shape[1])))
        width = ids.shape[1] - most_gone + most_spans
        read = _compact(torch.where(first, sentinel, ids), real & (~gone | first), width)
        before = torch.zeros_like(first)
        before[:, :-1] = first[:, 1:]  # a span begins behind an id that is kept
        marks = torch.where(before, sentinel.roll(-1, 1), ids)
        return Rewritten(*read, *_compact(marks, gone | before, most_gone + most_spans))

    def left_out(self, lengths: Int[Tensor, " B"], count: int, generator: torch.Generator) -> Bool[Tensor, "B n"]:
        """Which of `count` ids are left out of texts of these lengths."""
        ids, spans = self.counts(lengths)
        most = max(1, int(self.counts(torch.tensor(count))[1]))
        draws = [torch.rand(len(lengths), count, generator=generator, device=lengths.device) for _ in range(2)]
        kept, gone = _parts(lengths - ids, spans, most, draws[0]), _parts(ids, spans, most, draws[1])
        ends = torch.stack([kept, gone], dim=2).flatten(1).cumsum(1)
        place = torch.arange(count, device=lengths.device).expand(len(lengths), -1).contiguous()
        piece = torch.searchsorted(ends, place, right=True)
        return (piece % 2 == 1) & (place < lengths[:, None])


class Infilling(Spans):
    """Spans as those of `Spans`, each read as the first sentinel, whatever its length; the whole text is written (BART;
    Lewis et al. 2020, arXiv 1910.13461, but for its spans of no id)."""

    def num_sentinels(self, length: int) -> int:
        return min(1, super().num_sentinels(length))

    def __call__(
        self,
        ids: Int[Tensor, "B n"],
        lengths: Int[Tensor, " B"],
        sentinels: Int[Tensor, " S"],
        generator: torch.Generator,
    ) -> Rewritten:
        found = super().__call__(ids, lengths, sentinels[:1].expand(ids.shape[1]), generator)
        return Rewritten(found.read, found.read_lengths, ids, lengths)


class Deletions(Corruption):
    """Ids are deleted, and nothing says where; the whole text is written (BART).

    Args:
        share: of the ids, rounded; at least one stays.
    """

    def __init__(self, *, share: float) -> None:
        if not 0 < share < 1:
            raise InvalidValue("share", share, "must be above 0 and below 1")
        self.share = share

    def counts(self, lengths: Int[Tensor, "..."]) -> Int[Tensor, "..."]:
        """Ids that are deleted from texts."""
        return (lengths.double() * self.share).round().long().minimum((lengths - 1).clamp(min=0))

    def __call__(
        self,
        ids: Int[Tensor, "B n"],
        lengths: Int[Tensor, " B"],
        sentinels: Int[Tensor, " S"],
        generator: torch.Generator,
    ) -> Rewritten:
        real = _real(ids, lengths)
        drawn = torch.rand(ids.shape, generator=generator, device=ids.device).masked_fill(~real, 2.0)
        gone = drawn.argsort(1).argsort(1) < self.counts(lengths)[:, None]
        width = ids.shape[1] - int(self.counts(torch.tensor(ids.shape[1])))
        return Rewritten(*_compact(ids, real & ~gone, width), ids, lengths)


class Shuffles(Corruption):
    """Ids change places, each by at most `reach`; the text is written in order (Lample et al. 2018, arXiv 1711.00043).

    Args:
        reach: places that an id may move.
    """

    def __init__(self, *, reach: int) -> None:
        if reach < 1:
            raise InvalidValue("reach", reach, "must be at least 1")
        self.reach = reach

    def __call__(
        self,
        ids: Int[Tensor, "B n"],
        lengths: Int[Tensor, " B"],
        sentinels: Int[Tensor, " S"],
        generator: torch.Generator,
    ) -> Rewritten:
        drawn = torch.rand(ids.shape, generator=generator, device=ids.device) * (self.reach + 1)
        place = torch.arange(ids.shape[1], device=ids.device)
        order = (place + drawn).masked_fill(~_real(ids, lengths), float("inf")).argsort(dim=1, stable=True)
        return Rewritten(ids.gather(1, order), lengths, ids, lengths)


def _real(ids: Int[Tensor, "B n"], lengths: Int[Tensor, " B"]) -> Bool[Tensor, "B n"]:
    return torch.arange(ids.shape[1], device=ids.device) < lengths[:, None]


def _sentinel_of(
    gone: Bool[Tensor, "B n"], sentinels: Int[Tensor, " S"]
) -> tuple[Int[Tensor, "B n"], Bool[Tensor, "B n"]]:
    """The sentinel of the span that an id is in or before, and which ids begin one."""
    first = gone.clone()
    first[:, 1:] &= ~gone[:, :-1]
    number = (first.cumsum(1) - 1).clamp(min=0, max=max(len(sentinels) - 1, 0))
    return (sentinels[number] if len(sentinels) else number), first


def _parts(
    items: Int[Tensor, " B"], parts: Int[Tensor, " B"], most: int, drawn: Float[Tensor, "B n"]
) -> Int[Tensor, "B most"]:
    """The sizes of so many parts, none empty, of so many items: each way to cut them is as probable."""
    place = torch.arange(drawn.shape[1], device=drawn.device)
    inside = (place > 0) & (place < items[:, None])
    cut = (drawn.masked_fill(~inside, 2.0).argsort(1).argsort(1) < (parts - 1)[:, None]) & inside
    there = (place < items[:, None]).long()
    return there.new_zeros(len(items), most).scatter_add(1, cut.cumsum(1).clamp(max=most - 1), there)


def _compact(
    ids: Int[Tensor, "B n"], stays: Bool[Tensor, "B n"], width: int
) -> tuple[Int[Tensor, "B width"], Int[Tensor, " B"]]:
    """The ids that stay, side by side, zeros behind them; and their number."""
    order, lengths = (~stays).byte().argsort(dim=1, stable=True)[:, :width], stays.sum(1)
    return ids.gather(1, order).masked_fill(~stays.gather(1, order), 0), lengths
