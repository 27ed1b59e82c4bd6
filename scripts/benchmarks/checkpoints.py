"""A checkpoint of 200 MB written and read, and the first batch of a run that goes on.

Ours is hashed, and on disk (fsync) before it has its name; so the peers put theirs on disk as well. Reading verifies
the hash.
"""

import itertools
import os
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch

from benchmarks.measuring import Effort, Row, compare, ratio
from mmtx.data.sampler import Order, TrainSampler
from mmtx.run import checkpoint_file
from mmtx.run.checkpoint_file import verify, write_checkpoint

MEGABYTES = 200
SAMPLES, ROWS = 1_000_000, 64


def measured(effort: Effort) -> Iterator[Row]:
    megabytes = 1 if effort.quick else MEGABYTES
    content = {"state_dict": {f"{i}": torch.randn(megabytes * 1000, 25) for i in range(10)}}
    with tempfile.TemporaryDirectory() as folder:
        ours, theirs = Path(folder) / "ours.ckpt", Path(folder) / "theirs.ckpt"
        what = f"a checkpoint of {megabytes} MB, hashed, written to disk"
        for peer, write in (("torch.save and fsync", saved), ("Lightning's, and fsync", saved_by_lightning)):
            pair = partial(write_checkpoint, ours, content), partial(write, theirs, content)
            yield ratio(what, peer, compare(*pair, effort.pairs(11), warm_up=1))
        pair = partial(read, ours), partial(torch.load, theirs)
        yield ratio("the same, verified and read", "torch.load", compare(*pair, effort.pairs(11), warm_up=1))
    late, early = first_batch(0.9), first_batch(0.1)
    ratios = compare(late, early, effort.pairs(31))
    yield ratio(f"the first batch of {SAMPLES:,} samples after 0.9 of them", "after 0.1 of them", ratios)


def saved(file: Path, content: dict[str, Any]) -> None:
    with file.open("wb") as stream:
        torch.save(content, stream)
        stream.flush()
        os.fsync(stream.fileno())


def saved_by_lightning(file: Path, content: dict[str, Any]) -> None:
    from lightning.fabric.utilities.cloud_io import _atomic_save

    _atomic_save(content, file)
    descriptor = os.open(file, os.O_RDWR)
    os.fsync(descriptor)
    os.close(descriptor)


def read(file: Path) -> Any:
    """As a process that has not verified it yet."""
    checkpoint_file._verified.clear()
    verify(file)
    return torch.load(file)


def first_batch(share: float) -> Callable[[], object]:
    """Finds the samples of the step at which a run goes on."""
    steps = SAMPLES // ROWS

    def run() -> object:
        sampler = TrainSampler(
            Order(SAMPLES, 0),
            num_steps=steps,
            batch_size=ROWS,
            accumulate=1,
            rank=0,
            num_ranks=1,
            first_step=int(share * steps),
        )
        return next(itertools.chain(sampler))

    return run
