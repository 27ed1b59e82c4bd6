"""ViT as timm stores it: a state dict, and perhaps a config.json."""

import math
import re
from collections.abc import Mapping
from typing import Any

import torch

from mmtx.data.files.supported_keys import Keys, every, harmless, only, refusals, refuse, used
from mmtx.errors import UserError
from mmtx.interop.family import Config
from mmtx.interop.image_preprocessing import RESAMPLING
from mmtx.interop.links import PARTS, Weights, renamed

HEAD_WIDTH = 64
"""Width of a head in timm's models up to a width of 1024; it does not follow from a state."""
HEADS = {1152: 16, 1280: 16, 1408: 16, 1664: 16}
"""Heads of the wider models."""
CROPS = ("center", "squash")
USUAL = {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}
"""timm's default without ``pretrained_cfg``: those of ImageNet."""

KEYS: Keys = {
    "architecture": used("refused where no weight shows what it computes: test_vit*, *quickgelu*"),
    "num_features": used("must be the width"),
    "num_classes": used("must be the rows of the head"),
    "global_pool": used("`token`; anything where there is no head"),
    "label_names": used("names of the classes, in the order of the rows or by number"),
    "label_descriptions": harmless("longer names"),
    "pretrained_cfg": used("how pictures are prepared; older files have its keys beside the others"),
    "model_args": used("what the model was made with"),
}
"""Keys of its ``config.json``."""
PRETRAINED: Keys = {
    **every(
        "url file state_dict hf_hub_id hf_hub_filename source architecture tag custom_load license description "
        "origin_url paper_name paper_ids notes",
        harmless("where it came from"),
    ),
    **every(
        "first_conv classifier pool_size test_pool_size test_input_size test_crop_pct min_input_size fixed_input_size "
        "label_descriptions",
        harmless("what it may be changed to"),
    ),
    "input_size": used("channels, height and width"),
    "interpolation": used("`data.fit.resample`"),
    "crop_pct": used("`data.fit.side`: the model's side divided by it, rounded down"),
    "crop_mode": used(" or ".join(f"`{mode}`" for mode in CROPS)),
    "mean": used("`modality.image.mean`; without it, that of ImageNet"),
    "std": used("`modality.image.std`; likewise"),
    "num_classes": used("must be the rows of the head"),
    "label_offset": only(0, note="classes that stand elsewhere in the head"),
    **every("label_names labels", used("names of the classes")),
}
"""Keys of ``pretrained_cfg`` there."""
ARGUMENTS: Keys = {
    "num_heads": used("heads; without it, they are as wide as in timm's own sizes"),
    "img_size": used("height and width"),
    **every("patch_size embed_dim depth mlp_ratio num_classes in_chans qkv_bias", harmless("the weights show it")),
    **every("dynamic_img_size dynamic_img_pad weight_init fix_init", harmless("nothing that is computed here")),
    **every(
        "drop_rate pos_drop_rate patch_drop_rate proj_drop_rate attn_drop_rate drop_path_rate",
        only(0, note="dropout"),
    ),
    "class_token": only(True, note="a model without CLS"),
    "global_pool": used("`token`; anything where there is no head"),
    **every("no_embed_class pre_norm qk_norm", only(False, note="a model of another kind")),
    "reg_tokens": only(0, note="a model of another kind"),
    "act_layer": only("gelu", note="activation, which no weight shows"),
    "init_values": only(note="a model of another kind"),
}
"""Keys of ``model_args`` there."""

RENAMES = (
    (r"^cls_token$", "vit.embeddings.cls_token"),
    (r"^pos_embed$", "vit.embeddings.position_embeddings"),
    (r"^patch_embed\.proj\.", "vit.embeddings.patch_embeddings.projection."),
    (r"^norm\.", "vit.layernorm."),
    (r"^head\.", "classifier."),
    (r"^blocks\.", "vit.encoder.layer."),
    (r"\.norm1\.", ".layernorm_before."),
    (r"\.norm2\.", ".layernorm_after."),
    (r"\.attn\.proj\.", ".attention.output.dense."),
)


def from_timm(weights: Weights, given: Config, more: Config) -> tuple[Config, Weights, Config]:
    """Config, weights and ``preprocessor_config`` of ViT, from a state of timm with its config.json.

    Raises:
        UserError: it is not a ViT with a CLS token and one table of positions, mmtx cannot follow its config, or its
            number of heads is unknown.
    """
    patches, positions = weights.get("patch_embed.proj.weight"), weights.get("pos_embed")
    if patches is None or positions is None or "cls_token" not in weights or patches.ndim != 4 or positions.ndim != 3:
        raise UserError("this state of timm is not a ViT with CLS and positions in one table")
    dim, channels, patch, _ = patches.shape
    pretrained, arguments = _checked(given, dim, len(weights.get("head.weight", ())))
    depth = 1 + max((int(key.split(".")[1]) for key in weights if re.match(r"blocks\.\d+\.", key)), default=-1)
    hidden = weights.get("blocks.0.mlp.fc1.weight", torch.empty(0))
    sides = _sides(pretrained, arguments, patch, positions.shape[1] - 1)
    config = {
        "model_type": "vit",
        "hidden_size": dim,
        "num_hidden_layers": depth,
        "num_attention_heads": more.get("num_attention_heads") or arguments.get("num_heads") or _heads(given, dim),
        "intermediate_size": len(hidden) or 4 * dim,
        "layer_norm_eps": 1e-6,
        "image_size": sides[0] if sides[0] == sides[1] else list(sides),
        "patch_size": patch,
        "num_channels": channels,
        "qkv_bias": "blocks.0.attn.qkv.bias" in weights,
    }
    names = given.get("label_names") or pretrained.get("label_names") or pretrained.get("labels")
    if names:
        config["id2label"] = names if isinstance(names, Mapping) else {str(i): name for i, name in enumerate(names)}
    return {**config, **more}, _split(weights), _preprocessor(pretrained, sides)


def _checked(given: Config, dim: int, rows: int) -> tuple[Config, Config]:
    """``pretrained_cfg`` and ``model_args``, checked."""
    if "pretrained_cfg" in given:
        pretrained, tables = given["pretrained_cfg"] or {}, KEYS
    else:  # as older versions wrote it
        pretrained, tables = {key: value for key, value in given.items() if key not in KEYS}, {**PRETRAINED, **KEYS}
    arguments = given.get("model_args") or {}
    found = [*refusals(given, tables, "config.json")]
    found += refusals(pretrained, PRETRAINED, "config.json, pretrained_cfg")
    found += refusals(arguments, ARGUMENTS, "config.json, model_args")
    for key, wanted in (("num_features", dim), ("num_classes", rows)):
        if given.get(key) not in (None, wanted):
            found.append(f"config.json: {key}={given[key]}, but the weights have {wanted}")
    pool = given.get("global_pool", arguments.get("global_pool"))
    if rows and pool not in (None, "token"):
        found.append(f"config.json: global_pool={pool}; mmtx can token")
    architecture = str(given.get("architecture"))
    if "quickgelu" in architecture:
        found.append(f"config.json: architecture={architecture} has an activation that no weight shows")
    refuse(found, "this ViT of timm")
    return pretrained, arguments


def _heads(given: Config, dim: int) -> int:
    architecture = str(given.get("architecture"))
    if dim in HEADS:
        return HEADS[dim]
    if dim % HEAD_WIDTH or dim > 1024 or architecture.startswith("test_vit"):
        raise UserError(f"this ViT of timm is {dim} wide and does not show its heads; give num_attention_heads=N")
    return dim // HEAD_WIDTH


def _sides(pretrained: Config, arguments: Config, patch: int, count: int) -> tuple[int, int]:
    """Height and width: those of the config, or a square."""
    size = arguments.get("img_size") or (pretrained.get("input_size") or [0, 0, 0])[1:]
    rows, columns = size if isinstance(size, list | tuple) else (size, size)
    if not rows:
        rows = columns = math.isqrt(max(0, count)) * patch
    if (rows // patch) * (columns // patch) != count:
        raise UserError(f"this ViT of timm has {count} positions, but {rows} x {columns} pixels in patches of {patch}")
    return rows, columns


def _preprocessor(pretrained: Config, sides: tuple[int, int]) -> Config:
    """The same as the keys of ``preprocessor_config.json``. Raises UserError for preprocessing that mmtx lacks."""
    if not pretrained:
        return {}
    mode, resample = pretrained.get("crop_mode") or CROPS[0], pretrained.get("interpolation") or "bicubic"
    if mode not in CROPS or resample not in RESAMPLING:
        raise UserError(f"crop_mode={mode}, interpolation={resample}: mmtx can {', '.join((*CROPS, *RESAMPLING))}")
    share, own = pretrained.get("crop_pct") or 0.875, {"height": sides[0], "width": sides[1]}
    side = math.floor(sides[0] / share)
    if sides[0] != sides[1] and (mode, share) != ("squash", 1):
        raise UserError(f"crop_mode={mode}, crop_pct={share}: of {sides[0]} x {sides[1]} pixels mmtx can squash, 1.0")
    preprocessor: dict[str, Any] = {"size": own, "resample": RESAMPLING.index(resample)}
    if sides[0] == sides[1]:
        whole = {"shortest_edge": side} if mode == "center" else {"height": side, "width": side}
        preprocessor |= {"size": whole, "do_center_crop": True, "crop_size": own}
    return preprocessor | {f"image_{key}": pretrained.get(key) or usual for key, usual in USUAL.items()}


def _split(weights: Weights) -> Weights:
    split: Weights = {}
    for key, value in renamed(weights, RENAMES).items():
        fused = re.fullmatch(r"(.*)\.attn\.qkv\.(weight|bias)", key)
        parts = value.chunk(3) if fused else ()
        names = [f"{fused[1]}.attention.attention.{part}.{fused[2]}" for part in PARTS] if fused else [key]
        split |= zip(names, parts or (value,), strict=True)
    return split
