"""Frames of a film: of an mp4, a webm or another container of FFmpeg's, of a GIF, or of an array of numpy's."""

import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy
import torch
from jaxtyping import Float32, UInt8
from PIL import Image, ImageSequence
from torch import Tensor

from mmtx.data.files.file_bytes import FileBytes, open_bytes
from mmtx.data.image.decode_image import Fit
from mmtx.errors import UserError

GIF, ARRAY, ARRAYS = b"GIF8", b"\x93NUMPY", b"PK\x03\x04"
"""What files begin with."""

Frames = Callable[[], Iterator[Image.Image]]
"""Begins to decode a film anew."""


def read_video(
    file: Path | FileBytes, *, size: tuple[int, int], channels: int, max_frames: int, max_pixels: int, fit: Fit
) -> UInt8[Tensor, "T C height width"] | Float32[Tensor, "T C height width"]:
    """Frames of a film, upright, at `size`; its sound is not read.

    A GIF is decoded by Pillow, with what it leaves transparent in white. An array is ``(frames, height, width)`` or
    ``(frames, height, width, C)``, uint8, alone in a ``.npy`` or ``.npz``. All others are decoded by PyAV.

    Args:
        file: of these, whatever its suffix.
        size: height and width in pixels.
        channels: 1 or 3.
        max_frames: of a longer film, so many that are equally far apart, its first and its last among them. All are
            decoded to be counted, as no number that a file gives is relied on.
        max_pixels: of a frame.
        fit: how each is brought to `size`.

    Raises:
        UserError: the file cannot be read, is damaged, is no film, or has frames of too many pixels; PyAV is needed,
            and is not installed.
    """
    frames = _frames(file)
    try:
        count = sum(1 for _ in _checked(file, frames(), max_pixels))
        if not count:
            raise UserError(f"{file} has no frames")
        chosen = set(numpy.linspace(0, count - 1, min(count, max_frames)).round().astype(int).tolist())
        kept = (frame for index, frame in enumerate(frames()) if index in chosen)
        mode = "RGB" if channels == 3 else "L"
        return torch.stack([fit.pixels(frame.convert(mode), size) for frame in kept])
    except UserError:
        raise
    except Exception as error:  # decoders raise all kinds of errors
        raise UserError(f"{file} cannot be read as a film: {type(error).__name__}: {error}") from None


def _frames(file: Path | FileBytes) -> Frames:
    with open_bytes(file) as stream:
        begin = stream.read(len(ARRAY))
    if begin.startswith(GIF):
        return lambda: _of_gif(file)
    if begin == ARRAY or begin.startswith(ARRAYS):
        array = _array(file, several=begin != ARRAY)
        return lambda: (Image.fromarray(frame) for frame in array)
    av = _pyav(file)
    return lambda: _of_container(av, file)


def _checked(file: Path | FileBytes, frames: Iterator[Image.Image], max_pixels: int) -> Iterator[Image.Image]:
    for frame in frames:
        if frame.width * frame.height > max_pixels:
            count = f"{frame.width} x {frame.height} = {frame.width * frame.height} pixels"
            raise UserError(f"{file} has frames of {count}; data.max_pixels={max_pixels}: shrink it, or raise that")
        yield frame


def _of_gif(file: Path | FileBytes) -> Iterator[Image.Image]:
    with open_bytes(file) as stream, Image.open(stream, formats=["GIF"]) as image:
        for frame in ImageSequence.Iterator(image):
            shown = frame.convert("RGBA")
            yield Image.alpha_composite(Image.new("RGBA", shown.size, "white"), shown)


def _array(file: Path | FileBytes, several: bool) -> UInt8[numpy.ndarray, "T height width *C"]:
    """Raises UserError where it holds anything else."""
    try:
        with open_bytes(file) as stream:
            loaded: Any = numpy.load(stream, allow_pickle=False)
            arrays = [loaded[key] for key in loaded] if several else [loaded]
    except (ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
        raise UserError(f"{file} cannot be read as an array: {error}") from None
    if len(arrays) != 1:
        raise UserError(f"{file} holds {len(arrays)} arrays; a film is one")
    array: numpy.ndarray = arrays[0]
    if array.dtype != numpy.uint8 or not (array.ndim == 3 or (array.ndim == 4 and array.shape[3] in (1, 3))):
        found = f"{array.dtype} of shape {array.shape}"
        raise UserError(f"{file} holds {found}; a film is uint8 (frames, height, width), or with 1 or 3 channels last")
    return array[..., 0] if array.ndim == 4 and array.shape[3] == 1 else array


def _of_container(av: ModuleType, file: Path | FileBytes) -> Iterator[Image.Image]:
    """The first stream of frames, rotated as its metadata gives."""
    with open_bytes(file) as stream, av.open(stream) as container:
        if not container.streams.video:
            raise UserError(f"{file} has no frames, but {', '.join(each.type for each in container.streams)}")
        for frame in container.decode(video=0):
            picture: Image.Image = frame.to_image()
            yield picture.rotate(frame.rotation, expand=True) if frame.rotation else picture


def _pyav(file: Path | FileBytes) -> ModuleType:
    try:
        import av
    except ImportError:
        raise UserError(f"{file} is decoded by PyAV, which is not installed: pip install 'mmtx[video]'") from None
    return av
