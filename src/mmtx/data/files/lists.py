"""Many lists of numbers in one array, which may be a file that is mapped into memory."""

from __future__ import annotations

import io
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy

Numbers = Sequence[int] | Sequence[float] | numpy.ndarray


@dataclass(frozen=True)
class Lists:
    """List `i` is ``values[ends[i] : ends[i + 1]]``."""

    values: numpy.ndarray
    ends: numpy.ndarray

    def __len__(self) -> int:
        return len(self.ends) - 1

    def __getitem__(self, index: int) -> numpy.ndarray:
        """A copy, so that a mapped file is not held by what is made of it."""
        return numpy.array(self.values[self.ends[index] : self.ends[index + 1]])

    @property
    def lengths(self) -> numpy.ndarray:
        return numpy.diff(self.ends)

    @classmethod
    def read(cls, folder: Path, name: str) -> Lists:
        """Those that a `ListWriter` wrote to a folder."""
        ends = numpy.load(folder / f"{name}.ends.npy", mmap_mode="r")
        dtype = numpy.load(folder / f"{name}.dtype.npy").dtype
        size = (folder / f"{name}.values").stat().st_size
        values = numpy.memmap(folder / f"{name}.values", dtype, mode="c") if size else numpy.zeros(0, dtype)
        return cls(values, ends)


class ListWriter:
    """Writes lists one after the other, to a folder or into memory.

    Args:
        folder: None: memory.
        name: of the files in it.
        dtype: of the numbers.
    """

    def __init__(self, folder: Path | None, name: str, dtype: type[numpy.generic]) -> None:
        self._folder, self._name, self._dtype = folder, name, dtype
        self._stream = io.BytesIO() if folder is None else open(folder / f"{name}.values", "wb")  # noqa: SIM115
        self._lengths = array("q")

    def __len__(self) -> int:
        return len(self._lengths)

    def append(self, numbers: Numbers) -> None:
        self._stream.write(numpy.asarray(numbers, self._dtype).tobytes())
        self._lengths.append(len(numbers))

    def close(self) -> Lists:
        """What was written."""
        ends = numpy.zeros(len(self._lengths) + 1, numpy.int64)
        numpy.cumsum(self._lengths, out=ends[1:])
        if self._folder is None or isinstance(self._stream, io.BytesIO):
            assert isinstance(self._stream, io.BytesIO)
            return Lists(numpy.frombuffer(bytearray(self._stream.getvalue()), self._dtype), ends)
        self._stream.close()
        numpy.save(self._folder / f"{self._name}.ends.npy", ends)
        numpy.save(self._folder / f"{self._name}.dtype.npy", numpy.zeros(0, self._dtype))
        return Lists.read(self._folder, self._name)
