"""The preprocessing of SigLIP 2 NaFlex: pictures keep their shape, and come as patches."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from mmtx.batch import Batch
from mmtx.data.files.supported_keys import Keys, every, harmless, only, used
from mmtx.errors import UserError
from mmtx.interop.family import Config, at
from mmtx.interop.image_preprocessing import PREPROCESSOR, RESAMPLING, Preprocessing, read_preprocessor
from mmtx.learner import Learner
from mmtx.modalities.native_image import NativeImage

TYPE = "Siglip2ImageProcessor"
SHARED = ("do_rescale", "rescale_factor", "do_normalize", "image_mean", "image_std")
NATIVE: Keys = {
    **{key: PREPROCESSOR[key] for key in ("processor_class", "resample", "do_convert_rgb", *SHARED)},
    **every("return_tensors device disable_grouping", harmless("what a call takes and returns")),
    **every("data_format input_data_format", PREPROCESSOR["input_data_format"]),
    **every("size crop_size pad_size default_to_square", harmless("nothing reads it: `max_num_patches` is the size")),
    **every("do_pad do_center_crop", only(False, note="another way to size")),
    "image_processor_type": used(f"{TYPE}, or its Fast or Pil"),
    "do_resize": only(True, note="pictures that are whole patches already"),
    "patch_size": used("that of the model"),
    "max_num_patches": used("patches of a picture, `data.fit.max_patches` here"),
}
"""Of its ``preprocessor_config.json``."""


def read_native(config: Mapping[str, Any], patch: int, channels: int) -> Preprocessing:
    """Its preprocessing as options of mmtx. Raises UserError where it is another, or of patches of another size."""
    given = {key: value for key, value in config.items() if value is not None}
    kind = str(given.get("image_processor_type", TYPE)).removesuffix("Fast").removesuffix("Pil")
    if kind != TYPE:
        raise UserError(f"pictures are prepared by {kind}; mmtx prepares those of this family as {TYPE} does")
    if given.get("patch_size", patch) != patch:
        raise UserError(f"patch_size={given['patch_size']} of the processor is not the model's, {patch}")
    number = given.get("resample", RESAMPLING.index("bilinear"))
    plain = {key: given[key] for key in SHARED if key in given}
    square = {"image_processor_type": "SiglipImageProcessor", "size": patch, "resample": number}
    prepared = read_preprocessor({**plain, **square}, (patch, patch), channels)
    fit = {"_target_": "mmtx.data.NativeFit", "patch_size": patch, "max_patches": given.get("max_num_patches", 256)}
    return replace(prepared, fit={**fit, "resample": prepared.fit["resample"]})


def write_native(ours: Mapping[str, Any], channels: int, max_patches: int) -> dict[str, Config]:
    """The inverse of `read_native`, as side files."""
    given = (at(ours, f"modality.image.{key}") for key in ("mean", "std"))
    mean, std = (value if isinstance(value, list) else [value] * channels for value in given)
    resample = (ours.get("data", {}).get("fit") or {}).get("resample", "bilinear")
    written = {"resample": RESAMPLING.index(resample), "image_mean": mean, "image_std": std}
    sizes = {"patch_size": at(ours, "modality.image.patch_size"), "max_num_patches": max_patches}
    return {"preprocessor_config": {"image_processor_type": TYPE, **written, **sizes}}


def native_batch(
    learner: Learner, *, pixel_values: Tensor, pixel_attention_mask: Tensor, spatial_shapes: Tensor, **others: Any
) -> Batch:
    """A batch of normalised patches. Raises UserError where they are not padded at their end."""
    tokenizer = learner.model.tokenizer("image")
    assert isinstance(tokenizer, NativeImage)
    lengths = spatial_shapes.prod(1)
    real = torch.arange(pixel_values.shape[1], device=lengths.device) < lengths[:, None]
    if not torch.equal(real, pixel_attention_mask.bool()):
        raise UserError("pixel_attention_mask: patches must be those of spatial_shapes, real ones first")
    pixels = pixel_values.unflatten(2, (-1, len(tokenizer.mean)))
    patches = ((pixels * tokenizer.std + tokenizer.mean) * 255).flatten(2)
    full = bool((lengths == patches.shape[1]).all())
    return Batch({"image": {"patches": patches, "grid": spatial_shapes}}, {"image": lengths}, {"image": full})
