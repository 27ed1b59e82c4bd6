"""SigLIP 2 NaFlex (Tschannen et al. 2025, arXiv 2502.14786), as `transformers` stores it: pictures keep their shape.
Files of SigLIP 2 with pictures of one size are SigLIP's."""

import math
from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor

from mmtx.batch import Batch, Spec
from mmtx.data.files.supported_keys import Keys, used
from mmtx.data.image.native_fit import NativeFit
from mmtx.errors import UserError
from mmtx.interop.family import Config, Files, at
from mmtx.interop.image_preprocessing import Preprocessing
from mmtx.interop.links import Link, both, same
from mmtx.interop.native_pictures import NATIVE, native_batch, read_native, write_native
from mmtx.interop.pictures import IMAGE, square_patch
from mmtx.interop.siglip import TEXT, VISION, SigLIP
from mmtx.learner import Learner

NATIVE_VISION: Keys = {
    **{key: entry for key, entry in VISION.items() if key != "image_size"},
    "num_patches": used(
        "of the table of positions, which is square; a picture one patch wide gets rows of it, where torch repeats one",
        256,
    ),
}


class SigLIP2(SigLIP):
    """Both towers, of pictures of any shape."""

    name = "siglip2"
    kinds = ("Siglip2Model",)
    parts: ClassVar[Mapping[str, Keys]] = {"text_config": TEXT, "vision_config": NATIVE_VISION}
    preprocessor = NATIVE
    added = {"image": (f"{IMAGE}.table",), "text": SigLIP.added["text"]}
    modality = "native_image"

    def settled_pictures(self, vision: Config) -> Config:
        """Raises UserError for a table of positions that is not square."""
        if math.isqrt(vision["num_patches"]) ** 2 != vision["num_patches"]:
            raise UserError(f"num_patches={vision['num_patches']}: the table of positions of this family is square")
        return {**vision, "patch_size": square_patch(vision, self.name)}

    def read_pictures(self, vision: Config, files: Files) -> tuple[dict[str, Any], Spec]:
        prepared = self._prepared(vision, files)
        values = {
            "modality.image.mean": prepared.mean,
            "modality.image.std": prepared.std,
            "modality.image.patch_size": vision["patch_size"],
            "modality.image.side": math.isqrt(vision["num_patches"]),
            "data.channels": vision["num_channels"],
            "data.fit": prepared.fit,
        }
        fit = {key: value for key, value in prepared.fit.items() if key != "_target_"}
        return values, NativeFit(**fit).spec(vision["num_channels"])

    def _prepared(self, vision: Config, files: Files) -> Preprocessing:
        given = files.side_files.get("preprocessor_config") or {}
        return read_native(given, vision["patch_size"], vision["num_channels"])

    def write_pictures(self, ours: Mapping[str, Any], specs: Mapping[str, Spec]) -> Config:
        patch, side = at(ours, "modality.image.patch_size"), at(ours, "modality.image.side")
        return {"patch_size": patch, "num_patches": side**2, "num_channels": _channels(specs, patch)}

    def side_files(self, ours: Mapping[str, Any], specs: Mapping[str, Spec]) -> dict[str, Config]:
        channels = _channels(specs, at(ours, "modality.image.patch_size"))
        return write_native(ours, channels, specs["image"].max_length)

    def picture_links(self, vision: Config) -> list[Link]:
        embeddings = "vision_model.embeddings"
        return [
            *both(f"{IMAGE}.projection", f"{embeddings}.patch_embedding"),
            same(f"{IMAGE}.table", f"{embeddings}.position_embedding.weight"),
        ]

    def example_pictures(self, vision: Config) -> dict[str, Tensor]:
        side, values = math.isqrt(vision["num_patches"]), vision["num_channels"] * vision["patch_size"] ** 2
        return {
            "pixel_values": torch.zeros(2, side**2, values),
            "pixel_attention_mask": torch.ones(2, side**2, dtype=torch.long),
            "spatial_shapes": torch.full((2, 2), side),
        }

    def batch_of_pictures(self, learner: Learner, **inputs: Any) -> Batch:
        return native_batch(learner, **inputs)


def _channels(specs: Mapping[str, Spec], patch: int) -> int:
    return (specs["image"].fields["patches"].shape[1] or 0) // patch**2
