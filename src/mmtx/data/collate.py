"""Samples to a batch."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from mmtx.batch import Batch, Field, Sample, Spec
from mmtx.errors import UserError


def collate(
    samples: Sequence[Sample], specs: Mapping[str, Spec], size: int | None = None, ids: Sequence[int] | None = None
) -> Batch:
    """One dense batch per name, padded at the end.

    Args:
        samples: each may lack names, which then have length 0.
        specs: the names to collate; other names of a sample are dropped.
        size: of the batch, which is padded with empty samples, so that every rank has as many; None: as many as given.
        ids: index of each sample in its dataset.

    Raises:
        UserError: a sample does not fit its spec; with its index, the field and both shapes.
    """
    size = size or len(samples)
    numbers = list(ids) if ids is not None else list(range(len(samples)))
    rows: list[Sample] = [*samples, *({} for _ in range(size - len(samples)))]
    numbers += [-1] * (size - len(samples))
    fields: dict[str, dict[str, Tensor]] = {}
    lengths: dict[str, Tensor] = {}
    full: dict[str, bool] = {}
    for name, spec in specs.items():
        counts = [
            _length(row[name], spec, name, number) if name in row else 0
            for row, number in zip(rows, numbers, strict=True)
        ]
        longest = max(max(counts), 1)
        lengths[name], full[name] = torch.tensor(counts), min(counts) == longest
        fields[name] = {
            key: _stack([row.get(name, {}).get(key) for row in rows], field, longest)
            for key, field in spec.fields.items()
        }
    return Batch(fields, lengths, full, torch.tensor(numbers))


def _length(given: Mapping[str, Tensor], spec: Spec, name: str, number: int) -> int:
    """Positions of one name of a sample, after checking that it fits its spec."""
    ragged = set()
    for key, field in spec.fields.items():
        where = f"sample {number}, {name}.{key}"
        if key not in given:
            raise UserError(f"{where} is missing")
        shape = tuple(given[key].shape)
        expected = (shape[0], *field.shape[1:]) if field.ragged and shape else field.shape
        if shape != expected or given[key].dtype != field.dtype:
            raise UserError(f"{where} has shape {shape} and {given[key].dtype}; declared {field.shape}, {field.dtype}")
        if field.ragged:
            if shape[0] > (field.max_length or 0):
                raise UserError(f"{where} has {shape[0]} positions; declared are at most {field.max_length}")
            ragged.add(shape[0])
    if len(ragged) > 1:
        raise UserError(f"sample {number}, {name}: its ragged fields have unequal lengths {sorted(ragged)}")
    return ragged.pop() if ragged else 1


def _stack(values: Sequence[Tensor | None], field: Field, longest: int) -> Tensor:
    shape = (longest, *field.shape[1:]) if field.ragged else field.shape
    out = torch.zeros(len(values), *(size or 0 for size in shape), dtype=field.dtype)
    for row, value in enumerate(values):
        if value is None:
            continue
        if field.ragged:
            out[row, : len(value)] = value
        else:
            out[row] = value
    return out
