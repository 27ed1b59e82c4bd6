"""Reads ``model.bin`` of CTranslate2, a list of named arrays."""

import math
import struct
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mmtx.errors import UserError
from mmtx.interop.links import Weights

DTYPES = (torch.float32, torch.int8, torch.int16, torch.int32, torch.float16, torch.bfloat16)
"""By the number in the file (CTranslate2's ``DataType``)."""


def read_model_bin(file: Path) -> tuple[Weights, dict[str, Any]]:
    """Weights in float32, dequantised; and the scalars that describe the model.

    Raises:
        UserError: the file is damaged, or has another format.
    """
    try:
        spec, arrays = _Reader(file.read_bytes()).arrays()
    except (struct.error, IndexError, ValueError, UnicodeDecodeError) as error:
        raise UserError(f"{file} cannot be read as a model of CTranslate2: {error}; it may be cut or altered") from None
    scales = {key.removesuffix("_scale"): value for key, value in arrays.items() if key.endswith("_scale")}
    weights: Weights = {}
    scalars: dict[str, Any] = {"spec": spec}
    for key, value in arrays.items():
        if not value.ndim:
            scalars[key] = value.item()
        elif key in scales:
            scale = scales[key].float()
            weights[key] = value.float() / scale.reshape(-1, *[1] * (value.ndim - 1))  # one for each row, or for all
        elif not key.endswith("_scale"):
            weights[key] = value.float() if value.is_floating_point() else value
    return weights, scalars


class _Reader:
    """Reads values in order, and checks that they are within the file."""

    def __init__(self, data: bytes) -> None:
        self._data, self._at = memoryview(data), 0

    def arrays(self) -> tuple[str, dict[str, Tensor]]:
        """Name of the kind of model, and its arrays. Aliases, which name arrays a second time, are skipped."""
        version = self._number("I")
        if not 5 <= version <= 6:
            raise ValueError(f"version {version} is not one that is known (5, 6)")
        spec = self._text()
        self._number("I")  # revision of the spec
        arrays = {}
        for _ in range(self._number("I")):
            name = self._text()
            shape = [self._number("I") for _ in range(self._number("B"))]
            kind, size = self._number("B"), self._number("I")
            dtype = DTYPES[kind]
            if size != math.prod(shape) * dtype.itemsize:
                raise ValueError(f"{name} of shape {shape} cannot have {size} bytes")
            content = bytearray(self._bytes(size))
            arrays[name] = torch.frombuffer(content, dtype=dtype).reshape(shape) if size else torch.empty(shape)
        return spec, arrays

    def _bytes(self, count: int) -> memoryview:
        if self._at + count > len(self._data):
            raise ValueError(f"it ends at byte {len(self._data)}, and {self._at + count} are announced")
        self._at += count
        return self._data[self._at - count : self._at]

    def _number(self, code: str) -> int:
        return struct.unpack(f"<{code}", self._bytes(struct.calcsize(f"<{code}")))[0]

    def _text(self) -> str:
        return bytes(self._bytes(self._number("H"))).rstrip(b"\0").decode()
