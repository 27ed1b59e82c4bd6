"""Many short recordings in one tensor, as they are cached."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int16, Int64
from torch import Tensor

from mmtx.data.files.cache import Arrays

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

    def arrays(self, prefix: str = "") -> Arrays:
        """As `read` takes them."""
        return {f"{prefix}waveforms": self.waveforms.numpy(), f"{prefix}offsets": self.offsets.numpy()}

    @classmethod
    def read(cls, arrays: Arrays, count: int, prefix: str = "") -> Clips:
        """The clips in arrays. Raises `ValueError` unless they are so many."""
        waveforms, offsets = (torch.from_numpy(arrays[f"{prefix}{key}"]) for key in ("waveforms", "offsets"))
        if waveforms.dtype != torch.int16 or len(offsets) != count + 1 or offsets[-1] != len(waveforms):
            raise ValueError(f"it does not hold {count} clips")
        return cls(waveforms, offsets)
