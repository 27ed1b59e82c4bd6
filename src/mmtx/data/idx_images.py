"""Pictures in the four IDX files that MNIST and its kin come as."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path

import numpy
import torch
from torch import Tensor

from mmtx.data.labelled_images import LabelledImages, Pictures
from mmtx.data.public_file import PublicFile
from mmtx.errors import InvalidValue, UserError


class IdxImages(LabelledImages):
    """One of torchvision's datasets of the MNIST family, read from torchvision's layout of folders.

    In ``path/<dataset>/raw`` lie the files as they are published, ending in ``.gz`` and verified by their checksums,
    or unpacked. Nothing is written there.

    Args:
        dataset: torchvision's name of it.
        path: the folder; None: the cache folder, to which the files are downloaded.
        labels: names of the classes.
        augment: applied to training pictures, uint8 ``(1, H, W)``.
        num_val: pictures of the training part that are held out.
        split_seed: which ones.
    """

    def __init__(
        self,
        *,
        dataset: str,
        path: str | None,
        labels: tuple[str, ...],
        augment: Callable[[Tensor], Tensor] | None,
        num_val: int,
        split_seed: int,
    ) -> None:
        folder = Path(path).expanduser() if path is not None else None
        contents = [_unpacked(file, folder, dataset) for file in _files(dataset)]
        super().__init__(
            train=_pictures(contents[0], contents[1], labels),
            test=_pictures(contents[2], contents[3], labels),
            labels=labels,
            augment=augment,
            num_val=num_val,
            split_seed=split_seed,
        )


def _files(dataset: str) -> list[PublicFile]:
    """Pictures and classes of the training part, pictures and classes of the test."""
    from torchvision import datasets

    published = getattr(datasets, dataset)
    return [
        PublicFile(f"{dataset}/raw/{name}", [mirror + name for mirror in published.mirrors], md5)
        for name, md5 in published.resources
    ]


def _unpacked(file: PublicFile, folder: Path | None, dataset: str) -> tuple[str, bytes]:
    """What a file holds, and how to call it in an error."""
    if folder is None:
        return file.name, gzip.decompress(file.fetch())
    if (folder / file.name).is_file():  # first, as its checksum is known
        return str(folder / file.name), gzip.decompress(file.read(folder))
    plain = (folder / file.name).with_suffix("")
    if plain.is_file():
        return str(plain), plain.read_bytes()
    inside = [up for up in (folder.parent, folder.parent.parent) if (up / dataset / "raw").is_dir()]
    problem = f"holds no {file.name} (nor the same without .gz)" if folder.is_dir() else "is not a folder"
    raise InvalidValue("path", folder, problem, str(inside[0]) if inside else None)


def _pictures(pixels: tuple[str, bytes], classes: tuple[str, bytes], labels: tuple[str, ...]) -> Pictures:
    read = _array(*pixels, num_axes=3)[:, None], _array(*classes, num_axes=1).long()
    if len(read[0]) != len(read[1]):
        raise UserError(f"{pixels[0]} holds {len(read[0])} pictures and {classes[0]} holds {len(read[1])} classes")
    if len(read[1]) and int(read[1].max()) >= len(labels):
        raise UserError(f"{classes[0]} is damaged: class {int(read[1].max())} is not in 0..{len(labels) - 1}")
    return read


def _array(name: str, content: bytes, num_axes: int) -> Tensor:
    """An IDX file of bytes: two zeros, 8 for unsigned bytes, the number of axes; their sizes, big-endian; the values."""
    start = 4 + 4 * num_axes
    if len(content) < start or content[:4] != bytes([0, 0, 8, num_axes]):
        raise UserError(f"{name} is damaged: it does not begin like an IDX file of bytes with {num_axes} axes")
    shape = [int.from_bytes(content[4 * axis : 4 * axis + 4], "big") for axis in range(1, num_axes + 1)]
    values = numpy.frombuffer(content, dtype=numpy.uint8, offset=start)
    if len(values) != numpy.prod(shape, dtype=numpy.int64):
        raise UserError(f"{name} is damaged: it holds {len(values)} values, its head says {shape}")
    return torch.from_numpy(values.reshape(shape).copy())
