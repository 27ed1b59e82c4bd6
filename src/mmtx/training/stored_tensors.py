"""Tensors that are spread over ranks, apart from all else that a checkpoint holds, and back from their files."""

import math
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.distributed.checkpoint as dcp
from torch import Tensor
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageReader
from torch.distributed.checkpoint.metadata import Metadata, TensorStorageMetadata
from torch.distributed.tensor import DTensor

MARK = "in_shards"
"""The one key of what stands in the place of a tensor: by which name it lies in the shards."""
PARTS = ("state_dict", "optimizer", "average")
"""Of a checkpoint: those that may hold tensors of the size of a parameter."""


def take_apart(content: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, DTensor]]:
    """What all ranks have alike, and by name what each has a part of. One that is there twice has one name."""
    spread: dict[str, DTensor] = {}
    names: dict[Any, str] = {}

    def apart(node: Any, path: str) -> Any:
        if isinstance(node, DTensor):
            local = node.to_local()
            name = names.setdefault((local.untyped_storage()._cdata, local.storage_offset()), path)
            spread[name] = node
            return {MARK: name}
        if isinstance(node, dict):
            return {key: apart(child, f"{path}/{key}") for key, child in node.items()}
        return node

    return {key: apart(node, key) if key in PARTS else node for key, node in content.items()}, spread


def put_together(content: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Undoes `take_apart`, with tensors that are not yet read.

    Raises:
        KeyError, ValueError: the folder does not hold them.
    """
    shards = Shards(folder)

    def together(node: Any) -> Any:
        if not isinstance(node, dict):
            return node
        if node.keys() == {MARK}:
            return StoredTensor(shards, shards.known[node[MARK]], node[MARK])
        return {key: together(child) for key, child in node.items()}

    return {key: together(node) if key in PARTS else node for key, node in content.items()}


class Shards(HuggingFaceStorageReader):
    """Safetensors files of `torch.distributed.checkpoint`, each with a rank's part of every tensor.

    Args:
        folder: of the files.

    Raises:
        ValueError: some part of a tensor is missing, or a file is none of weights.
    """

    def __init__(self, folder: Path) -> None:
        from safetensors import SafetensorError  # as torch does, where there are shards to read

        super().__init__(str(folder))
        try:
            self._headers = super().read_metadata()
        except SafetensorError as error:
            raise ValueError(f"{folder}: {error}") from None
        self.known: dict[str, TensorStorageMetadata] = dict(self._headers.state_dict_metadata)  # type: ignore[arg-type]
        for name, tensor in self.known.items():
            if sum(math.prod(chunk.sizes) for chunk in tensor.chunks) != math.prod(tensor.size):
                raise ValueError(f"{folder} has not all parts of {name}")

    def read_metadata(self) -> Metadata:
        """As it was read at first, for every tensor."""
        return self._headers

    def fill(self, tensors: Mapping[str, Tensor]) -> None:
        """Reads tensors in place, and of those that are spread over ranks this rank's part.

        Raises:
            ValueError: the files hold other shapes.
        """
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*torch.distributed is disabled.*")
            try:
                dcp.load(dict(tensors), storage_reader=self, no_dist=True)
            except CheckpointException as failed:  # which is no Exception
                raise ValueError(f"{self.path} cannot be read: {failed.failures}") from None


@dataclass(frozen=True)
class StoredTensor:
    """A tensor that is not yet read."""

    shards: Shards
    described: TensorStorageMetadata
    name: str

    @property
    def shape(self) -> torch.Size:
        return self.described.size


class Reading:
    """Stored tensors that are read together, as every look into the files costs time."""

    def __init__(self) -> None:
        self._places: dict[Shards, dict[str, Tensor]] = {}

    def into(self, stored: StoredTensor, place: Tensor) -> Tensor:
        """Has a tensor read in place: whole, or cut into shards, of which no rank reads more than its own."""
        return self._places.setdefault(stored.shards, {}).setdefault(stored.name, place)

    def new(self, stored: StoredTensor, like: Tensor | None = None) -> Tensor:
        """Has it read into a new tensor, on the device of another, and cut as that is."""
        if isinstance(like, DTensor):
            return self.into(stored, torch.empty_like(like))
        device = None if like is None else like.device
        return self.into(stored, torch.empty(stored.shape, dtype=stored.described.properties.dtype, device=device))

    def finish(self) -> None:
        for shards, places in self._places.items():
            shards.fill(places)


def whole_tensors(values: Mapping[str, Any]) -> dict[str, Any]:
    """Those that are stored read, and all else as it is."""
    reading = Reading()
    found = {key: reading.new(value) if isinstance(value, StoredTensor) else value for key, value in values.items()}
    reading.finish()
    return found
