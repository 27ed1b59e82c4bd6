"""The files of a sharded run's tensors: ``step-N.shards/`` beside ``step-N.ckpt``, one of each rank."""

import shutil
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageWriter
from torch.distributed.tensor import DTensor

from mmtx.run.checkpoint_file import CheckpointError, hash_of, sync_directory, verify_hash

SUFFIX = ".safetensors"


def write_shards(file: Path, tensors: Mapping[str, DTensor], group: dist.ProcessGroup) -> dict[str, Any]:
    """Writes this rank's part of tensors, to disk, while the others write theirs.

    Args:
        file: the checkpoint, which is written when this is done: before, the shards are nobody's.
        tensors: by name, the same on all ranks.
        group: all ranks, by gloo, used by nothing else meanwhile.

    Returns:
        What the checkpoint holds of them: their folder, and the size and hash of every file.

    Raises:
        CheckpointError: some rank could not write; raised on all.
    """
    name = _gathered(_unused_name(file) if dist.get_rank() == 0 else None, group)[0]
    folder = file.with_name(name)
    writer = HuggingFaceStorageWriter(str(folder), save_distributed=True)
    try:
        dcp.save(dict(tensors), storage_writer=writer, process_group=group)
    except CheckpointException as failed:
        raise _reported(folder, [error for error, _ in failed.failures.values()]) from None
    return {"folder": name, "files": _listed(folder, group)}


def verify_shards(file: Path, listed: Mapping[str, Any]) -> Path:
    """The folder of a checkpoint's shards.

    Args:
        file: the checkpoint.
        listed: what it holds of them.

    Raises:
        CheckpointError: they are not, byte for byte, what was written.
    """
    folder = folder_of(file, listed)
    if not folder.is_dir():
        raise CheckpointError(f"{folder} is not there, which holds the tensors of {file}: keep both side by side")
    present = {path.name for path in folder.glob(f"*{SUFFIX}")}
    for name in sorted(present ^ listed["files"].keys()):
        raise CheckpointError(f"{folder / name} is {'of another checkpoint' if name in present else 'not there'}")
    for name, (size, sha256) in listed["files"].items():
        verify_hash(folder / name, size, sha256)
    return folder


def folder_of(file: Path, listed: Mapping[str, Any]) -> Path:
    """Where a checkpoint has its shards: beside it, whatever it says."""
    return file.resolve().with_name(Path(listed["folder"]).name)


def drop_unnamed(folder: Path, named: Collection[Path | None]) -> None:
    """Removes shards that no checkpoint has: of pruned ones, and of saves that failed or were killed."""
    for shards in folder.glob("*.shards"):
        if shards not in named:
            shutil.rmtree(shards, ignore_errors=True)


def _unused_name(file: Path) -> str:
    """What is there belongs to the checkpoint of the same step that is there, until it has been replaced."""
    names = [f"{file.stem}.shards", *(f"{file.stem}-{again}.shards" for again in range(2, 1000))]
    return next(name for name in names if not file.with_name(name).exists())


def _listed(folder: Path, group: dist.ProcessGroup) -> dict[str, tuple[int, str]]:
    found: dict[str, tuple[int, str]] | OSError = {}
    try:
        own = sorted(folder.glob(f"shard-{dist.get_rank() + 1:05d}-*{SUFFIX}"))
        found = {path.name: (path.stat().st_size, hash_of(path)) for path in own}
        sync_directory(folder)
    except OSError as error:
        found = error
    of_ranks = _gathered(found, group)
    if failed := [each for each in of_ranks if isinstance(each, OSError)]:
        raise _reported(folder, failed)
    return {name: written for each in of_ranks for name, written in each.items()}


def _reported(folder: Path, errors: Sequence[BaseException]) -> BaseException:
    """What is to be raised: a disk that is full is the user's to mend, anything else is not."""
    disk = next((error for error in errors if isinstance(error, OSError)), None)
    return CheckpointError(f"cannot write {folder}: {disk.strerror}") if disk is not None else errors[0]


def _gathered(value: Any, group: dist.ProcessGroup) -> list[Any]:
    values = [None] * dist.get_world_size()
    dist.all_gather_object(values, value, group=group)
    return values
