"""Files that are damaged, hostile or no files end in one error for the user, or are left out and counted."""

import gzip
import io
import zipfile
from contextlib import contextmanager
from pathlib import Path

import h5py
import numpy
import pytest
import soundfile
import torch
import yaml
from PIL import Image
from random_damage import damaged
from small_data import md5

from mmtx.batch import Field, Spec
from mmtx.data.audio.sound_file import read_sound
from mmtx.data.base import Samples, Source
from mmtx.data.episodes.trajectory_files import read_trajectories
from mmtx.data.files.decompression import FREE_BYTES, gunzip
from mmtx.data.image import idx_images
from mmtx.data.image.decode_image import decode_image
from mmtx.data.loaders import DataModule
from mmtx.data.skipped_samples import SKIPPED, check_skipped, count_skipped
from mmtx.errors import UserError

MOST_GROWTH = 96 << 20


class Partly(Source):
    """Forty numbers, of which some cannot be read and one does not fit."""

    specs = {"number": Spec({"value": Field((), torch.float32)})}

    def train(self):
        return Samples(40, self.sample)

    def val(self):
        return self.train()

    def test(self):
        return None

    def sample(self, i):
        if i % 8 == 3:
            raise UserError(f"file{i}.png is damaged")
        value = torch.zeros(2) if i == 6 else torch.tensor(float(i))
        return {"number": {"value": value}}


BAD = {3, 6, 11, 19, 27, 35}


def module(num_workers=0, on_bad_sample="skip", source=None):
    loader = {"batch_size": 5, "eval_batch_size": 7, "num_workers": num_workers, "packing": False}
    policy = {"on_bad_sample": on_bad_sample, "max_bad_share": 0.5}
    return DataModule(source=source or Partly(), names=["number"], seed=0, **loader, **policy)


def rows(num_workers, num_ranks=1):
    """Numbers and samples of two epochs, step by step, of all ranks."""
    found = []
    for rank in range(num_ranks):
        ranks = {"rank": rank, "num_ranks": num_ranks}
        loader = module(num_workers).train_loader(num_steps=8, accumulate=2 // num_ranks, **ranks)
        found.append(list(loader))
    steps = [[batch for of_rank in step for batch in of_rank] for step in zip(*found, strict=True)]
    return [[(b["number"]["value"].tolist(), b.ids.tolist(), b.lengths["number"].tolist()) for b in s] for s in steps]


def test_bad_samples_leave_empty_rows_whoever_reads_them():
    alone = rows(num_workers=0)
    assert alone == rows(num_workers=2) == rows(num_workers=0, num_ranks=2)
    ids = [i for step in alone for _, ids, _ in step for i in ids]
    assert ids.count(SKIPPED) == 2 * len(BAD) and not BAD & set(ids)
    for values, ids, lengths in (batch for step in alone for batch in step):
        assert [(value, length) for value, length in zip(values, lengths, strict=True)] == [
            (0.0, 0) if i == SKIPPED else (float(i), 1) for i in ids
        ]


def test_left_out_samples_are_counted_and_fillers_are_not():
    batches = [batch for step in module().eval_loaders("val", rank=0, num_ranks=1)[""] for batch in step]
    assert count_skipped(batches).tolist() == [len(BAD), 40]
    check_skipped(4, 40, 0.1)
    with pytest.raises(UserError, match=r"5 of 40 samples .* more than loader.max_bad_share=0.1"):
        check_skipped(5, 40, 0.1)


@pytest.mark.parametrize("num_workers", [0, 1])
def test_a_bad_sample_ends_the_run_with_its_index_and_file(num_workers):
    loader = module(num_workers, "raise").train_loader(num_steps=8, accumulate=1, rank=0, num_ranks=1)
    with pytest.raises(UserError, match=r"^sample (\d+: file\d+.png is damaged|6, number.value has shape)"):
        list(loader)


def test_an_error_in_code_names_its_sample_and_is_never_left_out():
    class Broken(Partly):
        def sample(self, i):
            raise KeyError("no such thing")

    with pytest.raises(KeyError) as caught:
        list(module(source=Broken()).train_loader(num_steps=1, accumulate=1, rank=0, num_ranks=1))
    assert caught.value.__notes__[0].startswith("when sample ")


# --- bombs ------------------------------------------------------------------------------------------------------------


def memory(name):
    with open("/proc/self/status") as lines:
        return next(int(line.split()[1]) for line in lines if line.startswith(name)) << 10


@contextmanager
def little_memory():
    """Within, this process never takes much more than before."""
    Path("/proc/self/clear_refs").write_text("5")  # forgets the peak of before
    before = memory("VmRSS")
    yield
    assert memory("VmHWM") - before < MOST_GROWTH


def test_gunzip_is_gzips():
    content = numpy.random.default_rng(0).bytes(300_000) + b"word " * 50_000
    two = gzip.compress(content[:1000]) + gzip.compress(content[1000:]) + bytes(20)
    for packed in (gzip.compress(content), two):
        assert gunzip(packed, len(content)) == content == gzip.decompress(packed)
    assert gunzip(gzip.compress(b""), 0) == b""
    for bad in (b"", b"text", two[:700], gzip.compress(content)[:-9], two[:-20] + b"rest"):
        with pytest.raises(ValueError, match="^cannot be unpacked"):
            gunzip(bad, len(content))


def gzip_bomb(megabytes):
    stream = io.BytesIO()
    with gzip.GzipFile(fileobj=stream, mode="wb", compresslevel=1) as packed:
        for _ in range(megabytes):
            packed.write(bytes(1 << 20))
    return stream.getvalue()


def test_a_gzip_bomb_is_seen_before_it_grows():
    bomb = gzip_bomb(150)
    with little_memory():
        with pytest.raises(ValueError, match=f"more than {1 << 20} bytes"):
            gunzip(bomb, 1 << 20)
        with pytest.raises(ValueError, match=f"more than {idx_images.MOST_BYTES} bytes"):
            idx_images._unpack(bomb, md5(b""))
        with pytest.raises(ValueError, match="more than 100 bytes"):
            gunzip(gzip.compress(bytes(101)), 100)
        assert len(gunzip(gzip.compress(bomb), len(bomb))) == len(bomb), "one in another is only unpacked once"


def test_bombs_of_arrays_are_refused(tmp_path):
    rows = FREE_BYTES * 6
    lie = io.BytesIO()
    numpy.lib.format.write_array_header_1_0(lie, {"descr": "<f8", "fortran_order": False, "shape": (10**12,)})
    names = ("observations", "actions", "rewards", "terminations")
    with zipfile.ZipFile(tmp_path / "lie.npz", "w") as archive:
        for name in names:
            archive.writestr(f"{name}.npy", lie.getvalue())
    with zipfile.ZipFile(tmp_path / "zeros.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        with archive.open("observations.npy", "w") as member:
            numpy.lib.format.write_array_header_1_0(member, {"descr": "|u1", "fortran_order": False, "shape": (rows,)})
            for _ in range(rows >> 20):
                member.write(bytes(1 << 20))
        for name in names[1:]:
            archive.writestr(f"{name}.npy", b"")
    with h5py.File(tmp_path / "zeros.h5", "w") as opened:
        for name in names:
            opened.create_dataset(name, (rows * 100,), "f4", chunks=(1 << 16,), compression="gzip")
    for name in ("lie.npz", "zeros.npz", "zeros.h5"):
        with little_memory(), pytest.raises(UserError, match=name):
            read_trajectories(tmp_path / name)


def test_a_picture_bomb_is_refused_by_its_header(tmp_path):
    Image.new("1", (13_000, 13_000)).save(tmp_path / "bomb.png")
    (tmp_path / "claim.gif").write_bytes(b"GIF89a" + b"\xff\xff\xff\xff\x80\x00\x00" + bytes(6) + b";")
    for name in ("bomb.png", "claim.gif"):
        with little_memory(), pytest.raises(UserError, match=name):
            decode_image(tmp_path / name, size=(8, 8), channels=3, max_pixels=10**6)


# --- damage at random -------------------------------------------------------------------------------------------------


def seeds(few, many):
    """A few of them always, and many where there is time."""
    return [pytest.param(range(few), id="few"), pytest.param(range(few, many), id="many", marks=pytest.mark.slow)]


def only_user_errors(read, content, seeds, file):
    ended = {True: 0, False: 0}
    for seed in seeds:
        file.write_bytes(damaged(content, seed, times=1 + seed % 4))
        try:
            read(file)
            ended[True] += 1
        except UserError as error:
            assert file.name in str(error)
            ended[False] += 1
    assert ended[False], "damage that nobody notices is none"


@pytest.mark.parametrize("numbers", seeds(20, 120))
@pytest.mark.parametrize("kind", ["png", "jpeg", "gif", "bmp", "webp", "ppm"])
def test_damaged_pictures(kind, numbers, tmp_path):
    stream = io.BytesIO()
    noise = numpy.random.default_rng(0).integers(0, 256, (24, 24, 3)).astype(numpy.uint8)
    Image.fromarray(noise).save(stream, kind)

    def read(file):
        assert decode_image(file, size=(8, 8), channels=3, max_pixels=10**6).shape == (3, 8, 8)

    only_user_errors(read, stream.getvalue(), numbers, tmp_path / f"picture.{kind}")


@pytest.mark.parametrize("numbers", seeds(20, 200))
@pytest.mark.parametrize("kind", ["wav", "flac", "ogg", "mp3"])
def test_damaged_sounds(kind, numbers, tmp_path):
    file = tmp_path / f"sound.{kind}"
    soundfile.write(file, numpy.random.default_rng(0).normal(0, 0.1, 4000), 16_000)

    def read(file):
        sound = read_sound(file, sample_rate_hz=16_000, resample=True, max_seconds=2.0)
        assert sound.isfinite().all() and 0 < len(sound) <= 32_000

    only_user_errors(read, file.read_bytes(), numbers, file)


@pytest.mark.parametrize("numbers", seeds(20, 200))
@pytest.mark.parametrize("kind", ["npz", "h5"])
def test_damaged_trajectories(kind, numbers, tmp_path):
    file, random = tmp_path / f"steps.{kind}", numpy.random.default_rng(0)
    arrays = {"observations": random.normal(size=(30, 2)), "actions": random.integers(0, 2, 30)}
    arrays |= {"rewards": random.normal(size=30), "terminations": numpy.arange(30) % 10 == 9}
    if kind == "npz":
        numpy.savez_compressed(file, **arrays)
    else:
        with h5py.File(file, "w") as opened:
            for name, array in arrays.items():
                opened.create_dataset(name, data=array, fletcher32=True, chunks=True)
    only_user_errors(read_trajectories, file.read_bytes(), numbers, file)


def test_a_yaml_file_of_a_stranger(tmp_path):
    from mmtx.config.plain_yaml import read_yaml

    texts = {
        "code": "backbone: !!python/object/apply:os.system ['touch marker']",
        "twice": "a: {b: 1, b: 2}",
        "deep": "[" * 1500,
        "large": "a: " + "x" * (2 << 20),
        "binary": "a: \x00",
    }
    for name, text in texts.items():
        (tmp_path / name).write_text(text)
        with pytest.raises(UserError, match=str(tmp_path / name)):
            read_yaml(tmp_path / name)
    content = {"a": [1, 2.5, None, {"b": "ü"}], "c": {}}
    (tmp_path / "good").write_text(yaml.safe_dump(content))
    assert read_yaml(tmp_path / "good") == content
    (tmp_path / "empty").write_text("")
    assert read_yaml(tmp_path / "empty") is None
