"""Images on disk, in one folder per class."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from mmtx.batch import Field, Sample, Spec
from mmtx.data.base import Samples, Source, Split
from mmtx.data.decode_image import decode_image
from mmtx.data.stratified import held_out
from mmtx.errors import InvalidValue, UserError, check_fraction, check_within, some

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".webp", ".gif", ".ppm")
MOST_PIXELS = 89_000_000
"""Pillow refuses pictures of twice as many by itself."""


class Picture(NamedTuple):
    """A file, and its class."""

    file: Path
    label: int


class ImageFolder(Source):
    """Names: ``image`` (channels x size x size), ``label`` (the folder it lies in).

    `path` holds the class folders, and samples are dealt out to training, validation and test by the fractions,
    stratified; or it holds ``train/``, and perhaps ``val/`` and ``test/``, with the class folders in them. Then only a
    missing ``val/`` is made up for, by `val_fraction` of the training part. Hidden files are ignored. Files are decoded
    when they are asked for.

    Args:
        path: the folder.
        size: side of the square in pixels: the shorter side is resized to it and the middle cut out.
        channels: 1 for grey or 3 for RGB.
        augment: applied to training pictures, uint8 ``(channels, size, size)``.
        val_fraction: held out to watch training; 0: nothing.
        test_fraction: held out for the test; 0: nothing.
        split_seed: which ones are held out.
        max_pixels: larger pictures are refused when they are read.
    """

    def __init__(
        self,
        *,
        path: str,
        size: int,
        channels: Literal[1, 3],
        augment: Callable[[Tensor], Tensor] | None,
        val_fraction: float,
        test_fraction: float,
        split_seed: int,
        max_pixels: int,
    ) -> None:
        if size < 1:
            raise InvalidValue("size", size, "must be at least 1 pixel")
        if channels not in (1, 3):
            raise InvalidValue("channels", channels, "must be 1 (grey) or 3 (RGB)")
        check_within("max_pixels", max_pixels, 1, MOST_PIXELS)
        check_fraction("val_fraction", val_fraction)
        check_fraction("test_fraction", test_fraction)
        if val_fraction + test_fraction >= 1:
            raise InvalidValue("val_fraction", val_fraction, f"leaves no training with test_fraction={test_fraction}")
        folder = Path(path).expanduser()
        if not folder.is_dir():
            raise InvalidValue("path", path, "is not a folder")
        self._augment, self._shape, self._max_pixels = augment, (channels, size, size), max_pixels
        self._train: list[Picture]
        self._val: list[Picture] = []
        self._test: list[Picture] = []
        if _is_split(folder):
            self._labels = _class_folders(folder / "train")
            self._train, self._val, self._test = (
                _images(folder / part, self._labels) if (folder / part).is_dir() else []
                for part in ("train", "val", "test")
            )
            total = len(self._train)
        else:
            self._labels = _class_folders(folder)
            self._train = _images(folder, self._labels)
            total = len(self._train)
            self._train, self._test = held_out(self._train, "test_fraction", test_fraction, total, split_seed)
        if not self._val:
            self._train, self._val = held_out(self._train, "val_fraction", val_fraction, total, split_seed)

    @property
    def specs(self) -> Mapping[str, Spec]:
        return {
            "image": Spec({"pixels": Field(self._shape, torch.uint8)}),
            "label": Spec({"class": Field((), torch.long, num_classes=len(self._labels))}, labels=self._labels),
        }

    def train(self) -> Split:
        return self._split(self._train, self._augment)

    def val(self) -> Split | None:
        return self._split(self._val, None) if self._val else None

    def test(self) -> Split | None:
        return self._split(self._test, None) if self._test else None

    def _split(self, images: list[Picture], augment: Callable[[Tensor], Tensor] | None) -> Split:
        return Samples(len(images), partial(self._sample, images, augment))

    def _sample(self, images: list[Picture], augment: Callable[[Tensor], Tensor] | None, i: int) -> Sample:
        file, label = images[i]
        pixels = decode_image(file, size=self._shape[1:], channels=self._shape[0], max_pixels=self._max_pixels)
        return {
            "image": {"pixels": augment(pixels) if augment else pixels},
            "label": {"class": torch.tensor(label)},
        }


def _is_split(folder: Path) -> bool:
    """Whether there are class folders within ``train/``, rather than pictures of the class train."""
    inside = _visible(folder / "train") if (folder / "train").is_dir() else []
    if not any(entry.is_dir() for entry in inside):
        return False
    others = [entry.name for entry in _visible(folder) if entry.is_dir() and entry.name not in ("train", "val", "test")]
    if others:
        raise UserError(f"{folder} holds {some(others)} beside train/; data.path takes train/, val/ and test/ only")
    return True


def _class_folders(folder: Path) -> tuple[str, ...]:
    labels = tuple(entry.name for entry in _visible(folder) if entry.is_dir())
    if not labels:
        raise InvalidValue("path", folder, "holds no class folders: pictures lie in one folder per class")
    return labels


def _images(folder: Path, labels: tuple[str, ...]) -> list[Picture]:
    """All images of a folder of class folders, in the order of their names."""
    images: list[Picture] = []
    strays = [entry.name for entry in _visible(folder) if _is_image(entry)]
    for place in (entry for entry in _visible(folder) if entry.is_dir()):
        if place.name not in labels:
            raise UserError(f"{place} is a class that training lacks; it has {some(labels)}")
        files = _visible(place)
        strays += [f"{place.name}/{file.name}" for file in files if not _is_image(file)]
        images += [Picture(file, labels.index(place.name)) for file in files if _is_image(file)]
    if strays:
        raise UserError(
            f"{folder} holds {some(strays)}, where only folders of images belong "
            f"({' '.join(SUFFIXES)}); take them out of data.path"
        )
    found = Counter(image.label for image in images)
    empty = [label for i, label in enumerate(labels) if not found[i] and (folder / label).is_dir()]
    if empty or not images:
        raise UserError(f"{folder} has no images of {some(empty or labels)}; take out or fill the folder (data.path)")
    return images


def _visible(folder: Path) -> list[Path]:
    return sorted(entry for entry in folder.iterdir() if not entry.name.startswith("."))


def _is_image(entry: Path) -> bool:
    return entry.suffix.lower() in SUFFIXES and entry.is_file()
