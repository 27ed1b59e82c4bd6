"""From a source to loaders."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy
import torch
from torch.utils.data import DataLoader, Dataset

from mmtx.batch import Batch, Spec
from mmtx.data.base import BatchSplit, Source, Split
from mmtx.data.collate import collate
from mmtx.data.parted import PartedSplit
from mmtx.data.sampler import Draw, EvalSampler, TrainSampler, seed_everything_for
from mmtx.data.worker import in_worker
from mmtx.errors import InvalidValue, UserError

FINGERPRINTED = 8
"""Samples of a split that are hashed."""


class DataModule:
    """Loaders over a source. A training item is one optimiser step: a list of micro-batches.

    Args:
        source: the dataset.
        names: the names to take from it.
        seed: of order and augmentation.
        batch_size: samples of one micro-batch of one process.
        eval_batch_size: samples of one batch in evaluation; None: as in training.
        num_workers: processes that prepare batches; 0: none.
    """

    def __init__(
        self,
        *,
        source: Source,
        names: list[str],
        seed: int,
        batch_size: int,
        eval_batch_size: int | None,
        num_workers: int,
    ) -> None:
        for key, value in (("batch_size", batch_size), ("eval_batch_size", eval_batch_size or batch_size)):
            if value < 1:
                raise InvalidValue(key, value, "must be at least 1")
        if num_workers < 0:
            raise InvalidValue("num_workers", num_workers, "must be at least 0")
        self.source, self.seed, self.num_workers = source, seed, num_workers
        self.batch_size, self.eval_batch_size = batch_size, eval_batch_size or batch_size
        self.specs: dict[str, Spec] = {name: spec for name, spec in source.specs.items() if name in names}
        self._train = source.train()
        if not len(self._train):
            raise UserError(f"{type(source).__name__} has no training samples")

    @property
    def num_train(self) -> int:
        """Training samples of an epoch."""
        return len(self._train)

    def train_loader(
        self,
        *,
        num_steps: int,
        accumulate: int,
        rank: int,
        num_ranks: int,
        first_step: int = 0,
        timeout_s: float | None = None,
    ) -> Batches:
        """Steps `first_step` to `num_steps` of the stream; `timeout_s` is how long to wait for a worker's batch."""
        sampler = TrainSampler(
            self.source.order(self.num_train, self.seed),
            num_steps=num_steps,
            batch_size=self.batch_size,
            accumulate=accumulate,
            rank=rank,
            num_ranks=num_ranks,
            first_step=first_step,
        )
        return self._loader(_Fetch(self._train, self.specs, self.batch_size, self.seed), sampler, timeout_s)

    def fingerprint(self) -> dict[str, Any]:
        """How many samples there are, and a hash of some of them, as they come in their first epoch: cheap to make, and
        another for most changes of the data."""
        splits = {"train": self._train, "val": self.source.val()}
        return {
            name: {"samples": len(split), "hash_of_some": self._hash(split)}
            for name, split in splits.items()
            if split is not None
        }

    def _hash(self, split: Split) -> str:
        last = len(split) - 1
        draws = [Draw(0, i) for i in sorted({last * i // (FINGERPRINTED - 1) for i in range(FINGERPRINTED)})]
        made = _Fetch(split, self.specs, len(draws), self.seed).__getitems__(draws)
        if isinstance(made, UserError):
            raise made
        digest = hashlib.sha256()
        for batch in made:
            for name, fields in sorted(batch.fields.items()):
                for key, value in sorted(fields.items()):
                    digest.update(f"{name}.{key} {tuple(value.shape)} {value.dtype}".encode())
                    digest.update(value.contiguous().numpy().tobytes())
        return digest.hexdigest()[:16]

    def eval_loaders(self, split: str, *, rank: int, num_ranks: int) -> dict[str, Batches]:
        """For each part of the source that has the split (``val``, ``test``, or ``train`` in its own order), its
        batches."""
        loaders = {}
        for part, source in self.source.parts.items():
            samples = {"train": source.train, "val": source.val, "test": source.test}[split]()
            if samples is not None:
                sampler = EvalSampler(len(samples), batch_size=self.eval_batch_size, rank=rank, num_ranks=num_ranks)
                specs = {name: spec for name, spec in self.specs.items() if name in source.specs}
                loaders[part] = self._loader(_Fetch(samples, specs, self.eval_batch_size, self.seed), sampler)
        return loaders

    def eval_loader(self, split: str, *, rank: int, num_ranks: int) -> Batches | None:
        """The same of a source that has no parts; None if there is no such split."""
        return self.eval_loaders(split, rank=rank, num_ranks=num_ranks).get("")

    def _loader(self, dataset: _Fetch, sampler: TrainSampler | EvalSampler, timeout_s: float | None = None) -> Batches:
        return Batches(
            DataLoader(
                dataset,
                batch_sampler=sampler,  # of draws, not integers
                collate_fn=_as_is,
                num_workers=self.num_workers,
                worker_init_fn=in_worker,
                timeout=timeout_s if timeout_s and self.num_workers else 0,
                pin_memory=torch.cuda.is_available(),
                generator=torch.Generator(),  # its own, so that dropout does not depend on when a loader starts
            )
        )


class Batches:
    """A loader whose errors for the user arrive as they were raised, also out of a worker process.

    Args:
        loader: gives lists of batches, or the `UserError` that kept it from making one.
    """

    def __init__(self, loader: DataLoader[list[Batch]]) -> None:
        self._loader = loader

    def __len__(self) -> int:
        return len(self._loader)

    def __iter__(self) -> Iterator[list[Batch]]:
        for batches in self._loader:
            if isinstance(batches, UserError):
                raise batches
            yield batches


@dataclass(frozen=True)
class _Group:
    """Draws from one dataset, whose sample 0 has the index `first`."""

    split: Split
    specs: Mapping[str, Spec]
    draws: list[Draw]
    first: int


class _Fetch(Dataset[list[Batch]]):
    """Makes the micro-batches of a list of draws."""

    def __init__(self, split: Split, specs: Mapping[str, Spec], batch_size: int, seed: int) -> None:
        self.split, self.specs, self.batch_size, self.seed = split, specs, batch_size, seed

    def __getitems__(self, draws: list[Draw]) -> list[Batch] | UserError:
        states = torch.get_rng_state(), random.getstate(), numpy.random.get_state()
        try:
            return [
                self._batch(group, group.draws[i : i + self.batch_size])
                for group in self._groups(draws)
                for i in range(0, max(len(group.draws), 1), self.batch_size)
            ]
        except UserError as error:
            return error
        finally:
            torch.set_rng_state(states[0])
            random.setstate(states[1])
            numpy.random.set_state(states[2])

    def _groups(self, draws: list[Draw]) -> Iterator[_Group]:
        """The draws of each part, since samples of two parts share no batch."""
        if not isinstance(self.split, PartedSplit):
            yield _Group(self.split, self.specs, draws, 0)
            return
        of_part: dict[str, list[Draw]] = {}
        for draw in draws:
            of_part.setdefault(self.split.locate(draw.index)[0], []).append(draw)
        for part in sorted(of_part):
            specs = {name: spec for name, spec in self.specs.items() if name in self.split.names[part]}
            yield _Group(self.split.splits[part], specs, of_part[part], self.split.first[part])

    def _batch(self, group: _Group, draws: list[Draw]) -> Batch:
        ids = [draw.index for draw in draws]
        own = [number - group.first for number in ids]
        if isinstance(group.split, BatchSplit) and draws:
            return replace(group.split.batch(own, group.specs), ids=torch.tensor(ids))
        samples = []
        for draw, index in zip(draws, own, strict=True):
            seed_everything_for(self.seed, draw)
            samples.append(group.split[index])
        return collate(samples, group.specs, size=max(len(draws), 1), ids=ids)


def _as_is(batches: list[Batch] | UserError) -> list[Batch] | UserError:
    return batches
