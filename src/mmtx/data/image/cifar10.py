"""CIFAR-10: 60,000 photographs of 32 x 32 pixels (Krizhevsky 2009)."""

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

from mmtx.data.files.public_file import PublicFile, check_md5
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
CLASS_NAMES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


class CIFAR10(LabelledImages):
    """Names: ``image`` (3 x 32 x 32), ``label`` (what it shows). 50,000 to train on and 10,000 for the test.

    `path` holds the published archive ``cifar-10-python.tar.gz``, or its unpacked folder ``cifar-10-batches-py``, which
    is verified by checksums. Nothing is written there.

    Args:
        path: the folder; None: downloads the archive to the cache folder.
        The other keys are those of `LabelledImages`.
    """

    hub_id = "uoft-cs/cifar10"

    def __init__(
        self, *, path: str | None, augment: Callable[[Tensor], Tensor] | None, num_val: int, split_seed: int
    ) -> None:
        md5s = {**TRAIN_MD5S, **TEST_MD5S}
        batches = _read(None if path is None else Path(path).expanduser(), md5s)
        super().__init__(
            train=_join(batches[: len(TRAIN_MD5S)]),
            test=_join(batches[len(TRAIN_MD5S) :]),
            class_names=CLASS_NAMES,
            augment=augment,
            num_val=num_val,
            split_seed=split_seed,
        )


def _read(folder: Path | None, md5s: dict[str, str]) -> list[Pictures]:
    archive = PublicFile(ARCHIVE, [ADDRESS], partial(_unpack, md5s=md5s))
    if folder is None:
        return archive.fetch()
    if (folder / FOLDER).is_dir():
        files = [PublicFile(f"{FOLDER}/{name}", [ADDRESS], partial(_batch, md5=md5)) for name, md5 in md5s.items()]
        return [file.read_from(folder) for file in files]
    if (folder / ARCHIVE).is_file():
        return archive.read_from(folder)
    problem = f"holds neither {FOLDER} nor {ARCHIVE}" if folder.is_dir() else "is not a folder"
    raise InvalidValue("path", folder, problem, str(folder.parent) if folder.name in (FOLDER, ARCHIVE) else None)


def _unpack(archive: bytes, md5s: dict[str, str]) -> list[Pictures]:
    files = {}
    try:
        # the checksum is verified before anything is unpacked
        with tarfile.open(fileobj=io.BytesIO(check_md5(archive, ARCHIVE_MD5)), mode="r:gz") as tar:
            for member in tar:
                stream = tar.extractfile(member)
                if stream is not None:
                    files[Path(member.name).name] = stream.read()
    except (tarfile.TarError, OSError, EOFError, zlib.error) as error:
        raise ValueError(f"cannot be unpacked: {error}") from None
    return [_batch(files.get(name, b""), md5) for name, md5 in md5s.items()]


def _batch(content: bytes, md5: str) -> Pictures:
    """10,000 pictures: a pickle, which is safe to load after its checksum is verified."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # an old NumPy wrote it, whose dtypes pickle differently
        batch = pickle.loads(check_md5(content, md5), encoding="latin1")
    return torch.from_numpy(batch["data"]).reshape(-1, 3, 32, 32), torch.tensor(batch["labels"])


def _join(batches: list[Pictures]) -> Pictures:
    return torch.cat([pixels for pixels, _ in batches]), torch.cat([classes for _, classes in batches])
