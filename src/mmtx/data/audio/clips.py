"""Many short recordings in one tensor, as they are cached."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int16, Int64
from torch import Tensor

LOUDEST = 32767
"""The sample that stands for 1."""


@dataclass(frozen=True)
class Clips:
    """Concatenated waveforms: clip `i` is ``offsets[i]`` to ``offsets[i + 1]``, in units of 1 / `LOUDEST`."""

    waveforms: Int16[Tensor, " all_samples"]
    offsets: Int64[Tensor, " clips_and_1"]

    @classmethod
    def of(cls, waveforms: Sequence[Int16[Tensor, " _samples"]]) -> Clips:
        return cls(torch.cat(list(waveforms)), torch.tensor([0, *map(len, waveforms)]).cumsum(0))

    def __getitem__(self, i: int) -> Float[Tensor, " samples"]:
        return self.waveforms[self.offsets[i] : self.offsets[i + 1]].float() / LOUDEST

    def check(self, count: int) -> None:
        """Raises `ValueError` unless these are so many clips."""
        whole = len(self.offsets) == count + 1 and self.offsets[-1] == len(self.waveforms)
        if self.waveforms.dtype != torch.int16 or not whole:
            raise ValueError(f"it does not hold {count} clips")
