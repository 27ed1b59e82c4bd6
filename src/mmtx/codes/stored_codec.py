"""A trained codec as a file, and as plain values that are saved with what uses it."""

import base64
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load, save

from mmtx.codes.codec import Codec
from mmtx.codes.content import Content
from mmtx.codes.fsq import FSQ
from mmtx.codes.pixels import Films, Pictures
from mmtx.codes.quantiser import Quantiser
from mmtx.codes.sounds import Sounds
from mmtx.codes.vq import VQ
from mmtx.errors import InvalidValue

CONTENTS: dict[str, type[Content]] = {kind.__name__: kind for kind in (Pictures, Films, Sounds)}
QUANTISERS: dict[str, type[Quantiser]] = {kind.__name__: kind for kind in (VQ, FSQ)}

KEY = "codec"
"""In the header of a file."""
PICTURES_KEY = "picture_codec"
"""The same, when there were codes of pictures alone."""


def codec_bytes(codec: Codec) -> bytes:
    """A safetensors file of the weights, whose header has the settings."""
    weights = {key: value.detach().float().contiguous().cpu() for key, value in codec.state_dict().items()}
    return save(weights, {KEY: json.dumps(codec.settings)})


def read_codec(path: str) -> Codec:
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
        problem = f"holds no codes: {' '.join(str(error).split())[:200]}"
        raise InvalidValue("path", path, problem, "the file that mmtx export RUN FILE --format codes writes") from None


def codec_of(content: bytes) -> Codec:
    """The codec that `codec_bytes` stored, frozen, in eval mode."""
    settings = _settings(content)
    coded, quantiser = dict(settings.pop("content")), dict(settings.pop("quantiser"))
    made = CONTENTS[coded.pop("kind")](**coded)
    codec = Codec(content=made, quantiser=QUANTISERS[quantiser.pop("kind")](**quantiser), **settings)
    codec.load_state_dict(load(content))
    return codec.requires_grad_(False).eval()


def as_text(codec: Codec) -> str:
    """The same bytes as letters, which JSON can hold."""
    return base64.b64encode(codec_bytes(codec)).decode("ascii")


def from_text(text: str) -> Codec:
    """The codec of `as_text`."""
    return codec_of(base64.b64decode(text))


def _settings(content: bytes) -> dict[str, Any]:
    """Those in the header of a safetensors file, which is its length in 8 bytes, then as much JSON."""
    length = int.from_bytes(content[:8], "little")
    stored: Mapping[str, str] = json.loads(content[8 : 8 + length])["__metadata__"]
    if PICTURES_KEY not in stored:
        settings: dict[str, Any] = json.loads(stored[KEY])
        return settings
    earlier = json.loads(stored[PICTURES_KEY])
    pictures = {"kind": Pictures.__name__, **{key: earlier.pop(key) for key in ("shape", "scale")}}
    return {"content": pictures, "patch": [earlier.pop("patch_size")] * 2, **earlier}
