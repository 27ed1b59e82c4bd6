"""CIFAR-10: 60,000 photographs of 32 x 32 pixels (Krizhevsky 2009)."""

from __future__ import annotations

import io
import pickle
import tarfile
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy
import torch
from torch import Tensor

from mmtx.data.labelled_images import LabelledImages, Pictures
from mmtx.data.public_file import PublicFile
from mmtx.errors import InvalidValue

LABELS = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


class CIFAR10(LabelledImages):
    """Names: ``image`` (3 x 32 x 32), ``label`` (what it shows). 50,000 to train on and 10,000 for the test.

    In `path` lie the published archive ``cifar-10-python.tar.gz``, or its folder ``cifar-10-batches-py`` unpacked;
    either is verified by its checksums. Nothing is written there.

    Args:
        path: the folder; None: downloads the archive to the cache folder.
        augment: applied to training pictures, uint8 ``(3, 32, 32)``.
        num_val: pictures of the training part that are held out to watch training.
        split_seed: which ones.
    """

    def __init__(
        self, *, path: str | None, augment: Callable[[Tensor], Tensor] | None, num_val: int, split_seed: int
    ) -> None:
        from torchvision.datasets import CIFAR10 as published

        batches = [
            PublicFile(f"{published.base_folder}/{name}", [published.url], md5)
            for name, md5 in [*published.train_list, *published.test_list]
        ]
        archive = PublicFile(published.filename, [published.url], published.tgz_md5)
        contents = _contents(None if path is None else Path(path).expanduser(), archive, batches)
        super().__init__(
            train=_pictures(contents[:-1]),
            test=_pictures(contents[-1:]),
            labels=LABELS,
            augment=augment,
            num_val=num_val,
            split_seed=split_seed,
        )


def _contents(folder: Path | None, archive: PublicFile, batches: list[PublicFile]) -> list[bytes]:
    if folder is None:
        return _members(archive.fetch(), batches)
    if (folder / archive.name).is_file():
        return _members(archive.read(folder), batches)
    if (folder / batches[0].name).is_file():
        return [batch.read(folder) for batch in batches]
    problem = f"holds neither {archive.name} nor {batches[0].name}" if folder.is_dir() else "is not a folder"
    inside = folder.name == Path(batches[0].name).parent.name
    raise InvalidValue("path", folder, problem, str(folder.parent) if inside else None)


def _members(archive: bytes, batches: list[PublicFile]) -> list[bytes]:
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        members = {member.name: member for member in tar if member.isfile()}
        return [tar.extractfile(members[batch.name]).read() for batch in batches]  # type: ignore[union-attr]


def _pictures(contents: list[bytes]) -> Pictures:
    """Batches of 10,000; they are pickles, which are safe to load as their checksums are known."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # they were written by a NumPy whose dtypes pickled in another way
        batches = [pickle.loads(content, encoding="latin1") for content in contents]
    pixels = numpy.concatenate([batch["data"] for batch in batches]).reshape(-1, 3, 32, 32)
    return torch.from_numpy(pixels), torch.tensor([label for batch in batches for label in batch["labels"]])
