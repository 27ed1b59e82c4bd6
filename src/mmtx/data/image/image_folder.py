"""Image files, in one folder for each class."""

import unicodedata
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from mmtx.batch import Field, Sample, Spec
from mmtx.data.base import ItemSource
from mmtx.data.files.duplicates import first_copies_of_splits
from mmtx.data.files.folder import list_folder, report_skipped
from mmtx.data.image.decode_image import FILL, FORMATS, Fit, decode_image, image_format
from mmtx.data.specs import class_spec
from mmtx.data.stratified_split import hold_out_files
from mmtx.errors import InvalidValue, UserError, check_fraction, check_within, some
from mmtx.process.stopping import track

SUFFIXES = (".png", ".jpg", ".jpeg", ".mpo", ".bmp", ".webp", ".gif", ".ppm")
OTHER_SUFFIXES = (
    *(".tif", ".tiff", ".heic", ".heif", ".avif", ".jp2", ".jxl", ".svg", ".tga", ".psd", ".ico", ".exr", ".hdr"),
    *(".dng", ".cr2", ".cr3", ".nef", ".arw", ".orf", ".raf", ".rw2", ".pfm", ".pam", ".pcx", ".dds", ".qoi", ".j2k"),
)
"""Suffixes of pictures that can be read, and of those that cannot."""
MOST_PIXELS = 89_000_000
"""Pillow itself refuses pictures of twice as many."""


class Picture(NamedTuple):
    """An image file and its class."""

    file: Path
    label: int


class ImageFolder(ItemSource):
    """Names: ``image`` (channels x size x size), ``label`` (the folder it lies in).

    `path` holds the class folders, which are split into training, validation and test by the fractions, stratified; or
    it holds ``train/``, and perhaps ``val/`` and ``test/``, with the class folders in them. Then only a missing
    ``val/`` is replaced, by `val_fraction` of the training part. Files with the same content are never in two splits,
    and must not be in two of these folders. Hidden files are ignored; other files than pictures are skipped, and a line
    on stderr names them. Files are decoded when their sample is read.

    Args:
        path: the folder.
        size: side of the square in pixels.
        fit: how a picture is brought to it.
        channels: 1 for grey or 3 for RGB.
        augment: applied to training pictures, ``(channels, size, size)``.
        val_fraction: validation share; 0: none.
        test_fraction: test share; 0: none.
        split_seed: of the choice.
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
        fit: Fit = FILL,  # older runs have none
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
            self._class_names = self.fitted.classes("label", _class_folders(folder / "train"))
            parts = [
                _images(folder / part, self._class_names) if (folder / part).is_dir() else []
                for part in ("train", "val", "test")
            ]
        else:
            self._class_names = self.fitted.classes("label", _class_folders(folder))
            parts = [_images(folder, self._class_names), [], []]
        first = first_copies_of_splits([[picture.file for picture in part] for part in parts], str(folder))
        train, val, test = parts
        total = len({first[picture.file] for picture in train})
        if not is_split:
            train, test = hold_out_files(train, first, "test_fraction", test_fraction, total, split_seed)
        if not val:
            train, val = hold_out_files(train, first, "val_fraction", val_fraction, total, split_seed)
        self.items = {"train": train, "val": val, "test": test}

    @property
    def specs(self) -> Mapping[str, Spec]:
        return {
            "image": Spec({"pixels": Field(self._shape, self._fit.dtype)}),
            "label": class_spec(self._class_names),
        }

    def origin(self, item: Picture, split: str) -> str:
        return str(item.file)

    def sample(self, item: Picture, split: str) -> Sample:
        channels, *size = self._shape
        pixels = decode_image(
            item.file, size=(size[0], size[1]), channels=channels, max_pixels=self._max_pixels, fit=self._fit
        )
        augment = self._augment if split == "train" else None
        return {
            "image": {"pixels": augment(pixels) if augment else pixels},
            "label": {"class": torch.tensor(item.label)},
        }


def _is_split(folder: Path) -> bool:
    """Whether ``train/`` holds class folders, rather than pictures of the class train."""
    folders = list_folder(folder).folders
    if not any(one.name == "train" and list_folder(one).folders for one in folders):
        return False
    others = [one.name for one in folders if one.name not in ("train", "val", "test")]
    if others:
        raise UserError(f"{folder} holds {some(others)} beside train/; data.path takes train/, val/ and test/ only")
    return True


def _class_folders(folder: Path) -> tuple[str, ...]:
    labels = [_class_name(inner) for inner in list_folder(folder).folders]
    if not labels:
        raise InvalidValue("path", folder, "holds no class folders: pictures lie in one folder per class")
    for label in labels:
        if any("\ud800" <= letter <= "\udfff" for letter in label):  # bytes that are not UTF-8
            raise UserError(f"{folder} holds a class folder {label!r}, whose name is not UTF-8; rename it")
    twice = sorted({label for label in labels if labels.count(label) > 1})
    if twice:
        raise UserError(f"{folder} holds {some(twice)} twice, in two of Unicode's spellings; put them together")
    return tuple(sorted(labels))


def _class_name(folder: Path) -> str:
    """The name of a folder in Unicode's normal form C; the file systems of Macs use another."""
    return unicodedata.normalize("NFC", folder.name)


def _images(folder: Path, labels: tuple[str, ...]) -> list[Picture]:
    """All images of a folder of class folders, in the order of their names."""
    top = list_folder(folder)
    images: list[Picture] = []
    strays = [*filter(_is_image, top.files), *top.others]
    skipped = [file for file in top.files if file not in strays]
    for inner in track(top.folders, f"looking into {folder.name}, class"):
        if _class_name(inner) not in labels:
            raise UserError(f"{inner} is a class that training lacks; it has {some(labels)}")
        listing, label = list_folder(inner), labels.index(_class_name(inner))
        strays += [*listing.folders, *listing.others]
        for file in listing.files:
            if _is_image(file):
                images.append(Picture(file, label))
            elif file.suffix.lower() in OTHER_SUFFIXES or image_format(file):
                strays.append(file)
            else:
                skipped.append(file)
    if strays:
        parts = (
            ", or, if its folders are splits, call them train, val and test" if any(map(Path.is_dir, strays)) else ""
        )
        raise UserError(
            f"{folder} holds {some(str(stray.relative_to(folder)) for stray in strays)}, where only folders of images "
            f"belong ({' '.join(SUFFIXES)}); take them out of data.path{parts}"
        )
    report_skipped(folder, skipped, "picture")
    found = Counter(image.label for image in images)
    empty = [label for i, label in enumerate(labels) if not found[i] and label in map(_class_name, top.folders)]
    if empty or not images:
        raise UserError(f"{folder} has no images of {some(empty or labels)}; take out or fill the folder (data.path)")
    return images


def _is_image(file: Path) -> bool:
    """Whether a file is a picture, by its name or by its content."""
    return file.suffix.lower() in SUFFIXES or image_format(file) in FORMATS
