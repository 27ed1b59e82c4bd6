"""A checkpoint on disk is whole or not there, and known to be what was written."""

import hashlib
import os
import resource
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

import pytest
import torch

from mmtx.run import checkpoint_file, checkpoint_schedule
from mmtx.run.checkpoint_file import MANIFEST, CheckpointError, link, verify, write_checkpoint
from mmtx.run.checkpoint_schedule import Checkpoints
from mmtx.run.directory import RunDirectory
from mmtx.training.lightning_module import MultimodalModule

STATE = {"state_dict": {f"w{i}": torch.randn(40, 30) for i in range(5)}, "mmtx": {"step": 3}}


@pytest.fixture
def written(tmp_path):
    file = tmp_path / "step-00000003.ckpt"
    write_checkpoint(file, STATE)
    return file


def test_what_is_written_is_read(written):
    verify(written)
    for mapped in (False, True):
        found = torch.load(written, weights_only=True, mmap=mapped)
        assert all(torch.equal(found["state_dict"][key], value) for key, value in STATE["state_dict"].items())


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.99])
def test_a_file_that_was_cut_off_is_refused(share, written):
    content = written.read_bytes()
    written.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(CheckpointError, match="no manifest"):
        verify(written)


@pytest.mark.parametrize("place", [0, 100, 5000, -200, -100, -90, -80, -60, -20, -3, -2, -1])
def test_a_flipped_byte_is_found(place, written):
    content = bytearray(written.read_bytes())
    content[place] ^= 1
    written.write_bytes(content)
    with pytest.raises(CheckpointError):
        verify(written)


def test_zeros_at_the_end_and_other_files_are_refused(written):
    written.write_bytes(written.read_bytes()[:-500] + bytes(500))
    with pytest.raises(CheckpointError, match="no manifest"):
        verify(written)
    written.write_text("not a checkpoint")
    with pytest.raises(CheckpointError, match="no manifest"):
        verify(written)
    with pytest.raises(CheckpointError, match="cannot be read"):
        verify(written.with_name("nothing"))


def test_the_sum_is_reported(written):
    content = bytearray(written.read_bytes())
    content[5000] ^= 1
    written.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"sha256 differs \(expected [0-9a-f]{8}…, got [0-9a-f]{8}…\)"):
        verify(written)


def test_content_is_on_disk_before_its_names_and_its_place_before_an_older_one_goes(tmp_path, monkeypatch):
    run, done = RunDirectory(tmp_path), []
    run.create()
    write_checkpoint(run.checkpoints / "step-00000001.ckpt", STATE)

    def noted(name, original):
        def call(*arguments, **keywords):
            what = os.readlink(f"/proc/self/fd/{arguments[0]}") if name == "fsync" else str(arguments[-1])
            whole = not what.endswith(".partial") or MANIFEST.search(Path(what).read_bytes())
            done.append((name if whole else f"half {name}", os.path.basename(what)))
            return original(*arguments, **keywords)

        return call

    for name in ("fsync", "replace", "remove", "unlink"):
        monkeypatch.setattr(os, name, noted(name, getattr(os, name)))
    Checkpoints(every_steps=None, every_minutes=None, keep=1, monitor=None, mode=None, asynchronous=False).of(
        run, {}
    )._write(STATE, {}, best=True)
    monkeypatch.undo()
    assert [each for each in done if "half" not in each[0] and each != ("unlink", each[1])] == [
        ("fsync", ".step-00000003.ckpt.partial"),
        ("replace", "best.ckpt"),
        ("replace", "last.ckpt"),
        ("fsync", "checkpoints"),
        ("replace", "step-00000003.ckpt"),
        ("fsync", "checkpoints"),
        ("replace", ".checkpointed"),
    ]
    assert done.index(("unlink", "step-00000001.ckpt")) > done.index(("replace", "step-00000003.ckpt")) + 1


def test_what_stands_before_the_manifest_counts(written):
    """All of it, not only as much as the manifest's size declares."""
    content = written.read_bytes()
    end = content.rindex(b"\n{")
    written.write_bytes(content[:end] + bytes(100) + content[end:])
    with pytest.raises(CheckpointError, match=f"holds {end + 100} bytes, its manifest declares {end}"):
        verify(written)


def test_a_file_is_hashed_once_as_long_as_it_is_the_same(written, monkeypatch):
    monkeypatch.setattr(checkpoint_file, "SETTLED_NS", -(10**12))
    hashed, verify_it = [], checkpoint_file._compare
    monkeypatch.setattr(checkpoint_file, "_compare", lambda *given: (hashed.append(given), verify_it(*given)))
    for _ in range(3):
        verify(written)
    assert len(hashed) == 1
    content = bytearray(written.read_bytes())
    content[5000] ^= 1
    time.sleep(0.02)  # longer than a tick of the file system's clock
    written.write_bytes(content)
    with pytest.raises(CheckpointError, match="sha256 differs"):
        verify(written)


def test_a_file_that_has_just_been_written_is_hashed_each_time(written, monkeypatch):
    hashed = []
    monkeypatch.setattr(checkpoint_file, "_compare", lambda *given: hashed.append(given))
    verify(written)
    verify(written)
    assert len(hashed) == 2


def test_a_full_disk_changes_nothing(written, monkeypatch):
    before = written.read_bytes()

    class Full:
        def __init__(self, stream):
            self.stream, self.left = stream, 3000

        def write(self, data):
            self.left -= memoryview(data).nbytes
            if self.left < 0:
                raise OSError(28, "No space left on device")
            return self.stream.write(data)

        def __getattr__(self, name):
            return getattr(self.stream, name)

    original = checkpoint_file._Hashed.__init__
    monkeypatch.setattr(
        checkpoint_file._Hashed,
        "__init__",
        lambda self, stream, pool, lasting: original(self, Full(stream), pool, lasting),
    )
    with pytest.raises(CheckpointError, match=r"cannot write .*: No space left on device \(.* MiB are free\)"):
        write_checkpoint(written, STATE)
    assert written.read_bytes() == before
    assert os.listdir(written.parent) == [written.name]


def test_a_folder_that_is_gone_is_reported(tmp_path):
    with pytest.raises(CheckpointError, match="cannot write .*No such file"):
        write_checkpoint(tmp_path / "gone" / "a.ckpt", STATE)


def test_a_second_name_takes_the_place_of_what_had_it(written, monkeypatch):
    last = written.with_name("last.ckpt")
    last.write_text("old")
    link(written, last)
    assert last.samefile(written)
    monkeypatch.setattr(os, "link", lambda *_: (_ for _ in ()).throw(OSError(1, "not permitted")))
    link(written, last)
    assert not last.samefile(written)
    verify(last)


def test_saving_needs_no_second_copy(tmp_path):
    """For a state of 64 MiB, less than a tenth of it."""
    state = {"w": torch.zeros(64 << 18)}
    write_checkpoint(tmp_path / "small.ckpt", STATE)
    here, peak, over = _resident(), [0], threading.Event()

    def watch():
        while not over.is_set():
            peak[0] = max(peak[0], _resident())
            time.sleep(0.001)

    watching = threading.Thread(target=watch)
    watching.start()
    write_checkpoint(tmp_path / "a.ckpt", state)
    over.set()
    watching.join()
    assert peak[0] - here < 6.4 * 2**20


def _resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize()


def test_what_is_written_is_hashed_before_its_memory_is_free(tmp_path, monkeypatch):
    """The pickle lives only while it is written; a busy machine hashes it later than that."""

    class Late:
        def __init__(self):
            self._digest = hashlib.sha256()
            self.hexdigest = self._digest.hexdigest

        def update(self, data):
            time.sleep(0.02)
            self._digest.update(data)

    save = torch.save

    def save_and_go_on(content, file):
        save(content, file)
        save_and_go_on.memory = [b"y" * size for size in range(290_000, 310_000, 100)]

    monkeypatch.setattr(checkpoint_file, "hashlib", SimpleNamespace(sha256=Late))
    monkeypatch.setattr(torch, "save", save_and_go_on)
    write_checkpoint(tmp_path / "last.ckpt", {**STATE, "tokenizer": "x" * 300_000})
    monkeypatch.undo()
    verify(tmp_path / "last.ckpt")


@pytest.mark.parametrize("asynchronous", [False, True])
def test_a_save_needs_a_copy_only_where_training_goes_on_meanwhile(asynchronous, tmp_path, monkeypatch):
    """What is written is the state itself, or a copy that the next step does not change."""
    weights, given = torch.zeros(3), []
    monkeypatch.setattr(checkpoint_schedule, "capture", lambda module: {"state_dict": {"weights": weights}})
    monkeypatch.setattr(checkpoint_schedule, "write_checkpoint", lambda file, content, names: given.append(content))
    trainer = SimpleNamespace(is_global_zero=True, loggers=[])
    module = mock.Mock(spec=MultimodalModule, requests=set(), metrics={}, global_step=3, validated=0, trainer=trainer)
    run = RunDirectory(tmp_path / "run")
    run.create()
    saves = Checkpoints(
        every_steps=None, every_minutes=None, keep=1, monitor=None, mode=None, asynchronous=asynchronous
    ).of(run, {})
    saves._save(module)
    saves._look_after_writing(wait=True)
    assert (given[0]["state_dict"]["weights"].data_ptr() == weights.data_ptr()) is not asynchronous
