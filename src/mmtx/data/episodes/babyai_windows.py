"""Windows of BabyAI's demonstrations, and what holds for the whole of each: the mission."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy
import torch
from jaxtyping import Int64, Shaped
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from mmtx.batch import Batch, Sample, Spec
from mmtx.data.episodes.babyai_demonstrations import Demonstrations
from mmtx.data.episodes.babyai_view import Look
from mmtx.data.episodes.windows import StepTable, Windows


@runtime_checkable
class Values(Protocol):
    """Tensors by number."""

    def __getitem__(self, index: int, /) -> Tensor: ...


@dataclass(frozen=True)
class PerEpisode:
    """What holds for the whole of an episode.

    Args:
        field: its only one.
        values: what there is.
        number: of each episode, its own among the values.
    """

    field: str
    values: Values
    number: Shaped[numpy.ndarray, " episodes"]

    def of(self, episodes: Int64[Tensor, " some"]) -> list[Tensor]:
        return [self.values[number] for number in self.number[episodes.numpy()].tolist()]


class MissionWindows:
    """A split of windows; a `mmtx.data.BatchSplit`.

    Args:
        shown: the episodes.
        told: what holds for the whole of each, by name.
        look: in what form views are given.
        context: steps of a window, at most.
        stride: steps from the beginning of one to the next, in the same episode.
    """

    def __init__(
        self, shown: Demonstrations, told: Mapping[str, PerEpisode], look: Look, context: int, stride: int
    ) -> None:
        self._told, self._look = told, look
        length = torch.from_numpy(shown.length)
        episode = torch.arange(len(length)).repeat_interleave(length)
        left = length.cumsum(0)[episode] - torch.arange(len(episode))
        times = length[episode] - left
        steps = StepTable(
            {
                "view": {"cells": torch.from_numpy(shown.cells), "times": times},
                "action": {"class": torch.from_numpy(shown.action).long(), "times": times},
                "return": {"values": torch.from_numpy(shown.reward)[episode, None], "times": times},
            }
        )
        begin = (times % stride == 0).nonzero()[:, 0]
        self._windows, self._episode = Windows(steps, left, begin, context), episode[begin]

    def __len__(self) -> int:
        return len(self._windows)

    def __getitem__(self, index: int) -> Sample:
        sample = self._windows[index]
        told = {name: {part.field: part.of(self._episode[[index]])[0]} for name, part in self._told.items()}
        cells, times = sample["view"]["cells"], sample["view"]["times"]
        return told | sample | {"view": self._look.of(cells) | {"times": times}}

    def batch(self, indices: Sequence[int], specs: Mapping[str, Spec]) -> Batch:
        """The names of `specs` of these windows, as collating them would give them."""
        steps = self._windows.batch(indices, {name: spec for name, spec in specs.items() if name not in self._told})
        fields, lengths = dict(steps.fields), dict(steps.lengths)
        if "view" in fields:
            cells, times = fields["view"]["cells"], fields["view"]["times"]
            padding = torch.arange(cells.shape[1]) >= lengths["view"][:, None]
            looks = self._look.of(cells)
            for values in looks.values():
                values[padding] = 0
            fields["view"] = looks | {"times": times}
        for name, part in self._told.items():
            given = part.of(self._episode[steps.ids])
            fields[name] = {part.field: pad_sequence(given, batch_first=True)}
            lengths[name] = torch.tensor(list(map(len, given)))
        full = {name: bool((lengths[name] == lengths[name].max()).all()) for name in specs}
        return Batch({name: fields[name] for name in specs}, {name: lengths[name] for name in specs}, full, steps.ids)
