"""What the families that read pictures share: sizes, patches, CLS with its position, and preprocessing."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from mmtx.batch import Batch, Field, Spec
from mmtx.encoded import Encoded
from mmtx.errors import UserError
from mmtx.interop.family import Config, at
from mmtx.interop.image_preprocessing import Preprocessing, write_preprocessor
from mmtx.interop.links import Link, Several, reshaped
from mmtx.learner import Learner
from mmtx.modalities.image import Image

IMAGE = "model.tokenizers.image"
POSITIONS = "model.position_embeddings.image.table.weight"


def sides(config: Config) -> tuple[int, int]:
    """Height and width of the pictures of a config."""
    size = config["image_size"]
    return (size[0], size[1]) if isinstance(size, list) else (size, size)


def square_patch(config: Config, family: str) -> int:
    """The side of a patch, which a config may give twice. Raises UserError where patches are not square."""
    patch = config["patch_size"]
    if not isinstance(patch, list):
        return int(patch)
    if len(set(patch)) > 1:
        raise UserError(f"this {family} has patches of {patch}; mmtx has square ones")
    return int(patch[0])


def picture_values(prepared: Preprocessing, size: tuple[int, int], channels: int) -> dict[str, Any]:
    """Options of the data and of the tokenizer."""
    return {
        "modality.image.mean": prepared.mean,
        "modality.image.std": prepared.std,
        "data.size": size[0],
        "data.channels": channels,
        "data.fit": prepared.fit,
    }


def picture_spec(size: tuple[int, int], channels: int, floats: bool = False) -> Spec:
    return Spec({"pixels": Field((channels, *size), torch.float32 if floats else torch.uint8)})


def picture_side_files(kind: str, ours: Mapping[str, Any], specs: Mapping[str, Spec]) -> dict[str, Config]:
    """The preprocessing of pictures, by the type of processor that a family has."""
    channels, rows, columns = (size or 0 for size in specs["image"].fields["pixels"].shape)
    given = (at(ours, f"modality.image.{key}") for key in ("mean", "std"))
    mean, std = (value if isinstance(value, list) else [value] * channels for value in given)
    data_fit = ours.get("data", {}).get("fit") or {}
    return {"preprocessor_config": write_preprocessor(kind, mean, std, (rows, columns), data_fit)}


def picture_size(specs: Mapping[str, Spec]) -> Config:
    """The keys of a config about the pictures of a spec."""
    channels, rows, columns = specs["image"].fields["pixels"].shape
    return {"num_channels": channels, "image_size": rows if rows == columns else [rows, columns]}


def picture_batch(learner: Learner, pixel_values: Tensor) -> Batch:
    """A batch of normalised pictures."""
    tokenizer = learner.model.tokenizer("image")
    tokenizer = tokenizer.tokenizer if isinstance(tokenizer, Encoded) else tokenizer
    assert isinstance(tokenizer, Image)
    pixels = (pixel_values * tokenizer.std + tokenizer.mean) * tokenizer.scale  # pixels as in files
    present = torch.ones(pixels.shape[0], dtype=torch.long, device=pixels.device)
    return Batch({"image": {"pixels": pixels}}, {"image": present}, {"image": True})


def patch_link(theirs: str, dim: int, channels: int, patch: int, ours: str = IMAGE) -> Link:
    """The linear map of patches, which is a convolution there; `ours`: the tokenizer."""
    shape = (dim, channels, patch, patch)
    return reshaped(f"{ours}.projection.weight", theirs, (dim, channels * patch**2), shape)


def read_positions(theirs: Several) -> Several:
    """Adds the first position to CLS: a readout of mmtx has no position."""
    cls, positions = theirs
    return [cls[0] + positions[0, :1], positions[0, 1:].contiguous()]


def write_positions(ours: Several) -> Several:
    readout, table = ours
    return [readout[None].contiguous(), torch.cat([torch.zeros_like(table[:1]), table])[None]]
