"""One check per stage, which everything of its kind passes."""

from __future__ import annotations

import random

import numpy
import pytest
import torch

from mmtx.batch import Batch, Sample, Spec
from mmtx.data.base import Source, Split
from mmtx.data.collate import collate


def check_source(source: Source) -> None:
    """What training, evaluation and the tokenizers take for granted of a dataset."""
    assert source.specs, "a source declares at least one name"
    for name, spec in source.specs.items():
        _check_spec(name, spec)
    splits = {"train": source.train(), "val": source.val(), "test": source.test()}
    assert splits["train"] is not None, "there is something to learn from"
    seen: set[str] = set()
    for part, split in splits.items():
        if split is not None:
            seen |= _check_split(part, split, source)
    assert seen == set(source.specs), f"declared, and in no sample: {set(source.specs) - seen}"


def _check_spec(name: str, spec: Spec) -> None:
    assert spec.fields, f"{name} has no fields"
    counts = {field.num_classes for field in spec.fields.values()}
    if spec.labels is not None:
        assert len(spec.labels) in counts, f"{name}: {len(spec.labels)} labels, but fields of {counts} classes"
        assert len(set(spec.labels)) == len(spec.labels), f"{name} has a label twice"
    if spec.vocabulary is not None:
        assert spec.vocabulary.size in counts, f"{name}: {spec.vocabulary.size} ids, but fields of {counts} classes"
        assert len(spec.vocabulary.byte_lengths()) == spec.vocabulary.size
    for key, field in spec.fields.items():
        assert field.num_classes is None or not field.dtype.is_floating_point, f"{name}.{key}: classes are integers"


def _check_split(part: str, split: Split, source: Source) -> set[str]:
    """The names that its samples have."""
    assert len(split) > 0, f"{part} is empty; a split that is not there is None"
    with pytest.raises(IndexError):
        split[len(split)]
    indices = sorted({0, len(split) - 1, *random.Random(0).sample(range(len(split)), min(len(split), 14))})
    samples = [_draw(split, i, seed=1) for i in indices]
    # training may be augmented, by the global generators alone; what is evaluated never changes
    again = [_draw(split, i, seed=1 if part == "train" else 2) for i in reversed(indices)]
    for i, first, second in zip(indices, samples, reversed(again), strict=True):
        assert _equal(first, second), f"{part}[{i}] is not the same when it is read again"
    batch = collate(samples, source.specs, ids=indices)  # raises where a sample does not fit its spec
    names = {name for sample in samples for name in sample}
    for name, spec in source.specs.items():
        _check_values(f"{part}: {name}", batch, name, spec)
    return names & set(source.specs)


def _check_values(where: str, batch: Batch, name: str, spec: Spec) -> None:
    for key, field in spec.fields.items():
        values = batch[name][key][batch.present(name)]
        assert values.dtype == field.dtype, f"{where}.{key}"
        if field.dtype.is_floating_point:
            assert values.isfinite().all(), f"{where}.{key} is not finite"
        elif field.num_classes is not None and values.numel():
            low, high = int(values.min()), int(values.max())
            assert 0 <= low <= high < field.num_classes, f"{where}.{key} lies in {low}..{high}"


def _draw(split: Split, index: int, seed: int) -> Sample:
    torch.default_generator.manual_seed(seed)
    random.seed(seed)
    numpy.random.seed(seed)
    return split[index]


def _equal(one: Sample, other: Sample) -> bool:
    return one.keys() == other.keys() and all(
        one[name].keys() == other[name].keys()
        and all(torch.equal(value, other[name][key]) for key, value in one[name].items())
        for name in one
    )
