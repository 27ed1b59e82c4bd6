"""Images on disk, in one folder per class."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from mmtx.batch import Field, Sample, Spec
from mmtx.data.base import Samples, Source, Split
from mmtx.data.files.folder import look_into, report_left_out
from mmtx.data.files.same_content import first_of_splits
from mmtx.data.image.decode_image import FILL, FORMATS, Fit, decode_image, image_format
from mmtx.data.stratified import held_out
from mmtx.errors import InvalidValue, UserError, check_fraction, check_within, some
from mmtx.process.stopping import track

SUFFIXES = (".png", ".jpg", ".jpeg", ".mpo", ".bmp", ".webp", ".gif", ".ppm")
OTHER_SUFFIXES = (
    *(".tif", ".tiff", ".heic", ".heif", ".avif", ".jp2", ".jxl", ".svg", ".tga", ".psd", ".ico", ".exr", ".hdr"),
    *(".dng", ".cr2", ".cr3", ".nef", ".arw", ".orf", ".raf", ".rw2", ".pfm", ".pam", ".pcx", ".dds", ".qoi", ".j2k"),
)
"""Files that are taken for pictures by their names alone: those that can be read, and those that cannot."""
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
    missing ``val/`` is made up for, by `val_fraction` of the training part. Files that hold the same are never dealt
    out to two splits, and must not lie in two of these folders. Hidden files are ignored; what is no picture is left
    out, and a line on stderr names it. Files are decoded when they are asked for.

    Args:
        path: the folder.
        size: side of the square in pixels.
        fit: how a picture comes to it.
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
        fit: Fit = FILL,  # runs of before have none
    ) -> None:
        if size < 1:
            raise InvalidValue("size", size, "must be at least 1 pixel")
        if fit.side is not None and fit.side < size:
            raise InvalidValue("fit.side", fit.side, f"leaves less than size={size}", str(size))
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
        self._augment, self._shape, self._max_pixels, self._fit = augment, (channels, size, size), max_pixels, fit
        is_split = _is_split(folder)
        if is_split:
            self._labels = self.learnt.classes("label", _class_folders(folder / "train"))
            parts = [
                _images(folder / part, self._labels) if (folder / part).is_dir() else []
                for part in ("train", "val", "test")
            ]
        else:
            self._labels = self.learnt.classes("label", _class_folders(folder))
            parts = [_images(folder, self._labels), [], []]
        first = first_of_splits([[picture.file for picture in part] for part in parts], str(folder))
        self._train, self._val, self._test = parts
        total = len({first[picture.file] for picture in self._train})
        if not is_split:
            self._train, self._test = held_out(self._train, first, "test_fraction", test_fraction, total, split_seed)
        if not self._val:
            self._train, self._val = held_out(self._train, first, "val_fraction", val_fraction, total, split_seed)

    @property
    def specs(self) -> Mapping[str, Spec]:
        return {
            "image": Spec({"pixels": Field(self._shape, torch.uint8)}),
            "label": Spec({"class": Field((), torch.long, num_classes=len(self._labels))}, class_names=self._labels),
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
        channels, *size = self._shape
        pixels = decode_image(
            file, size=(size[0], size[1]), channels=channels, max_pixels=self._max_pixels, fit=self._fit
        )
        return {
            "image": {"pixels": augment(pixels) if augment else pixels},
            "label": {"class": torch.tensor(label)},
        }


def _is_split(folder: Path) -> bool:
    """Whether there are class folders within ``train/``, rather than pictures of the class train."""
    places = look_into(folder).folders
    if not any(place.name == "train" and look_into(place).folders for place in places):
        return False
    others = [place.name for place in places if place.name not in ("train", "val", "test")]
    if others:
        raise UserError(f"{folder} holds {some(others)} beside train/; data.path takes train/, val/ and test/ only")
    return True


def _class_folders(folder: Path) -> tuple[str, ...]:
    labels = [_class_of(place) for place in look_into(folder).folders]
    if not labels:
        raise InvalidValue("path", folder, "holds no class folders: pictures lie in one folder per class")
    for label in labels:
        if any("\ud800" <= letter <= "\udfff" for letter in label):  # bytes that are no letters
            raise UserError(f"{folder} holds a class folder {label!r}, whose name is not UTF-8; rename it")
    twice = sorted({label for label in labels if labels.count(label) > 1})
    if twice:
        raise UserError(f"{folder} holds {some(twice)} twice, in two of Unicode's spellings; put them together")
    return tuple(sorted(labels))


def _class_of(place: Path) -> str:
    """In Unicode's normal form C; file systems of Macs spell a folder in another."""
    return unicodedata.normalize("NFC", place.name)


def _images(folder: Path, labels: tuple[str, ...]) -> list[Picture]:
    """All images of a folder of class folders, in the order of their names."""
    top = look_into(folder)
    images: list[Picture] = []
    strays = [*filter(_is_image, top.files), *top.others]
    left_out = [file for file in top.files if file not in strays]
    for place in track(top.folders, f"looking into {folder.name}, class"):
        if _class_of(place) not in labels:
            raise UserError(f"{place} is a class that training lacks; it has {some(labels)}")
        inside, label = look_into(place), labels.index(_class_of(place))
        strays += [*inside.folders, *inside.others]
        for file in inside.files:
            if _is_image(file):
                images.append(Picture(file, label))
            elif file.suffix.lower() in OTHER_SUFFIXES or image_format(file):
                strays.append(file)
            else:
                left_out.append(file)
    if strays:
        parts = (
            ", or, if its folders are splits, call them train, val and test" if any(map(Path.is_dir, strays)) else ""
        )
        raise UserError(
            f"{folder} holds {some(str(stray.relative_to(folder)) for stray in strays)}, where only folders of images "
            f"belong ({' '.join(SUFFIXES)}); take them out of data.path{parts}"
        )
    report_left_out(folder, left_out, "picture")
    found = Counter(image.label for image in images)
    empty = [label for i, label in enumerate(labels) if not found[i] and label in map(_class_of, top.folders)]
    if empty or not images:
        raise UserError(f"{folder} has no images of {some(empty or labels)}; take out or fill the folder (data.path)")
    return images


def _is_image(file: Path) -> bool:
    """By its name, or by what it holds."""
    return file.suffix.lower() in SUFFIXES or image_format(file) in FORMATS
