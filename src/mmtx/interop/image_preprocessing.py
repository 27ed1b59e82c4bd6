"""The preprocessing of pictures of public models: resized, cropped, and normalised."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mmtx.data.files.supported_keys import Keys, every, harmless, only, used
from mmtx.errors import UserError
from mmtx.interop.family import Config

RESAMPLING = ("nearest", "lanczos", "bilinear", "bicubic", "box", "hamming")
"""By the number that Pillow gives them."""
DEIT: Config = {"size": 256, "do_center_crop": True, "crop_size": 224, "resample": 3}
CLIP: Config = {
    "size": {"shortest_edge": 224},
    "do_center_crop": True,
    "crop_size": 224,
    "resample": 3,
    "image_mean": [0.48145466, 0.4578275, 0.40821073],
    "image_std": [0.26862954, 0.26130258, 0.27577711],
}
DINOV3: Config = {"size": 224, "resample": 2, "image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225]}
VIDEOMAE: Config = {**DINOV3, "size": {"shortest_edge": 224}, "do_center_crop": True, "crop_size": 224}
FLOATS = "DINOv3ViTImageProcessor"
"""The type that resizes numbers; others resize bytes."""
DEFAULTS: dict[str, Config] = {
    **dict.fromkeys(("ViTImageProcessor", "ViTFeatureExtractor"), {}),
    **dict.fromkeys(("DeiTImageProcessor", "DeiTFeatureExtractor"), DEIT),
    **dict.fromkeys(("BitImageProcessor", "CLIPImageProcessor", "CLIPFeatureExtractor"), CLIP),
    "SiglipImageProcessor": {"size": 224, "resample": 3},
    FLOATS: DINOV3,
    **dict.fromkeys(("VideoMAEImageProcessor", "VideoMAEFeatureExtractor"), VIDEOMAE),
}
"""Of each type, where they are not those of ViT."""
TYPES = tuple(DEFAULTS)

_SAME = only(True, note="a size of one number is height and width")
PREPROCESSOR: Keys = {
    **every("image_processor_type feature_extractor_type", used(f"{', '.join(TYPES)}, or their Fast or Pil")),
    "processor_class": harmless("where it came from"),
    "do_resize": used("false: pictures have the size of the model already"),
    "size": used("height and width, or `shortest_edge`: the model's, or what it is cut from (perhaps a pixel apart)"),
    "resample": used("how pictures are resized: Pillow's number, `data.fit.resample` here"),
    "do_center_crop": used("the middle is cut out"),
    "crop_size": used("its height and width, which are the model's"),
    "default_to_square": _SAME,
    "do_rescale": used("false: pixels stay in 0..255; goes into `modality.image.mean` and `std`"),
    "rescale_factor": used("pixels are multiplied by it; the same"),
    "do_normalize": used("false: neither mean nor standard deviation"),
    "image_mean": used("`modality.image.mean`"),
    "image_std": used("`modality.image.std`"),
    "do_convert_rgb": harmless("the data's `channels`"),
    "do_pad": only(False, note="a border"),
    **every("pad_size crop_pct", only(note="another way to size")),
    "data_format": only("channels_first", note="order of the axes"),
    "input_data_format": only("channels_first", "channels_last", note="order of the axes in a call"),
    **every("return_tensors device disable_grouping _valid_processor_keys", harmless("what a call takes and returns")),
}
"""Of a ``preprocessor_config.json`` of pictures."""


@dataclass(frozen=True)
class Preprocessing:
    """The preprocessing as options of mmtx.

    Attributes:
        mean: of ``modality.image``, for pixels in 0..1, one per channel.
        std: likewise.
        fit: ``data.fit`` of `mmtx.data.ImageFolder`.
    """

    mean: list[float]
    std: list[float]
    fit: Config


def read_preprocessor(config: Mapping[str, Any], size: tuple[int, int], channels: int) -> Preprocessing:
    """The content of a ``preprocessor_config.json`` as options of mmtx.

    Raises:
        UserError: mmtx has no such preprocessing, or its size is not the model's.
    """
    config = _whole(config)
    factor = config.get("rescale_factor", 1 / 255) if config.get("do_rescale", True) else 1.0
    normalise = config.get("do_normalize", True)
    mean = config.get("image_mean", 0.5) if normalise else 0.0
    std = config.get("image_std", 0.5) if normalise else 1.0
    scaled_mean, scaled_std = (
        [value / (255 * factor) for value in _per_channel(key, given, channels)]
        for key, given in (("image_mean", mean), ("image_std", std))
    )
    return Preprocessing(scaled_mean, scaled_std, _fit(config, size))


def prepared_size(config: Mapping[str, Any], size: tuple[int, int]) -> tuple[int, int]:
    """Height and width of the pictures that a ``preprocessor_config.json`` gives; without one, those of the model.

    Raises:
        UserError: mmtx has no such preprocessing, or it gives pictures of several sizes.
    """
    whole = _whole(config)
    if not config or not whole.get("do_resize", True):
        return size
    if whole.get("do_center_crop"):
        return _sides(whole.get("crop_size", whole.get("size", size)), "crop_size")
    return _sides(whole.get("size", size), "size")


def _whole(config: Mapping[str, Any]) -> Config:
    """A config with the defaults of its type. Raises UserError where mmtx does not know the type."""
    return DEFAULTS[_type(config)] | {key: value for key, value in config.items() if value is not None}


def _type(config: Mapping[str, Any]) -> str:
    """One of `TYPES`. Raises UserError where mmtx does not know it."""
    kind = str(config.get("image_processor_type") or config.get("feature_extractor_type") or TYPES[0])
    known = kind.removesuffix("Fast").removesuffix("Pil")
    if known not in DEFAULTS:
        raise UserError(f"pictures are prepared by {kind}; mmtx prepares them as {', '.join(TYPES)} do")
    return known


def _per_channel(key: str, given: Any, channels: int) -> list[float]:
    values = [given] if isinstance(given, int | float) else list(given)
    if len(values) not in (1, channels):
        raise UserError(f"{key}={given} has {len(values)} numbers, and the model's pictures have {channels} channels")
    return values * (channels // len(values))


def _fit(config: Mapping[str, Any], size: tuple[int, int]) -> Config:
    floats = _type(config) == FLOATS
    if not config.get("do_resize", True):
        if config.get("do_center_crop"):
            raise UserError(
                "do_resize=False, do_center_crop=True: mmtx cuts the middle out of pictures that it resized"
            )
        return fit(stretch=True, side=None, resample="bilinear", floats=floats)
    whole = config.get("size", size)
    stretch = not (isinstance(whole, Mapping) and set(whole) == {"shortest_edge"})
    resized = _sides(whole if stretch else whole["shortest_edge"], "size")
    cuts = bool(config.get("do_center_crop"))
    last = _sides(config.get("crop_size", resized), "crop_size") if cuts else resized
    if last != size or not (stretch or cuts):
        raise UserError(
            f"pictures are prepared by size={whole}, do_center_crop={cuts}, crop_size={config.get('crop_size')}; "
            f"that is not the {size[0]} x {size[1]} of the model"
        )
    if resized != last and (resized[0] != resized[1] or resized[0] < max(last)):
        raise UserError(f"size={whole}, crop_size={list(last)}: mmtx cuts the middle out of squares that are larger")
    resample = config.get("resample", 2)
    if resample not in range(len(RESAMPLING)):
        raise UserError(f"resample={resample} is none of Pillow's 0..{len(RESAMPLING) - 1}")
    side = resized[0] if cuts and (resized != last or not stretch) else None
    return fit(stretch=stretch, side=side, resample=RESAMPLING[resample], floats=floats)


def fit(*, stretch: bool, side: int | None, resample: str, floats: bool = False) -> Config:
    node = {"_target_": "mmtx.data.Fit", "stretch": stretch, "side": side, "resample": resample}
    return {**node, "floats": floats}


def _sides(size: Any, key: str) -> tuple[int, int]:
    if isinstance(size, Mapping) and set(size) == {"height", "width"}:
        return size["height"], size["width"]
    if isinstance(size, int):
        return size, size
    if isinstance(size, Sequence) and len(size) == 2 and all(isinstance(side, int) for side in size):
        return size[0], size[1]
    raise UserError(f"{key}={size}: mmtx can height and width")


def write_preprocessor(
    kind: str, mean: list[float], std: list[float], size: tuple[int, int], data_fit: Mapping[str, Any]
) -> Config:
    """The inverse of `read_preprocessor`, of one of `TYPES`."""
    rows, columns = size
    config: Config = {
        "image_processor_type": kind,
        "do_resize": True,
        "do_center_crop": False,
        "size": {"height": rows, "width": columns},
        "resample": RESAMPLING.index(data_fit.get("resample", "bicubic")),
        "image_mean": mean,
        "image_std": std,
    }
    stretch, side = data_fit.get("stretch", False), data_fit.get("side")
    if not stretch or side is not None:
        config |= {"do_center_crop": True, "crop_size": config["size"]}
        config["size"] = {"height": side, "width": side} if stretch else {"shortest_edge": side or min(size)}
    return config
