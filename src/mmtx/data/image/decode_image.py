"""Decodes image files to pixels of a given size."""

import struct
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy
import torch
from jaxtyping import Float32, UInt8
from PIL import Image, ImageOps
from PIL.PngImagePlugin import PngImageFile
from torch import Tensor

from mmtx.data.files.file_bytes import FileBytes, open_bytes
from mmtx.data.image.png_chunks import needed_chunks
from mmtx.errors import InvalidValue, UserError, check_at_least

GREY_STEPS = {"1": 255, "L;2": 85, "L;4": 17}
"""A step of grey in 8 bits, for the modes in which PNG stores fewer."""
FORMATS = ("PNG", "JPEG", "BMP", "WEBP", "GIF", "PPM")
CAMERA_JPEG = "MPO"
"""Pillow's name for a JPEG followed by more pictures, as telephones write it; the first is read."""


def check_filter(resample: str) -> None:
    """Raises InvalidValue for what is none of Pillow's filters."""
    if resample.upper() not in Image.Resampling.__members__:
        names = ", ".join(name.lower() for name in Image.Resampling.__members__)
        raise InvalidValue("resample", resample, f"is none of {names}")


@dataclass(frozen=True)
class Fit:
    """How a picture of any shape is brought to the size that a model reads.

    Args:
        stretch: resize width and height independently; otherwise resize the shorter side, and crop the centre.
        side: pixels that the shorter side (both, with `stretch`) is resized to before the centre crop; null: the size
            itself.
        resample: one of Pillow's filters: nearest, bilinear, bicubic, lanczos, box, hamming.
        longest: pixels that the longer side is resized to before all else, the other one to an even number (Idefics 3);
            null: it stays.
        floats: pixels are float32 in 0..1, and keep what resizing gives between two of 256 steps (DINOv3); otherwise
            they are bytes.
    """

    stretch: bool = False
    side: int | None = None
    resample: str = "bicubic"
    longest: int | None = None
    floats: bool = False

    @property
    def dtype(self) -> torch.dtype:
        """Of the pixels."""
        return torch.float32 if self.floats else torch.uint8

    def __post_init__(self) -> None:
        check_at_least("longest", self.longest, 1)
        check_filter(self.resample)

    def apply(self, picture: Image.Image, size: tuple[int, int]) -> Image.Image:
        """Resizes and crops a picture to `size`, height and width."""
        method, (height, width) = Image.Resampling[self.resample.upper()], size
        if self.longest is not None:
            picture = picture.resize(_even(picture, self.longest), method)
        if self.side is None:
            if self.stretch:
                return picture.resize((width, height), method)
            return ImageOps.fit(picture, (width, height), method=method)
        resized = picture.resize(self._size_before_crop(picture, self.side), method)
        left, top = round((resized.width - width) / 2), round((resized.height - height) / 2)
        return resized.crop((left, top, left + width, top + height))

    def pixels(
        self, picture: Image.Image, size: tuple[int, int]
    ) -> UInt8[Tensor, "C height width"] | Float32[Tensor, "C height width"]:
        """The pixels of a picture of 8 bits, resized and cropped to `size`."""
        if not self.floats:
            return as_bytes(self.apply(picture, size))
        bands = [self.apply(band.convert("F"), size) for band in picture.split()]
        return torch.from_numpy(numpy.stack([numpy.array(band) for band in bands])) / 255

    def _size_before_crop(self, picture: Image.Image, side: int) -> tuple[int, int]:
        """Width and height; the longer one is rounded down, as torchvision does."""
        short = min(picture.size)
        return (side, side) if self.stretch else (side * picture.width // short, side * picture.height // short)


def _even(picture: Image.Image, longest: int) -> tuple[int, int]:
    """Width and height of a picture whose longer side is so long; the other is rounded down, and up to an even one."""
    width, height = picture.size
    if width >= height:
        short = int(longest / (width / height))
        return longest, max(1, short + short % 2)
    short = int(longest * (width / height))
    return max(1, short + short % 2), longest


FILL = Fit()


@runtime_checkable
class Fits(Protocol):
    """Brings a picture to the size that a model reads."""

    def pixels(
        self, picture: Image.Image, size: tuple[int, int]
    ) -> UInt8[Tensor, "C height width"] | Float32[Tensor, "C height width"]: ...


def as_bytes(picture: Image.Image) -> UInt8[Tensor, "C height width"]:
    """The pixels of a picture of 8 bits."""
    return torch.from_numpy(numpy.array(picture).reshape(picture.height, picture.width, -1)).permute(2, 0, 1)


def decode_image(
    file: Path | FileBytes, *, size: tuple[int, int], channels: int, max_pixels: int, fit: Fits = FILL
) -> UInt8[Tensor, "C height width"] | Float32[Tensor, "C height width"]:
    """The first picture of a file, upright, at `size`.

    Everything but 8 bits of grey or RGB is converted: the orientation of EXIF is applied; transparency (also of
    palettes) becomes white; of 16 bits the upper 8 are kept; CMYK becomes RGB without a colour profile; grey is
    repeated for three channels, colour is weighted to grey for one (ITU-R 601).

    Args:
        file: of one of the `FORMATS`, whatever its suffix.
        size: height and width in pixels.
        channels: 1 or 3.
        max_pixels: larger pictures are refused by their header, before they take memory.
        fit: how it is brought to `size`.

    Raises:
        UserError: the file cannot be read, is damaged, is no image, or has too many pixels.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # the limit is ours
            with open_bytes(file) as stream, Image.open(needed_chunks(stream), formats=FORMATS) as image:
                if image.width * image.height <= max_pixels:
                    stored = str(image.tile[0].args) if isinstance(image, PngImageFile) else ""
                    picture = _eight_bits(_upright(image), stored).convert("RGB" if channels == 3 else "L")
                    return fit.pixels(picture, size)
                count = f"{image.width} x {image.height} = {image.width * image.height} pixels"
    except Image.DecompressionBombError as error:  # raised for the header too
        raise UserError(f"{file}: {error}; data.max_pixels={max_pixels}: shrink it, or take it out") from None
    except Image.UnidentifiedImageError:
        kind = image_format(file)
        found = f", but {kind}; convert it" if kind and kind not in FORMATS else ""
        raise UserError(f"{file} is not an image of a known kind ({', '.join(FORMATS)}){found}") from None
    except ValueError as error:
        raise UserError(f"{file} cannot be read as an image: {error}") from None
    except Exception as error:  # Pillow's decoders raise all kinds of errors
        raise UserError(f"{file} cannot be read as an image: {type(error).__name__}: {error}") from None
    raise UserError(f"{file} has {count}; data.max_pixels={max_pixels}: shrink it, or raise data.max_pixels")


def image_format(file: Path | FileBytes) -> str | None:
    """The format of an image file by its content, one of the `FORMATS` or another; None if it is no image."""
    try:
        with open_bytes(file) as stream, Image.open(stream) as image:
            return "JPEG" if image.format == CAMERA_JPEG else image.format
    except Exception:  # Pillow's readers raise all kinds of errors
        return None


def _upright(image: Image.Image) -> Image.Image:
    """The picture in the orientation of its EXIF data; unchanged where these are broken, as Pillow does for JPEG."""
    image.load()  # errors of the picture itself are raised here
    try:
        return ImageOps.exif_transpose(image)
    except (SyntaxError, ValueError, struct.error):
        return image


def _eight_bits(image: Image.Image, stored: str) -> Image.Image:
    """The upper 8 bits of every sample, white where it is transparent; `stored` is the raw mode of a PNG file."""
    if image.mode == "F":  # PFM, in which 1 is white
        values = numpy.asarray(image)
        if not ((values >= 0) & (values <= 1)).all():
            raise ValueError("it holds floating-point numbers outside 0..1, where 1 is white; convert it to 8 bits")
        return Image.fromarray((values * 255).astype(numpy.uint8))
    key = image.info.get("transparency")
    if key is not None and stored == "RGB;16B":
        raise ValueError("it has 16 bits of colour and a transparent one; convert it to 8 bits, or to an alpha channel")
    if image.mode.startswith("I"):
        samples = numpy.asarray(image).astype(numpy.int64)
        return Image.fromarray(numpy.where(samples == key, 255, (samples >> 8).clip(0, 255)).astype(numpy.uint8))
    if key is not None and stored in GREY_STEPS:  # the samples are scaled to 8 bits, but the transparent one is not
        image = image.convert("L")
        image.info["transparency"] = key * GREY_STEPS[stored]
    if image.has_transparency_data:
        shown = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", shown.size, "white"), shown)
    return image
