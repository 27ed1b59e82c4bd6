"""From a source to loaders."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator, Mapping
from typing import Any

import numpy
import torch
from torch.utils.data import DataLoader, Dataset

from mmtx.batch import Batch, Spec
from mmtx.data.base import BatchSplit, Source, Split
from mmtx.data.collate import collate
from mmtx.data.modality_dropout import ModalityDropout
from mmtx.data.sampler import Draw, EvalSampler, Order, TrainSampler, seed_everything_for
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
        packing: batches say that only real tokens are to be computed.
        modality_dropout: what samples lose in training; None: nothing.
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
        packing: bool,
        modality_dropout: ModalityDropout | None = None,
    ) -> None:
        for key, value in (("batch_size", batch_size), ("eval_batch_size", eval_batch_size or batch_size)):
            if value < 1:
                raise InvalidValue(key, value, "must be at least 1")
        if num_workers < 0:
            raise InvalidValue("num_workers", num_workers, "must be at least 0")
        self.source, self.seed, self.num_workers = source, seed, num_workers
        self.batch_size, self.eval_batch_size = batch_size, eval_batch_size or batch_size
        self.packing, self.modality_dropout = packing, modality_dropout
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
            Order(self.num_train, self.seed),
            num_steps=num_steps,
            batch_size=self.batch_size,
            accumulate=accumulate,
            rank=rank,
            num_ranks=num_ranks,
            first_step=first_step,
        )
        fetch = _Fetch(self._train, self.specs, self.batch_size, self.seed, self.packing, self.modality_dropout)
        return self._loader(fetch, sampler, timeout_s)

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
        made = _Fetch(split, self.specs, len(draws), self.seed, packing=False).__getitems__(draws)
        if isinstance(made, UserError):
            raise made
        digest = hashlib.sha256()
        for name, fields in sorted(made[0].fields.items()):
            for key, value in sorted(fields.items()):
                digest.update(f"{name}.{key} {tuple(value.shape)} {value.dtype}".encode())
                digest.update(value.contiguous().numpy().tobytes())
        return digest.hexdigest()[:16]

    def eval_loader(self, split: str, *, rank: int, num_ranks: int) -> Batches | None:
        """Batches of ``val``, ``test``, or ``train`` in its own order; None if there is no such split."""
        samples = {"train": self.source.train, "val": self.source.val, "test": self.source.test}[split]()
        if samples is None:
            return None
        sampler = EvalSampler(len(samples), batch_size=self.eval_batch_size, rank=rank, num_ranks=num_ranks)
        return self._loader(_Fetch(samples, self.specs, self.eval_batch_size, self.seed, self.packing), sampler)

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


class _Fetch(Dataset[list[Batch]]):
    """Makes the micro-batches of a list of draws."""

    def __init__(
        self,
        split: Split,
        specs: Mapping[str, Spec],
        batch_size: int,
        seed: int,
        packing: bool,
        modality_dropout: ModalityDropout | None = None,
    ) -> None:
        self.split, self.specs, self.batch_size, self.seed = split, specs, batch_size, seed
        self.packing, self.modality_dropout = packing, modality_dropout

    def __getitems__(self, draws: list[Draw]) -> list[Batch] | UserError:
        blocks = [draws[i : i + self.batch_size] for i in range(0, len(draws), self.batch_size)] or [[]]
        states = torch.get_rng_state(), random.getstate(), numpy.random.get_state()
        try:
            return [self._finish(self._batch(block), block) for block in blocks]
        except UserError as error:
            return error
        finally:
            torch.set_rng_state(states[0])
            random.setstate(states[1])
            numpy.random.set_state(states[2])

    def _finish(self, batch: Batch, draws: list[Draw]) -> Batch:
        if self.modality_dropout is not None:
            batch = self.modality_dropout(batch, draws)
        return batch.packed() if self.packing else batch

    def _batch(self, draws: list[Draw]) -> Batch:
        if isinstance(self.split, BatchSplit) and draws:
            return self.split.batch([draw.index for draw in draws], self.specs)
        samples = []
        for draw in draws:
            seed_everything_for(self.seed, draw)
            samples.append(self.split[draw.index])
        return collate(samples, self.specs, size=max(len(draws), 1), ids=[draw.index for draw in draws])


def _as_is(batches: list[Batch] | UserError) -> list[Batch] | UserError:
    return batches
