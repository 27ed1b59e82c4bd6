"""A small codec that was never trained, tokenizers that learn one, and vocabularies of its codes."""

from pathlib import Path
from typing import Any

import torch
from builders import image_spec

from mmtx.batch import Spec
from mmtx.codes.fsq import FSQ
from mmtx.codes.picture_codec import PictureCodec
from mmtx.codes.quantiser import Quantiser
from mmtx.codes.stored_codec import as_text, codec_bytes
from mmtx.codes.vq import VQ
from mmtx.data.picture_codes import PictureCodes
from mmtx.modalities.coded_image import CodedImage

KINDS = ["vq", "fsq"]
"""Of quantisers."""


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


def small_quantiser(kind: str) -> Quantiser:
    """Of six codes, or of twelve."""
    vq = {"dim": 3, "num_codes": 6, "decay": 0.9, "commitment": 0.25, "dead_below": 0.5}
    return VQ(**vq) if kind == "vq" else FSQ(levels=[3, 4])


def coded_image(kind: str = "vq", spec: Spec | None = None, **changes: Any) -> CodedImage:
    """A tokenizer whose codes are not yet learnt."""
    torch.manual_seed(0)
    keys: dict[str, Any] = {"dim": 8, "clock": None, "patch_size": 4, "width": 5, **changes}
    tokenizer = CodedImage(spec=spec or image_spec(), quantiser=small_quantiser(kind), **keys)
    tokenizer.codec.encoder[-1].weight.data.mul_(20)  # so that pictures have several codes
    return tokenizer
