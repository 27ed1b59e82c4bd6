"""A trained codec as a file, and as plain values that are saved with what uses it."""

import base64
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load, save

from mmtx.codes.fsq import FSQ
from mmtx.codes.picture_codec import PictureCodec
from mmtx.codes.quantiser import Quantiser
from mmtx.codes.vq import VQ
from mmtx.errors import InvalidValue

QUANTISERS: dict[str, type[Quantiser]] = {kind.__name__: kind for kind in (VQ, FSQ)}

KEY = "picture_codec"
"""In the header of a file."""


def codec_bytes(codec: PictureCodec) -> bytes:
    """A safetensors file of the weights, whose header has the settings."""
    weights = {key: value.detach().float().contiguous().cpu() for key, value in codec.state_dict().items()}
    return save(weights, {KEY: json.dumps(codec.settings)})


def read_codec(path: str) -> PictureCodec:
    """The codec of a file, frozen, in eval mode.

    Raises:
        InvalidValue: there is no such file, or it holds something else.
    """
    file = Path(path).expanduser()
    if not file.is_file():
        raise InvalidValue("path", path, "is no file; mmtx export RUN FILE --format codes writes one")
    try:
        return codec_of(file.read_bytes())
    except (SafetensorError, KeyError, LookupError, RuntimeError, TypeError, ValueError) as error:
        problem = f"holds no codes of pictures: {' '.join(str(error).split())[:200]}"
        raise InvalidValue("path", path, problem, "the file that mmtx export RUN FILE --format codes writes") from None


def codec_of(content: bytes) -> PictureCodec:
    """The codec that `codec_bytes` stored, frozen, in eval mode."""
    settings = json.loads(_header(content)["__metadata__"][KEY])
    quantiser = dict(settings.pop("quantiser"))
    made = QUANTISERS[quantiser.pop("kind")](**quantiser)
    codec = PictureCodec(**settings, quantiser=made)
    codec.load_state_dict(load(content))
    return codec.requires_grad_(False).eval()


def as_text(codec: PictureCodec) -> str:
    """The same bytes as letters, which JSON can hold."""
    return base64.b64encode(codec_bytes(codec)).decode("ascii")


def from_text(text: str) -> PictureCodec:
    """The codec of `as_text`."""
    return codec_of(base64.b64decode(text))


def _header(content: bytes) -> Mapping[str, Any]:
    """Of a safetensors file: its length in 8 bytes, then as much JSON."""
    length = int.from_bytes(content[:8], "little")
    header: Mapping[str, Any] = json.loads(content[8 : 8 + length])
    return header
