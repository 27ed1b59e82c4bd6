"""A small codec that was never trained, and vocabularies of its codes."""

from pathlib import Path
from typing import Any

import torch

from mmtx.codes.fsq import FSQ
from mmtx.codes.picture_codec import PictureCodec
from mmtx.codes.stored_codec import as_text, codec_bytes
from mmtx.data.picture_codes import PictureCodes


def small_codec(**changes: Any) -> PictureCodec:
    """Nine codes, of 4 x 4 patches of a digit."""
    state = torch.random.get_rng_state()
    torch.manual_seed(0)
    keys: dict[str, Any] = {"shape": (1, 8, 8), "scale": 255.0, "patch_size": 2, "width": 4, **changes}
    codec = PictureCodec(**keys, quantiser=FSQ(levels=[3, 3]))
    codec.encoder[-1].weight.data.mul_(50)  # so that pictures have several codes
    torch.random.set_rng_state(state)
    return codec.requires_grad_(False).eval()


def small_codes(**changes: Any) -> PictureCodes:
    vocabulary = PictureCodes(path=None)
    vocabulary.load({"codec": as_text(small_codec(**changes))})
    return vocabulary


def small_codec_file(folder: Path) -> Path:
    file = folder / "codes.safetensors"
    file.write_bytes(codec_bytes(small_codec()))
    return file
