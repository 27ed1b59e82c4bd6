"""Windows of BabyAI's demonstrations, with the mission of their episode."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy
import torch
from jaxtyping import Int64, Shaped
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from mmtx.batch import Batch, Sample, Spec
from mmtx.data.audio.clips import Clips
from mmtx.data.episodes.babyai_demonstrations import Demonstrations
from mmtx.data.episodes.babyai_view import ViewFormat
from mmtx.data.episodes.windows import StepTable, Windows


@dataclass(frozen=True)
class PerEpisode:
    """A name with one value for each episode.

    Args:
        field: its only field.
        values: all different values.
        number: of each episode, as an index into `values`.
    """

    field: str
    values: list[Tensor] | Clips
    number: Shaped[numpy.ndarray, " episodes"]

    def of(self, episodes: Int64[Tensor, " some"]) -> list[Tensor]:
        return [self.values[number] for number in self.number[episodes.numpy()].tolist()]


class MissionWindows:
    """A split of windows; a `mmtx.data.BatchSplit`.

    Args:
        shown: the episodes.
        per_episode: names with one value for each episode.
        view: how views are encoded.
        context: most steps of a window.
        stride: steps between the starts of windows of one episode.
    """

    def __init__(
        self, shown: Demonstrations, per_episode: Mapping[str, PerEpisode], view: ViewFormat, context: int, stride: int
    ) -> None:
        self._per_episode, self._view = per_episode, view
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
        constants = {name: {part.field: part.of(self._episode[[index]])[0]} for name, part in self._per_episode.items()}
        cells, times = sample["view"]["cells"], sample["view"]["times"]
        return constants | sample | {"view": self._view.of(cells) | {"times": times}}

    def batch(self, indices: Sequence[int], specs: Mapping[str, Spec]) -> Batch:
        """The names of `specs` of these windows, as `collate` would give them."""
        steps = self._windows.batch(
            indices, {name: spec for name, spec in specs.items() if name not in self._per_episode}
        )
        fields, lengths = dict(steps.fields), dict(steps.lengths)
        if "view" in fields:
            cells, times = fields["view"]["cells"], fields["view"]["times"]
            padding = torch.arange(cells.shape[1]) >= lengths["view"][:, None]
            views = self._view.of(cells)
            for values in views.values():
                values[padding] = 0
            fields["view"] = views | {"times": times}
        for name, part in self._per_episode.items():
            given = part.of(self._episode[steps.ids])
            fields[name] = {part.field: pad_sequence(given, batch_first=True)}
            lengths[name] = torch.tensor(list(map(len, given)))
        full = {name: bool((lengths[name] == lengths[name].max()).all()) for name in specs}
        return Batch({name: fields[name] for name in specs}, {name: lengths[name] for name in specs}, full, steps.ids)
