"""An image file as pixels of a wanted size."""

from __future__ import annotations

import struct
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy
import torch
from jaxtyping import UInt8
from PIL import Image, ImageOps
from PIL.PngImagePlugin import PngImageFile
from torch import Tensor

from mmtx.data.image.png_chunks import needed_chunks
from mmtx.errors import InvalidValue, UserError

GREY_STEPS = {"1": 255, "L;2": 85, "L;4": 17}
"""How much a step of grey is in 8 bits, where PNG stores fewer."""
FORMATS = ("PNG", "JPEG", "BMP", "WEBP", "GIF", "PPM")
CAMERA_JPEG = "MPO"
"""What Pillow calls a JPEG with more pictures behind it, as telephones write them; the first is read."""


@dataclass(frozen=True)
class Fit:
    """How a picture of any shape comes to the size that a model reads.

    Args:
        stretch: width and height are resized each by itself; else the shorter side is, and the middle cut out.
        side: what the shorter side (both, with `stretch`) is resized to before the middle is cut out, in pixels; null:
            to the size itself.
        resample: one of Pillow's filters: nearest, bilinear, bicubic, lanczos, box, hamming.
    """

    stretch: bool = False
    side: int | None = None
    resample: str = "bicubic"

    def __post_init__(self) -> None:
        if self.resample.upper() not in Image.Resampling.__members__:
            names = ", ".join(name.lower() for name in Image.Resampling.__members__)
            raise InvalidValue("resample", self.resample, f"is none of {names}")

    def apply(self, picture: Image.Image, size: tuple[int, int]) -> Image.Image:
        """`size` is height and width."""
        method, (height, width) = Image.Resampling[self.resample.upper()], size
        if self.side is None:
            if self.stretch:
                return picture.resize((width, height), method)
            return ImageOps.fit(picture, (width, height), method=method)
        resized = picture.resize(self._before_the_cut(picture, self.side), method)
        left, top = round((resized.width - width) / 2), round((resized.height - height) / 2)
        return resized.crop((left, top, left + width, top + height))

    def _before_the_cut(self, picture: Image.Image, side: int) -> tuple[int, int]:
        """Width and height; the longer one is rounded down, as torchvision does."""
        short = min(picture.size)
        return (side, side) if self.stretch else (side * picture.width // short, side * picture.height // short)


FILL = Fit()


def decode_image(
    file: Path, *, size: tuple[int, int], channels: int, max_pixels: int, fit: Fit = FILL
) -> UInt8[Tensor, "C height width"]:
    """The first picture of a file: upright, and brought to `size`.

    What it holds besides 8 bits of grey or RGB is converted: the orientation of EXIF is applied; transparency (of
    palettes, too) goes onto white; of 16 bits the upper 8 stay; CMYK becomes RGB without a colour profile; grey is
    repeated for three channels, colour weighed to grey for one (ITU-R 601).

    Args:
        file: of one of the `FORMATS`, whatever its name ends with.
        size: height and width in pixels.
        channels: 1 or 3.
        max_pixels: refuses larger pictures by their header, before they take memory.
        fit: how it comes to `size`.

    Raises:
        UserError: the file cannot be read, is damaged, is something else, or has too many pixels.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # the limit is ours
            with open(file, "rb") as stream, Image.open(needed_chunks(stream), formats=FORMATS) as image:
                if image.width * image.height <= max_pixels:
                    stored = str(image.tile[0].args) if isinstance(image, PngImageFile) else ""
                    picture = _eight_bits(_upright(image), stored).convert("RGB" if channels == 3 else "L")
                    fitted = numpy.array(fit.apply(picture, size))
                    return torch.from_numpy(fitted.reshape(*size, channels)).permute(2, 0, 1)
                count = f"{image.width} x {image.height} = {image.width * image.height} pixels"
    except Image.DecompressionBombError as error:  # at the header, too
        raise UserError(f"{file}: {error}; data.max_pixels={max_pixels}: shrink it, or take it out") from None
    except Image.UnidentifiedImageError:
        kind = image_format(file)
        found = f", but {kind}; convert it" if kind and kind not in FORMATS else ""
        raise UserError(f"{file} is not an image of a known kind ({', '.join(FORMATS)}){found}") from None
    except ValueError as error:
        raise UserError(f"{file} cannot be read as an image: {error}") from None
    except Exception as error:  # Pillow's decoders raise whatever they come across
        raise UserError(f"{file} cannot be read as an image: {type(error).__name__}: {error}") from None
    raise UserError(f"{file} has {count}; data.max_pixels={max_pixels}: shrink it, or raise data.max_pixels")


def image_format(file: Path) -> str | None:
    """The format of a picture, one of the `FORMATS` or another, by what the file holds; None if it is none."""
    try:
        with Image.open(file) as image:
            return "JPEG" if image.format == CAMERA_JPEG else image.format
    except Exception:  # Pillow's readers raise whatever they come across
        return None


def _upright(image: Image.Image) -> Image.Image:
    """Turned as its EXIF says; as it is, where nobody can read that, which Pillow does for JPEG by itself."""
    image.load()  # what is wrong with the picture is no matter of EXIF
    try:
        return ImageOps.exif_transpose(image)
    except (SyntaxError, ValueError, struct.error):
        return image


def _eight_bits(image: Image.Image, stored: str) -> Image.Image:
    """Of every sample the upper 8 bits, and white where it is transparent; `stored` is how a PNG file has them."""
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
    if key is not None and stored in GREY_STEPS:  # the samples are stretched to 8 bits, and their key is not
        image = image.convert("L")
        image.info["transparency"] = key * GREY_STEPS[stored]
    if image.has_transparency_data:
        shown = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", shown.size, "white"), shown)
    return image
