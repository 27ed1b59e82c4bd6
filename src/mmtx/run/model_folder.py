"""A model folder: a run's weights and what mmtx knows of them, by which it is evaluated, used and trained on exactly.

    model.safetensors   weights by the names that mmtx has for them; their moving average where the run kept one
    mmtx.json           config, specs, vocabularies and statistics; tensors of these are among the weights
    config.yaml         the config again, for ``mmtx train --config``

Nothing in it can be executed, and it needs no other file.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from mmtx.config.migrations import FORMAT
from mmtx.config.redaction import redacted
from mmtx.errors import UserError
from mmtx.hub.model_files import DESCRIPTION, OWN, SIDE_FILES, WEIGHTS
from mmtx.interop.atomic_output import atomic_folder
from mmtx.interop.weights import read_safetensors, write_safetensors
from mmtx.run.directory import RunDirectory

STORED = "model.safetensors"
DESCRIBED = "described."
"""Prefix of the tensors of the description, which are numbered."""
TENSOR, TUPLE = "<tensor>", "<tuple>"
"""Keys of what stands in the description for a tensor, and for a tuple."""


def write_model_folder(weights: Mapping[str, Tensor], description: Mapping[str, Any], folder: Path) -> None:
    """Writes a model folder.

    Args:
        weights: of a learner.
        description: what `described` gives, and more; plain values and tensors.
        folder: made where it is missing.

    Raises:
        InvalidValue: it cannot be written, or holds another model.
    """
    tensors: list[Tensor] = []
    plain = redacted({**_plain(description, tensors), "format": FORMAT})
    named = {f"{DESCRIBED}{number}": tensor for number, tensor in enumerate(tensors)}
    with atomic_folder(folder, conflicting=(*OWN, *SIDE_FILES, *WEIGHTS)) as target:
        write_safetensors({**weights, **named}, target / STORED)
        text = json.dumps(plain, ensure_ascii=False, indent=1)
        (target / DESCRIPTION).write_text(text + "\n", encoding="utf-8", errors="backslashreplace")
        RunDirectory(target).write_config(dict(description["config"]))


def read_model_folder(folder: Path) -> dict[str, Any]:
    """What `read_checkpoint` gives of a checkpoint with the same weights.

    Raises:
        UserError: a file cannot be read, or is not what mmtx writes.
    """
    tensors = read_safetensors(folder / STORED)
    weights = {f"learner.{key}": tensors[key] for key in tensors if not key.startswith(DESCRIBED)}
    try:
        plain = json.loads((folder / DESCRIPTION).read_text(encoding="utf-8"))
        return {"mmtx": _restored(plain, tensors), "state_dict": weights}
    except (OSError, ValueError, LookupError, TypeError, RecursionError) as error:
        raise UserError(f"{folder / DESCRIPTION} cannot be read: {error}; it may be cut or altered") from None


def _plain(node: Any, tensors: list[Tensor]) -> Any:
    """The same for JSON; tensors are put aside."""
    if isinstance(node, Tensor):
        tensors.append(node)
        return {TENSOR: len(tensors) - 1}
    if isinstance(node, Mapping):
        assert all(isinstance(key, str) for key in node), "JSON has keys of text alone"
        return {key: _plain(value, tensors) for key, value in node.items()}
    if isinstance(node, tuple):
        return {TUPLE: [_plain(value, tensors) for value in node]}
    return [_plain(value, tensors) for value in node] if isinstance(node, list) else node


def _restored(node: Any, tensors: Mapping[str, Tensor]) -> Any:
    if isinstance(node, list):
        return [_restored(value, tensors) for value in node]
    if not isinstance(node, dict):
        return node
    if node.keys() == {TENSOR}:
        return tensors[f"{DESCRIBED}{node[TENSOR]}"]
    if node.keys() == {TUPLE}:
        return tuple(_restored(value, tensors) for value in node[TUPLE])
    return {key: _restored(value, tensors) for key, value in node.items()}
