"""Reads and writes files of weights, without executing anything in them."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mmtx.errors import UserError
from mmtx.interop.ctranslate2 import read_model_bin
from mmtx.interop.links import Weights

NAMES = (
    *("model.safetensors", "model.safetensors.index.json"),
    *("pytorch_model.bin", "pytorch_model.bin.index.json", "model.bin"),
)
"""Files of weights in a folder; the first that exists is read. The last is CTranslate2's."""

STATES = ("state_dict_ema", "model_ema", "model_state_dict", "state_dict", "model")
"""Keys of the model's state in a training checkpoint; the first that exists is read: averages, as timm does."""
PARALLEL = "module."
"""Prefix of the weights of a model that was wrapped for several devices."""


def weights_file(folder: Path) -> Path:
    """The file of weights in a folder. Raises UserError if there is none."""
    for name in NAMES:
        if (folder / name).is_file():
            return folder / name
    raise UserError(f"{folder} holds no weights (looked for {', '.join(NAMES)})")


def model_file(path: Path | str) -> Path:
    """The file of weights of a public model. Raises UserError where the path is none, without reading weights."""
    place = Path(path).expanduser()
    if not place.exists():
        raise UserError(f"{path} does not exist; give a folder or a file of weights")
    return weights_file(place) if place.is_dir() else place


def read_weights(file: Path) -> tuple[Weights, dict[str, Any]]:
    """Weights in float32, and what else the file has of the model (`dims` of openai's Whisper, heads of CTranslate2).

    Raises:
        UserError: it cannot be read, or would run code.
    """
    if file.name.endswith(".index.json"):
        return _read_shards(file), {}
    if file.suffix == ".safetensors":
        return _floats(_read_safetensors(file)), {}
    if file.name == "model.bin":
        return read_model_bin(file)
    return _read_torch(file)


def write_safetensors(weights: Mapping[str, Tensor], file: Path) -> None:
    from safetensors.torch import save_file

    save_file({key: value.detach().cpu().contiguous() for key, value in weights.items()}, file, {"format": "pt"})


def _read_safetensors(file: Path) -> Weights:
    """Reads a file; of a tensor with two names, it may have one in its metadata (`save_model`)."""
    from safetensors import SafetensorError, safe_open
    from safetensors.torch import load_file

    try:
        weights = load_file(file)
        with safe_open(file, "pt") as opened:
            names = opened.metadata() or {}
        return weights | {
            name: weights[kept] for name, kept in names.items() if kept in weights and name not in weights
        }
    except (SafetensorError, OSError, ValueError) as error:
        raise UserError(f"{file} cannot be read as safetensors: {error}; it may be cut or altered") from None


def _read_shards(index: Path) -> Weights:
    try:
        names = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{index} is not an index of shards: {error}") from None
    weights: Weights = {}
    for name in names:
        if not isinstance(name, str) or Path(name).name != name:
            raise UserError(f"{index} names a shard outside its folder: {name}")
        if not (index.parent / name).is_file():
            raise UserError(f"{index} names the shard {name}, which is not there")
        weights |= read_weights(index.parent / name)[0]
    return weights


def _read_torch(file: Path) -> tuple[Weights, dict[str, Any]]:
    try:
        content = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # many kinds, from the archive, the pickle and the tensors
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(f"{file} cannot be read as weights alone, and nothing in it is executed: {reason}") from None
    rest: dict[str, Any] = {}
    if isinstance(content, dict):
        for key in STATES:
            if isinstance(content.get(key), dict):
                rest = {name: value for name, value in content.items() if name != key}
                content = content[key]
                break
    if not isinstance(content, dict) or not all(isinstance(value, Tensor) for value in content.values()):
        raise UserError(f"{file} holds no state of a model")
    if all(key.startswith(PARALLEL) for key in content):
        content = {key.removeprefix(PARALLEL): value for key, value in content.items()}
    return _floats(content), rest


def _floats(weights: Mapping[str, Tensor]) -> Weights:
    return {key: value.float() if value.is_floating_point() else value for key, value in weights.items()}
