"""Guidance: scores of a text, led away from those that it would have without some names of the set."""

import math
from collections.abc import Mapping

import torch
from jaxtyping import Float, Int
from torch import Tensor

from mmtx.batch import Batch
from mmtx.decoding.streaming import WHOLE, Streaming
from mmtx.decoding.text_decoder import Logits, TextDecoder
from mmtx.errors import InvalidValue, some
from mmtx.model import MultimodalTransformer


def check_guidance(scales: Mapping[str, float | int], names: list[str], text: str | None) -> None:
    """Raises InvalidValue for names that a text cannot be guided by, and scales that are none.

    Args:
        scales: of names.
        names: of the set.
        text: that is written; None: any of them may be.
    """
    for name, scale in scales.items():
        key = f"guidance.{name}"
        others = [each for each in names if each != text]
        if name not in others:
            known = f"which has {some(others)} beside it" if others else f"which has nothing beside '{text}'"
            raise InvalidValue(key, scale, f"names nothing that '{text}' is written from in this set, {known}")
        if not isinstance(scale, int | float) or isinstance(scale, bool) or not 0 <= scale < math.inf:
            raise InvalidValue(key, scale, "must be a number, at least 0, and finite; 1 is off")


def with_and_without(batch: Batch, scales: Mapping[str, float | int]) -> Batch:
    """The samples, and behind them, for each name of `scales`, the same ones without it."""
    count, device = len(batch), next(iter(batch.lengths.values())).device
    rows = torch.arange(count * (1 + len(scales)), device=device)
    part = rows // count
    lacks = {name: part == number for number, name in enumerate(scales, start=1)}
    return batch.select(rows % count).without(lacks)


def guided(scores: Float[Tensor, "rows *n V"], scales: Mapping[str, float | int]) -> Float[Tensor, "B *n V"]:
    """Log-probabilities that are led away from those without each name, from scores of `with_and_without`; an id that
    is never written keeps -inf.

    With c the log-probabilities given the whole set, and u those without one name, they are ``u + s (c - u)``, and c
    where s is 1 (classifier-free guidance, Ho & Salimans 2022, arXiv 2207.12598). Of several names, each u lacks its
    own name alone: ``c + sum over names of (s - 1) (c - u)``.
    """
    log_p = scores.float().log_softmax(-1)
    given = log_p.unflatten(0, (1 + len(scales), -1))[0]
    return torch.where(given.isinf(), given, led_away(log_p, scales))


def led_away(values: Float[Tensor, "rows *n"], scales: Mapping[str, float | int]) -> Float[Tensor, "B *n"]:
    """Values that are led away from those without each name, from those of `with_and_without`, as `guided` has it."""
    parts = values.unflatten(0, (1 + len(scales), -1))
    given, without = parts[0], parts[1:]
    return given + sum((scale - 1) * (given - other) for scale, other in zip(scales.values(), without, strict=True))


class Guided:
    """A `TextDecoder` whose scores are guided by names of the set, see `guided`.

    The sets without a name are further rows of one batch, which goes on with the ids that are drawn for the whole one.

    Args:
        scales: of each name, none of them 1.
        The others are those of `TextDecoder`.
    """

    def __init__(
        self,
        model: MultimodalTransformer,
        logits: Logits,
        batch: Batch,
        text: str,
        *,
        scales: Mapping[str, float | int],
        start: int,
        stop: int,
        cache: bool,
        streaming: Streaming = WHOLE,
    ) -> None:
        self._scales, self._count = scales, len(batch)
        whole = with_and_without(batch, scales)
        self._decoder = TextDecoder(
            model, logits, whole, text, start=start, stop=stop, cache=cache, streaming=streaming
        )

    @property
    def written(self) -> Int[Tensor, "B n"]:
        """The text so far."""
        return self._decoder.written[: self._count]

    def scores(self) -> Float[Tensor, "B V"]:
        """Log-probabilities of the id that follows, guided."""
        return guided(self._decoder.scores(), self._scales)

    def append(self, ids: Int[Tensor, " B"]) -> None:
        self._decoder.append(ids.repeat(1 + len(self._scales)))
