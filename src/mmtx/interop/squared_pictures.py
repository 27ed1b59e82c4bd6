"""The preprocessing of SmolVLM and Idefics 3: a picture is stretched to one square. Several squares are refused."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from mmtx.batch import Spec
from mmtx.data.files.supported_keys import Keys, every, harmless, only, used
from mmtx.errors import UserError
from mmtx.interop.family import Config
from mmtx.interop.image_preprocessing import PREPROCESSOR, Preprocessing, read_preprocessor
from mmtx.interop.pictures import picture_side_files

TYPES = ("SmolVLMImageProcessor", "Idefics3ImageProcessor")
LARGEST = 4096
"""Pixels of the longer side, beyond which theirs are shrunk again."""
SHARED = ("do_rescale", "rescale_factor", "do_normalize", "image_mean", "image_std")
USUAL: Config = {"do_resize": True, "size": {"longest_edge": 4 * 364}, "max_image_size": {"longest_edge": 364}}

SQUARED: Keys = {
    **{key: PREPROCESSOR[key] for key in ("processor_class", "resample", "do_convert_rgb", *SHARED)},
    **every("feature_extractor_type default_to_square", harmless("nothing reads it")),
    **every("return_tensors device disable_grouping return_row_col_info", harmless("what a call takes and returns")),
    **every("data_format input_data_format", PREPROCESSOR["input_data_format"]),
    "image_processor_type": used(f"{', '.join(TYPES)}, or their Fast or Pil"),
    "do_image_splitting": used("must be false: pictures in several parts, each between marks, are refused"),
    "do_resize": used("whether the longer side is first resized to `size`"),
    "size": used("`longest_edge`, `data.fit.longest` here"),
    "max_image_size": used("`longest_edge` is the side of the square, which is the model's"),
    "do_pad": harmless("all pictures are of one size"),
    "do_center_crop": only(False, note="another way to size"),
    **every("crop_size pad_size", only(note="another way to size")),
}
"""Of their ``preprocessor_config.json``."""


def read_squared(config: Mapping[str, Any], size: tuple[int, int], channels: int) -> Preprocessing:
    """Their preprocessing as options of mmtx; without a file, one resize to the square of the model.

    Raises:
        UserError: it cuts pictures into parts, or its square is not the model's.
    """
    given = {key: value for key, value in config.items() if value is not None}
    kind = str(given.get("image_processor_type", TYPES[0])).removesuffix("Fast").removesuffix("Pil")
    if kind not in TYPES:
        raise UserError(f"pictures are prepared by {kind}; mmtx prepares those of this family as {', '.join(TYPES)} do")
    if config and given.get("do_image_splitting", True):
        raise UserError(
            "do_image_splitting=true: a picture becomes several with marks between them, and mmtx takes one; import "
            "it as one square with preprocessor_config.do_image_splitting=false"
        )
    whole = {**USUAL, **given} if config else {"do_resize": False, "max_image_size": {"longest_edge": size[0]}}
    side = _longest(whole, "max_image_size")
    plain = {key: given[key] for key in SHARED if key in given}
    square = {"image_processor_type": "SiglipImageProcessor", "size": side, "resample": given.get("resample", 1)}
    prepared = read_preprocessor({**plain, **square}, size, channels)
    longest = _longest(whole, "size") if whole["do_resize"] else None
    return replace(prepared, fit={**prepared.fit, "longest": longest})


def _longest(config: Mapping[str, Any], key: str) -> int:
    value = config[key]
    if not isinstance(value, Mapping) or set(value) != {"longest_edge"} or value["longest_edge"] > LARGEST:
        raise UserError(f"{key}={value}: mmtx can longest_edge, at most {LARGEST}")
    return int(value["longest_edge"])


def write_squared(ours: Mapping[str, Any], specs: Mapping[str, Spec]) -> dict[str, Config]:
    """The inverse of `read_squared`, as side files."""
    written = picture_side_files(TYPES[0], ours, specs)["preprocessor_config"]
    longest = (ours.get("data", {}).get("fit") or {}).get("longest")
    square = {"do_image_splitting": False, "max_image_size": {"longest_edge": written["size"]["height"]}}
    kept = {key: written[key] for key in ("image_processor_type", "resample", "image_mean", "image_std")}
    resized = {"do_resize": longest is not None} | ({"size": {"longest_edge": longest}} if longest else {})
    return {"preprocessor_config": {**kept, **square, **resized}}
