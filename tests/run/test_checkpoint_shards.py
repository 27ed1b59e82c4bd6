"""Shards on disk: written by some ranks, read by others, and known to be what was written."""

import os
import shutil

import pytest
import torch
import torch.distributed as dist
from run_cli import fork
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import Shard, distribute_tensor, zeros
from whole_checkpoint import whole_checkpoint

from mmtx.run import checkpoint_shards
from mmtx.run.checkpoint_content import read_checkpoint, shards_of
from mmtx.run.checkpoint_file import CheckpointError, link, write_checkpoint
from mmtx.run.checkpoint_schedule import Checkpoints
from mmtx.run.checkpoint_shards import write_shards
from mmtx.run.directory import RunDirectory
from mmtx.run.resume import find_checkpoint
from mmtx.run.wandb import view
from mmtx.training.stored_tensors import Reading, put_together, take_apart

FULL = {name: torch.randn(shape) for name, shape in {"a": (5, 3), "b": (1, 4), "c": (7,)}.items()}
"""Rows that no number of ranks divides; of `b` most ranks have nothing."""


def content_of(tensors):
    moments = {name: {"exp_avg": tensor * 2, "step": torch.tensor(4.0)} for name, tensor in tensors.items()}
    return {
        "mmtx": {"step": 1, "format": 7},
        "state_dict": {**tensors, "tied": tensors["a"].detach()},
        "optimizer": {"state": moments, "groups": [{"lr": 0.1}]},
    }


def write_step(folder, mesh, step=1):
    file = folder / f"step-{step:08d}.ckpt"
    cut = {name: distribute_tensor(tensor, mesh, [Shard(0)], src_data_rank=None) for name, tensor in FULL.items()}
    rest, spread = take_apart(content_of(cut))
    listed = write_shards(file, spread, dist.group.WORLD)
    if dist.get_rank() == 0:
        write_checkpoint(file, {**rest, "shards": listed})
    return file


def on_rank(work, rank, num_ranks, full, folder):
    FULL.update(full)
    dist.init_process_group(
        "gloo", init_method=f"file://{folder}/{work.__name__}{num_ranks}", rank=rank, world_size=num_ranks
    )
    work(folder, init_device_mesh("cpu", (num_ranks,)))
    dist.destroy_process_group()


def on_ranks(work, num_ranks, folder):
    processes = [fork(on_rank, work, rank, num_ranks, FULL, folder) for rank in range(num_ranks)]
    for process in processes:
        process.join(120)
    assert [process.exitcode for process in processes] == [0] * num_ranks


def read_step(folder, mesh):
    content = torch.load(folder / "step-00000001.ckpt", weights_only=True)
    stored = put_together(content, folder / content["shards"]["folder"])["state_dict"]
    reading = Reading()
    places = {
        name: reading.new(stored[name], zeros(tensor.shape, device_mesh=mesh, placements=[Shard(0)]))
        for name, tensor in FULL.items()
    }
    reading.finish()
    for name, tensor in FULL.items():
        found = places[name]
        assert len(found.to_local()) <= -(-len(tensor) // mesh.size())
        assert found.full_tensor().equal(tensor)


def test_what_two_ranks_write_one_and_three_read(tmp_path):
    on_ranks(write_step, 2, tmp_path)
    on_ranks(read_step, 3, tmp_path)
    found, expected = whole_checkpoint(tmp_path / "step-00000001.ckpt"), content_of(FULL)
    torch.testing.assert_close(found, expected, rtol=0, atol=0)
    files = list((tmp_path / "step-00000001.shards").iterdir())
    assert len(files) == 2 and all(file.stat().st_size < 1500 for file in files)


@pytest.fixture(scope="module")
def mesh():
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    yield init_device_mesh("cpu", (1,))
    dist.destroy_process_group()


@pytest.fixture
def run(tmp_path, mesh):
    run = RunDirectory(tmp_path / "run")
    run.create()
    for step in (1, 2):
        write_step(run.checkpoints, mesh, step)
    link(run.checkpoints / "step-00000002.ckpt", run.last)
    return run


def shard(run, step):
    (file,) = (run.checkpoints / f"step-{step:08d}.shards").iterdir()
    return file


def flip(file):
    content = bytearray(file.read_bytes())
    content[-3] ^= 1
    file.write_bytes(content)


HARM = {
    "flipped": (flip, "sha256 differs"),
    "cut": (lambda file: os.truncate(file, 100), "holds 100 bytes, and .* were written"),
    "removed": (lambda file: file.unlink(), "is not there"),
    "another": (lambda file: shutil.copy(file, file.with_name("more.safetensors")), "is of another checkpoint"),
    "all": (lambda file: shutil.rmtree(file.parent), "keep both side by side"),
}


@pytest.mark.parametrize("harm", HARM)
def test_harm_is_named_and_the_one_before_is_taken(harm, run, capfd):
    do, message = HARM[harm]
    do(shard(run, 2))
    with pytest.raises(CheckpointError, match=message):
        read_checkpoint(run.last)
    assert find_checkpoint(run).name == "step-00000001.ckpt"
    assert "looking for the one before" in capfd.readouterr().err


def test_a_save_of_the_same_step_leaves_the_first_alone_until_it_is_done(run, mesh):
    first = shard(run, 2)
    before = first.read_bytes()
    write_step(run.checkpoints, mesh, 2)
    assert first.read_bytes() == before
    assert shards_of(run.checkpoints / "step-00000002.ckpt").name == "step-00000002-2.shards"
    assert shards_of(run.last).name == "step-00000002.shards", "which is still the file from before"


def test_shards_go_with_the_last_of_their_names(run, mesh):
    saves = Checkpoints(every_steps=1, every_minutes=None, keep=1, monitor=None, mode=None, asynchronous=False)
    saves.of(run, {})
    (run.checkpoints / "step-00000003.shards").mkdir()  # of a save that was killed
    link(run.checkpoints / "step-00000001.ckpt", run.best)
    saves._prune()
    saves._prune_shards()
    assert [file.name for file in run.step_files()] == ["step-00000002.ckpt"]
    left = ["step-00000001.shards", "step-00000002.shards"]
    assert sorted(path.name for path in run.checkpoints.glob("*.shards")) == left
    link(run.checkpoints / "step-00000002.ckpt", run.best)
    saves._prune_shards()
    assert [path.name for path in run.checkpoints.glob("*.shards")] == left[1:]


def test_a_full_disk_is_told_by_all_ranks(run, mesh, monkeypatch):
    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint_shards, "hash_of", full)
    with pytest.raises(CheckpointError, match="cannot write .*step-00000003.shards: No space left on device"):
        write_step(run.checkpoints, mesh, 3)


def test_a_checkpoint_that_lacks_a_part_is_refused(run):
    """Whatever its hashes say: one who writes those can write anything, and tensors are made as the files have them."""
    content = torch.load(run.last, weights_only=True)
    with pytest.raises(KeyError, match="gone"):
        put_together({"state_dict": {"a": {"in_shards": "gone"}}}, run.checkpoints / content["shards"]["folder"])
    shard(run, 2).write_bytes(b"no weights at all")
    with pytest.raises(ValueError, match="step-00000002.shards"):
        put_together(content, run.checkpoints / content["shards"]["folder"])


def test_it_is_kept_whole_as_an_artifact(run):
    assert list(view.parts_of(run.last)) == ["last.ckpt", f"step-00000002.shards/{shard(run, 2).name}"]
