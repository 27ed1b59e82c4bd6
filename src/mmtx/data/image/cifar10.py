"""CIFAR-10: 60,000 photographs of 32 x 32 pixels (Krizhevsky 2009)."""

from __future__ import annotations

import io
import pickle
import tarfile
import warnings
import zlib
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from mmtx.data.files.public_file import PublicFile
from mmtx.data.files.verified import verified
from mmtx.data.image.labelled_images import LabelledImages, Pictures
from mmtx.errors import InvalidValue

ADDRESS = "https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz"
ARCHIVE, FOLDER = "cifar-10-python.tar.gz", "cifar-10-batches-py"
ARCHIVE_MD5 = "c58f30108f718f92721af3b95e74349a"
TRAIN_MD5S = {
    "data_batch_1": "c99cafc152244af753f735de768cd75f",
    "data_batch_2": "d4bba439e000b95fd0a9bffe97cbabec",
    "data_batch_3": "54ebc095f3ab1f0389bbae665268c751",
    "data_batch_4": "634d18415352ddfa80567beed471001a",
    "data_batch_5": "482c414d41f54cd18b22e5b47cb7c3cb",
}
TEST_MD5S = {"test_batch": "40351d587109b95175f43aff81a1287e"}
LABELS = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


class CIFAR10(LabelledImages):
    """Names: ``image`` (3 x 32 x 32), ``label`` (what it shows). 50,000 to train on and 10,000 for the test.

    In `path` lies the published archive ``cifar-10-python.tar.gz``, or its folder ``cifar-10-batches-py`` unpacked, and
    is verified by checksums. Nothing is written there.

    Args:
        path: the folder; None: downloads the archive to the cache folder.
        augment: applied to training pictures, uint8 ``(3, 32, 32)``.
        num_val: pictures of the training part that are held out to watch training.
        split_seed: which ones.
    """

    def __init__(
        self, *, path: str | None, augment: Callable[[Tensor], Tensor] | None, num_val: int, split_seed: int
    ) -> None:
        md5s = {**TRAIN_MD5S, **TEST_MD5S}
        batches = _read(None if path is None else Path(path).expanduser(), md5s)
        super().__init__(
            train=_join(batches[: len(TRAIN_MD5S)]),
            test=_join(batches[len(TRAIN_MD5S) :]),
            labels=LABELS,
            augment=augment,
            num_val=num_val,
            split_seed=split_seed,
        )


def _read(folder: Path | None, md5s: dict[str, str]) -> list[Pictures]:
    archive = PublicFile(ARCHIVE, [ADDRESS], partial(_unpack, md5s=md5s))
    if folder is None:
        return archive.fetched()
    if (folder / FOLDER).is_dir():
        files = [PublicFile(f"{FOLDER}/{name}", [ADDRESS], partial(_batch, md5=md5)) for name, md5 in md5s.items()]
        return [file.of(folder) for file in files]
    if (folder / ARCHIVE).is_file():
        return archive.of(folder)
    problem = f"holds neither {FOLDER} nor {ARCHIVE}" if folder.is_dir() else "is not a folder"
    raise InvalidValue("path", folder, problem, str(folder.parent) if folder.name in (FOLDER, ARCHIVE) else None)


def _unpack(archive: bytes, md5s: dict[str, str]) -> list[Pictures]:
    files = {}
    try:
        # nothing is unpacked before it is known what it is
        with tarfile.open(fileobj=io.BytesIO(verified(archive, ARCHIVE_MD5)), mode="r:gz") as tar:
            for member in tar:
                stream = tar.extractfile(member)
                if stream is not None:
                    files[Path(member.name).name] = stream.read()
    except (tarfile.TarError, OSError, EOFError, zlib.error) as error:
        raise ValueError(f"cannot be unpacked: {error}") from None
    return [_batch(files.get(name, b""), md5) for name, md5 in md5s.items()]


def _batch(content: bytes, md5: str) -> Pictures:
    """10,000 pictures: a pickle, which is safe to load as it is known by its checksum."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it was written by a NumPy whose dtypes pickled in another way
        batch = pickle.loads(verified(content, md5), encoding="latin1")
    return torch.from_numpy(batch["data"]).reshape(-1, 3, 32, 32), torch.tensor(batch["labels"])


def _join(batches: list[Pictures]) -> Pictures:
    return torch.cat([pixels for pixels, _ in batches]), torch.cat([classes for _, classes in batches])
