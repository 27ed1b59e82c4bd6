"""Batches of workers arrive, or one line says what keeps them: folders for sockets, and shared memory."""

import multiprocessing
import shutil
import tempfile
from multiprocessing import process, util
from pathlib import Path

import pytest
import torch
from test_sampler import module, training

from mmtx.data import worker
from mmtx.data.worker import CurrentSamples, most_bytes, start_workers
from mmtx.errors import UserError


@pytest.fixture
def no_folder_yet(monkeypatch):
    """As in a process that has not made a folder for sockets."""
    monkeypatch.delitem(process.current_process()._config, "tempdir", raising=False)
    monkeypatch.setitem(process.current_process()._config, "tempdir", None)


@pytest.mark.parametrize("is_there", [True, False])
def test_a_folder_for_temporary_files_may_be_gone_or_have_a_long_path(is_there, no_folder_yet, tmp_path, monkeypatch):
    place = tmp_path / ("of_a_very_long_job_name" * 4) if is_there else tmp_path / "gone"
    place.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(place))
    if not is_there:
        place.rmdir()
    assert len(training(num_workers=2)) == 12
    assert tempfile.tempdir == str(place) and not (is_there and [*place.iterdir()])
    folder = Path(util.get_temp_dir())
    shutil.rmtree(folder)  # as those do who clean up
    start_workers(list)
    assert folder.is_dir()


def test_no_folder_at_all_is_a_line(no_folder_yet, monkeypatch):
    def full(**_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(tempfile, "mkdtemp", full)
    with pytest.raises(UserError, match="loader.num_workers needs a folder for sockets, .* set TMPDIR"):
        start_workers(list)


NO_ROOM = r"through shared memory, and there is none left \(.*No space left on device.*\): make /dev/shm larger"


@pytest.mark.parametrize("most", [0, worker.SMALL], ids=["shared", "by value"])
@pytest.mark.parametrize("packing", [False, True])
def test_batches_arrive_as_they_were_made(most, packing, monkeypatch):
    monkeypatch.setattr(worker, "SMALL", most)  # a worker has it too
    loaders = (module(num_workers=n, packing=packing) for n in (0, 1))
    alone, other = (list(d.train_loader(num_steps=3, accumulate=2, rank=0, num_ranks=1)) for d in loaders)
    assert len(alone) == len(other) == 3
    for made, arrived in zip(alone, other, strict=True):
        for one, same in zip(made, arrived, strict=True):
            assert len(one.tensors) == len(same.tensors) == 5 and all(map(torch.equal, one.tensors, same.tensors))
            assert (one.part, one.full, one.is_packed) == (same.part, same.full, same.is_packed)
            assert sum(tensor.nbytes for tensor in same.tensors) <= most_bytes(module().specs, len(same))
            assert same.is_packed == packing and same.tensors[0].is_shared() == (most == 0)
            assert not packing or all(same.host_lengths[name].equal(one.lengths[name]) for name in one.lengths)


@pytest.mark.parametrize("num_workers", [0, 1])
def test_batches_know_which_split_is_evaluated(num_workers):
    data = module(num_workers=num_workers)
    for split in ("train", "val"):
        for loader in data.eval_loaders(split, rank=0, num_ranks=1).values():
            assert {batch.split for batches in loader for batch in batches} == {split}
    (batches,) = data.train_loader(num_steps=1, accumulate=1, rank=0, num_ranks=1)
    assert batches[0].split == ""


def test_no_room_for_a_batch_is_a_line_at_once(monkeypatch):
    monkeypatch.setattr(worker, "SMALL", 0)
    data = module(num_workers=1)

    def full(tensor):
        raise RuntimeError("unable to allocate shared memory(shm) for file </torch_1>: No space left on device (28)")

    monkeypatch.setattr(torch.Tensor, "share_memory_", full)  # a worker has it too
    with pytest.raises(UserError, match=NO_ROOM):
        list(data.train_loader(num_steps=2, accumulate=1, rank=0, num_ranks=1, timeout_s=60.0))
    with pytest.raises(UserError, match=NO_ROOM):
        CurrentSamples()


def test_no_room_for_workers_is_a_line(monkeypatch):
    def full():
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(multiprocessing, "Lock", full)
    with pytest.raises(UserError, match=NO_ROOM):
        list(module(num_workers=1).train_loader(num_steps=2, accumulate=1, rank=0, num_ranks=1))
