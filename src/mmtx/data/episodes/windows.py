"""Windows of steps, gathered from tables of all steps, a batch at a time."""

from collections.abc import Iterable, Mapping, Sequence

import torch
from jaxtyping import Int64
from torch import Tensor

from mmtx.batch import Batch, Sample, Spec


class StepTable:
    """The fields of every step as columns of one table for each dtype, so that one look-up fetches them all.

    A tensor that is several fields is stored once, and these share memory in what is fetched. The last row is zeros,
    for padding.

    Args:
        steps: the fields ``(steps, ...)``.
    """

    def __init__(self, steps: Sample) -> None:
        columns: dict[torch.dtype, list[Tensor]] = {}
        slices: dict[int, slice] = {}
        self._columns: dict[str, dict[str, tuple[torch.dtype, slice, torch.Size]]] = {}
        for name, fields in steps.items():
            self._columns[name] = {}
            for key, values in fields.items():
                beside = columns.setdefault(values.dtype, [])
                if id(values) not in slices:
                    first = sum(column.shape[1] for column in beside)
                    beside.append(values.reshape(len(values), -1))
                    slices[id(values)] = slice(first, first + beside[-1].shape[1])
                self._columns[name][key] = values.dtype, slices[id(values)], values.shape[1:]
        self.names = tuple(self._columns)
        self._tables = {
            dtype: torch.cat([torch.cat(beside, 1), beside[0].new_zeros(1, sum(c.shape[1] for c in beside))])
            for dtype, beside in columns.items()
        }
        self.padding = len(next(iter(self._tables.values()))) - 1

    def fetch(self, rows: Int64[Tensor, "*index"], names: Iterable[str]) -> Sample:
        """The fields of some steps, ``(*index, ...)``."""
        flat, columns = rows.flatten(), {name: self._columns[name] for name in names}
        dtypes = {dtype for fields in columns.values() for dtype, _, _ in fields.values()}
        found = {dtype: self._tables[dtype].index_select(0, flat).view(*rows.shape, -1) for dtype in dtypes}
        return {
            name: {
                key: found[dtype][..., within].view(*rows.shape, *shape)
                for key, (dtype, within, shape) in fields.items()
            }
            for name, fields in columns.items()
        }


class Windows:
    """A split of windows of steps; a `mmtx.data.BatchSplit`.

    Args:
        steps: the fields of every step.
        left: steps from each one to the end of its episode, itself included.
        begin: first step of each window.
        context: most steps of a window.
    """

    def __init__(
        self, steps: StepTable, left: Int64[Tensor, " steps"], begin: Int64[Tensor, " windows"], context: int
    ) -> None:
        self._steps, self._begin, self._lengths = steps, begin, left[begin].clamp(max=context)

    def __len__(self) -> int:
        return len(self._begin)

    def __getitem__(self, index: int) -> Sample:
        if not 0 <= index < len(self):
            raise IndexError(index)
        rows = self._begin[index] + torch.arange(int(self._lengths[index]))
        return self._steps.fetch(rows, self._steps.names)

    def batch(self, indices: Sequence[int], specs: Mapping[str, Spec]) -> Batch:
        ids = torch.tensor(indices)
        lengths = self._lengths[ids]
        shortest, longest = (int(length) for length in lengths.aminmax())
        reach = torch.arange(longest)
        rows = self._begin[ids, None] + reach
        if shortest < longest:
            rows.masked_fill_(reach >= lengths[:, None], self._steps.padding)
        fields = self._steps.fetch(rows, specs)
        return Batch(fields, dict.fromkeys(specs, lengths), dict.fromkeys(specs, shortest == longest), ids)
