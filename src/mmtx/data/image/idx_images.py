"""Pictures of the MNIST family, in four IDX files."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy
import torch
from torch import Tensor

from mmtx.data.files.decompression import gunzip
from mmtx.data.files.public_file import PublicFile, check_md5
from mmtx.data.image.labelled_images import LabelledImages
from mmtx.errors import InvalidValue

FILES = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")
MOST_BYTES = 16 + 60_000 * 28 * 28
"""Size of the largest, unpacked."""


class IdxImages(LabelledImages):
    """A dataset of the MNIST family, in torchvision's layout of folders.

    ``path/<dataset>/raw`` holds the four files, packed (``.gz``) or not, which are verified by the checksums of their
    content. Nothing is written there.

    Args:
        path: the folder that holds ``<dataset>/raw``; None: the cache folder, to which the files are downloaded.
        The other keys are those of `LabelledImages`.

    Attributes:
        dataset: name of its folder.
        mirrors: addresses of folders with the packed files.
        md5s: of the unpacked `FILES`.
        class_names: in the order of the codes.
    """

    dataset: str
    mirrors: tuple[str, ...]
    md5s: tuple[str, str, str, str]
    class_names: tuple[str, ...]

    def __init__(
        self, *, path: str | None, augment: Callable[[Tensor], Tensor] | None, num_val: int, split_seed: int
    ) -> None:
        folder = None if path is None else Path(path).expanduser()
        train_pixels, train_classes, test_pixels, test_classes = (
            _read(folder, self.dataset, name, self.mirrors, md5) for name, md5 in zip(FILES, self.md5s, strict=True)
        )
        super().__init__(
            train=(train_pixels[:, None], train_classes.long()),
            test=(test_pixels[:, None], test_classes.long()),
            class_names=self.class_names,
            augment=augment,
            num_val=num_val,
            split_seed=split_seed,
        )


def _read(folder: Path | None, dataset: str, name: str, mirrors: tuple[str, ...], md5: str) -> Tensor:
    addresses = [f"{mirror}{name}.gz" for mirror in mirrors]
    packed = PublicFile(f"{dataset}/raw/{name}.gz", addresses, partial(_unpack, md5=md5))
    plain = PublicFile(f"{dataset}/raw/{name}", addresses, partial(_array, md5=md5))
    if folder is None:
        return packed.fetch()
    for file in (plain, packed):
        if (folder / file.name).is_file():
            return file.read_from(folder)
    problem = f"holds neither {plain.name} nor {packed.name}" if folder.is_dir() else "is not a folder"
    above = [up for up in (folder.parent, folder.parent.parent) if (up / dataset / "raw").is_dir()]
    raise InvalidValue("path", folder, problem, str(above[0]) if above else None)


def _unpack(packed: bytes, md5: str) -> Tensor:
    return _array(gunzip(packed, MOST_BYTES), md5)


def _array(content: bytes, md5: str) -> Tensor:
    """An IDX file of bytes: two zeros, 8 for bytes, the number of axes; their sizes, big-endian; the values."""
    num_axes = check_md5(content, md5)[3]
    sizes = [int.from_bytes(content[4 * axis : 4 * axis + 4], "big") for axis in range(1, num_axes + 1)]
    values = numpy.frombuffer(content, dtype=numpy.uint8, offset=4 + 4 * num_axes)
    return torch.from_numpy(values.reshape(sizes).copy())
