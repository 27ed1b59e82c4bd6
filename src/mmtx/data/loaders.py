"""From a source to loaders."""

from __future__ import annotations

import hashlib
import random
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal

import numpy
import torch
from torch.utils.data import DataLoader, Dataset

from mmtx.batch import Batch, Sample, Spec
from mmtx.data.base import BatchSplit, NamedSplit, Source, Split
from mmtx.data.collate import collate
from mmtx.data.concat_split import ConcatSplit
from mmtx.data.held_split import HeldBatches, held
from mmtx.data.modality_dropout import ModalityDropout
from mmtx.data.sampler import Draw, EvalSampler, TrainSampler
from mmtx.data.seeding import seed_sample
from mmtx.data.skipped_samples import SKIPPED
from mmtx.data.whole_split import WholeSplit
from mmtx.data.worker import SMALL, CurrentSamples, SentByValue, in_worker, most_bytes, sent, start_workers
from mmtx.errors import UserError, check_at_least, check_within
from mmtx.process.stopping import check

MOST_WORKERS = 8
"""By themselves: each is another process to start, at each validation too."""

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
        num_workers: processes that prepare batches; 0: none; ``auto``: one for each of `cores` but one, up to
            `MOST_WORKERS`.
        packing: only real tokens are computed.
        on_bad_sample: what follows a sample that cannot be read: ``raise`` ends the run; ``skip`` leaves its row of the
            batch empty, with a warning.
        max_bad_share: of the samples, that may be skipped.
        on_device: the training samples lie on the device, from where a step takes its own. Of pictures in memory that
            nothing changes on the host.
        modality_dropout: what samples lose in training; None: nothing.
        cores: of this process, that compute nothing else.
    """

    def __init__(
        self,
        *,
        source: Source,
        names: list[str],
        seed: int,
        batch_size: int,
        eval_batch_size: int | None,
        num_workers: int | Literal["auto"],
        packing: bool,
        on_bad_sample: Literal["raise", "skip"],
        max_bad_share: float,
        on_device: bool = False,  # absent in stored configs of earlier versions
        modality_dropout: ModalityDropout | None = None,
        cores: int = 0,
    ) -> None:
        check_at_least("batch_size", batch_size, 1)
        check_at_least("eval_batch_size", eval_batch_size, 1)
        self.num_workers = max(0, min(cores - 1, MOST_WORKERS)) if num_workers == "auto" else num_workers
        check_at_least("num_workers", self.num_workers, 0)
        check_within("max_bad_share", max_bad_share, 0, 1)
        self.max_bad_share, self._skips = max_bad_share, on_bad_sample == "skip"
        self.source, self.seed = source, seed
        self.current = CurrentSamples() if self.num_workers else None
        self.batch_size, self.eval_batch_size = batch_size, eval_batch_size or batch_size
        self.packing, self.modality_dropout = packing, modality_dropout
        self.specs: dict[str, Spec] = {name: spec for name, spec in source.specs.items() if name in names}
        self._train = source.train()
        if not len(self._train):
            raise UserError(f"{type(source).__name__} has no training samples")
        drops = modality_dropout is not None and bool(modality_dropout.shares)
        self._held = held(self._train, self.specs, packing, drops) if on_device else None

    @property
    def num_train(self) -> int:
        """Training samples of an epoch."""
        return len(self._train)

    def num_samples(self) -> dict[str, int]:
        """Samples of each split that there is, those of all parts together."""
        counts = {name: sum(map(len, self.splits(name).values())) for name in ("train", "val", "test")}
        return {name: count for name, count in counts.items() if count}

    def train_loader(
        self,
        *,
        num_steps: int,
        accumulate: int,
        rank: int,
        num_ranks: int,
        first_step: int = 0,
        timeout_s: float | None = None,
        device: torch.device | None = None,
    ) -> Batches | HeldBatches:
        """Steps `first_step` to `num_steps` of the stream; `timeout_s` is how long to wait for a worker's batch, and
        `device` is where samples are held; None: the CPU."""
        sampler = TrainSampler(
            self.source.order(self.num_train, self.seed),
            num_steps=num_steps,
            batch_size=self.batch_size,
            accumulate=accumulate,
            rank=rank,
            num_ranks=num_ranks,
            first_step=first_step,
        )
        if self._held is not None:
            return HeldBatches(self._held, self.specs, sampler, self.batch_size, device or torch.device("cpu"))
        fetch = self._fetch(self._train, self.specs, self.batch_size, self.modality_dropout)
        return self._loader(fetch, sampler, timeout_s, accumulate)

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
        made = self._fetch(split, self.specs, len(draws)).__getitems__(draws)
        if isinstance(made, UserError):
            raise made
        digest = hashlib.sha256()
        for batch in made:
            for name, fields in sorted(batch.fields.items()):
                for key, value in sorted(fields.items()):
                    digest.update(f"{name}.{key} {tuple(value.shape)} {value.dtype}".encode())
                    digest.update(value.contiguous().numpy().tobytes())
        return digest.hexdigest()[:16]

    def splits(self, split: str) -> dict[str, Split]:
        """For each part of the source that has the split, ``train``, ``val`` or ``test``, its samples in their own
        order; ``all``: those of the three as one. A source that has no parts is one, nameless part."""
        of_parts: dict[str, Split] = {}
        for part, source in self.source.parts.items():
            readers: dict[str, Callable[[], Split | None]]
            readers = {
                "train": source.train,
                "val": source.val,
                "test": source.test,
                "all": partial(WholeSplit, source),
            }
            samples = readers[split]()
            if samples is not None:
                of_parts[part] = samples
        return of_parts

    def eval_loaders(self, split: str, *, rank: int, num_ranks: int) -> dict[str, Batches]:
        """Of each of the `splits`, its batches."""
        sizes = {"rank": rank, "num_ranks": num_ranks}
        return {
            part: self.eval_loader(part, samples, split=split, **sizes) for part, samples in self.splits(split).items()
        }

    def eval_loader(
        self, part: str, samples: Split, *, rank: int = 0, num_ranks: int = 1, first_batch: int = 0, split: str = ""
    ) -> Batches:
        """The batches of one of the `splits`, from `first_batch` on, which say of which split they are."""
        size = self.eval_batch_size
        sampler = EvalSampler(len(samples), batch_size=size, rank=rank, num_ranks=num_ranks, first_batch=first_batch)
        names = self.source.parts[part].specs
        specs = {name: spec for name, spec in self.specs.items() if name in names}
        return self._loader(replace(self._fetch(samples, specs, size), evaluated=split), sampler)

    def _fetch(
        self,
        split: Split,
        specs: Mapping[str, Spec],
        batch_size: int,
        modality_dropout: ModalityDropout | None = None,
    ) -> _Fetch:
        return _Fetch(split, specs, batch_size, self.seed, self.packing, self._skips, modality_dropout, self.current)

    def _loader(
        self,
        dataset: _Fetch,
        sampler: TrainSampler | EvalSampler,
        timeout_s: float | None = None,
        accumulate: int = 1,
    ) -> Batches:
        large = most_bytes(dataset.specs, dataset.batch_size * accumulate) > SMALL
        return Batches(
            DataLoader(
                dataset,
                batch_sampler=sampler,  # of draws, not integers
                collate_fn=sent,
                num_workers=min(self.num_workers, len(sampler)),
                worker_init_fn=in_worker,
                timeout=timeout_s if timeout_s and self.num_workers and len(sampler) else 0,
                pin_memory=large and torch.cuda.is_available(),  # by a thread, which takes turns with the training
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
        try:
            loader = self._loader
            for batches in start_workers(lambda: iter(loader)) if loader.num_workers else loader:
                if isinstance(batches, UserError):
                    raise batches
                yield batches.received() if isinstance(batches, SentByValue) else batches
        except (ConnectionError, EOFError) as error:
            raise RuntimeError(f"DataLoader worker died while it handed over a batch: {error}") from error


@dataclass(frozen=True)
class _Group:
    """Draws from one dataset, whose sample 0 has the index `first`."""

    part: str
    split: Split
    specs: Mapping[str, Spec]
    draws: list[Draw]
    first: int

    def blocks(self, size: int) -> Iterator[list[Draw]]:
        """The draws in blocks of a size; an empty one where there are no draws."""
        for start in range(0, max(len(self.draws), 1), size):
            yield self.draws[start : start + size]


@dataclass
class _Fetch(Dataset[list[Batch]]):
    """Makes the micro-batches of a list of draws."""

    split: Split
    specs: Mapping[str, Spec]
    batch_size: int
    seed: int
    packing: bool
    skips: bool
    modality_dropout: ModalityDropout | None
    current: CurrentSamples | None
    evaluated: str = ""

    def __getitems__(self, draws: list[Draw]) -> list[Batch] | UserError:
        states = torch.get_rng_state(), random.getstate(), numpy.random.get_state()
        try:
            return [
                self._finish(replace(self._batch(group, block), part=group.part, split=self.evaluated), block)
                for group in self._groups(draws)
                for block in group.blocks(self.batch_size)
            ]
        except UserError as error:
            return error
        finally:
            self._note(-1)
            torch.set_rng_state(states[0])
            random.setstate(states[1])
            numpy.random.set_state(states[2])

    def _groups(self, draws: list[Draw]) -> Iterator[_Group]:
        """The draws of each part, since samples of two parts share no batch."""
        if not isinstance(self.split, ConcatSplit):
            yield _Group("", self.split, self.specs, draws, 0)
            return
        of_part: dict[str, list[Draw]] = {}
        for draw in draws:
            of_part.setdefault(self.split.locate(draw.index)[0], []).append(draw)
        for part in sorted(of_part):
            specs = {name: spec for name, spec in self.specs.items() if name in self.split.names[part]}
            yield _Group(part, self.split.splits[part], specs, of_part[part], self.split.first[part])

    def _finish(self, batch: Batch, draws: list[Draw]) -> Batch:
        if self.modality_dropout is not None:
            batch = self.modality_dropout(batch, draws)
        return batch.packed() if self.packing else batch

    def _batch(self, group: _Group, draws: list[Draw]) -> Batch:
        if isinstance(group.split, BatchSplit) and draws:
            self._note(draws[0].index)
            ids = [draw.index for draw in draws]
            own = [index - group.first for index in ids]
            return replace(group.split.batch(own, group.specs), ids=torch.tensor(ids))
        samples = [self._sample(group, draw) for draw in draws]
        ids = [SKIPPED if sample is None else draw.index for draw, sample in zip(draws, samples, strict=True)]
        return collate([sample or {} for sample in samples], group.specs, size=max(len(draws), 1), ids=ids)

    def _sample(self, group: _Group, draw: Draw) -> Sample | None:
        """One sample; None where it cannot be read and may be skipped."""
        check()
        self._note(draw.index)
        seed_sample(self.seed, draw)
        try:
            own, split = draw.index - group.first, group.split
            sample = split.some(own, group.specs) if isinstance(split, NamedSplit) else split[own]
            if self.skips:
                collate([sample], group.specs, ids=[draw.index])  # one that fits nothing spoils its batch
            return sample
        except UserError as error:
            problem = str(error) if str(error).startswith("sample ") else f"sample {draw.index}: {error}"
            if not self.skips:
                raise UserError(problem) from None
            print(f"mmtx: warning: {problem}; it is skipped (loader.on_bad_sample=skip)", file=sys.stderr, flush=True)
            return None
        except Exception as error:
            error.add_note(f"when sample {draw.index} was made")
            raise

    def _note(self, index: int) -> None:
        if self.current is not None:
            self.current.record(index)
