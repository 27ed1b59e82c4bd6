"""What CLIP and its relatives share: a tower of pictures and one of texts, which never meet."""

from collections.abc import Mapping
from typing import Any

from mmtx.data.files.supported_keys import Keys, defaults, harmless, refusals, refuse, used
from mmtx.errors import UserError
from mmtx.interop.common_keys import CONFIG, DECODER_FLAGS, NO_CLASSES, SILENT, encoder_decoder
from mmtx.interop.family import Config, at
from mmtx.interop.feed_forward import activation_name, feed_forward, hidden_width
from mmtx.interop.links import PARTS, Link, both, same, stacked

BLOCK = {
    "attention.out": "self_attn.out_proj",
    "attention_norm": "layer_norm1",
    "mlp.up": "mlp.fc1",
    "mlp.down": "mlp.fc2",
    "mlp_norm": "layer_norm2",
}
SAME = {
    "dim": "hidden_size",
    "num_layers": "num_hidden_layers",
    "num_heads": "num_attention_heads",
    "norm.eps": "layer_norm_eps",
    "attention.dropout": "attention_dropout",
}
"""``{path in a stack: key of its part of the config}``."""

BOTH_KEYS: Keys = {
    **CONFIG,
    **NO_CLASSES,
    **DECODER_FLAGS,
    **encoder_decoder(False),
    "initializer_factor": harmless("new weights"),
}
"""Of the whole config."""
TOWER_KEYS: Keys = {
    **BOTH_KEYS,
    **SILENT,
    "hidden_size": used("width", 768),
    "num_hidden_layers": used("layers", 12),
    "num_attention_heads": used("heads", 12),
    "intermediate_size": used("width of the feed-forward half", 3072),
    "attention_dropout": used("dropout of attention", 0.0),
    "initializer_range": harmless("new weights"),
    "tie_word_embeddings": harmless("there is no head over words"),
}
"""Of the part of one tower."""
PICTURE_KEYS: Keys = {
    **TOWER_KEYS,
    "image_size": used("height and width in pixels", 224),
    "patch_size": used("square patches", 16),
    "num_channels": used("channels", 3),
}


def tower_config(config: Config, part: str, keys: Keys) -> Config:
    """A tower's part of a config with all missing keys; what older versions wrote beside it goes before.

    Raises:
        UserError: mmtx cannot follow it.
    """
    given = {key: value for key, value in (config.get(part) or {}).items() if value is not None}
    beside = config.get(f"{part}_dict")
    if beside is not None:
        given |= defaults(keys) | {key: value for key, value in beside.items() if value is not None}
    refuse([*refusals(given, keys, f"config.json, {part}")], "the model")
    return {**defaults(keys), **given}


def square_side(config: Config) -> int:
    """The side of the pictures. Raises UserError where they are not square."""
    size = config["image_size"]
    if isinstance(size, list) and len(set(size)) == 1:
        return int(size[0])
    if not isinstance(size, int):
        raise UserError(f"image_size={size}: the pictures of this family are square")
    return size


def tower_values(config: Config, stack: str) -> dict[str, Any]:
    """Options of a stack."""
    values = {f"{stack}.{path}": config[key] for path, key in SAME.items()}
    return values | feed_forward(config["hidden_act"], config["intermediate_size"], config["hidden_size"], stack)


def config_of_tower(ours: Mapping[str, Any], stack: str) -> Config:
    """The inverse of `tower_values`."""
    node = at(ours, stack)
    return {key: at(node, path) for path, key in SAME.items()} | {
        "hidden_act": activation_name(at(node, "mlp.activation")),
        "intermediate_size": hidden_width(at(node, "mlp"), at(node, "dim")),
    }


def tower_links(ours: str, theirs: str, num_layers: int) -> list[Link]:
    """Links of the blocks of a stack, whose queries, keys and values are three linear maps there."""
    links: list[Link] = []
    for layer in range(num_layers):
        block, there = f"{ours}.blocks.{layer}", f"{theirs}.encoder.layers.{layer}"
        maps = {part: f"{there}.self_attn.{part[0]}_proj" for part in PARTS}
        links.append(stacked(f"{block}.attention.qkv.weight", [f"{name}.weight" for name in maps.values()]))
        links += [same(f"{block}.attention.biases.{part}", f"{name}.bias") for part, name in maps.items()]
        links += [link for here, name in BLOCK.items() for link in both(f"{block}.{here}", f"{there}.{name}")]
    return links
