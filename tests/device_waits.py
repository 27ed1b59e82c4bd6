"""A stand-in for tensors of a device, and a mode that finds what the host would wait for."""

from __future__ import annotations

import traceback
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode, resolve_name

READS = {"item", "tolist", "numpy", "cpu", "__bool__", "__int__", "__float__", "__index__", "__contains__", "__array__"}
SIZED_BY_VALUES = {
    "nonzero",
    "argwhere",
    "masked_select",
    "unique",
    "unique_consecutive",
    "equal",
    "allclose",
    "bincount",
}
TORCH = str(Path(torch.__file__).parent)
MADE_ON_THE_HOST = {"tensor", "as_tensor", "new_tensor"}


class OnDevice(Tensor):
    """Stands for a tensor of another device, and so does all that is computed from it."""


class Waits(TorchFunctionMode):
    """Counts calls for which the host would wait on a GPU, and what of mmtx makes them. What is on the host is no
    `OnDevice`."""

    def __init__(self) -> None:
        super().__init__()
        self.found: Counter[str] = Counter()

    def __torch_function__(self, call: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name, kwargs = (resolve_name(call) or getattr(call, "__name__", "")).rpartition(".")[2], kwargs or {}
        if waits(name, args, kwargs):
            callers = traceback.extract_stack()[:-1]
            by_torch = TORCH in callers[-1].filename and not isinstance(args[0], OnDevice)  # moves gradients in place
            ours = [caller.name for caller in callers if "/src/mmtx/" in caller.filename]
            self.found.update([] if by_torch else [f"{name} in {ours[-1]}" if ours else name])
        return call(*args, **kwargs)


def waits(name: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> bool:
    first = args[0] if args else None
    if name in MADE_ON_THE_HOST:
        return kwargs.get("device") is not None or isinstance(first, OnDevice)
    if name == "to" and isinstance(first, Tensor):
        device = next((a for a in (*args[1:], kwargs.get("device")) if isinstance(a, torch.device | str)), None)
        return device is not None and not isinstance(first, OnDevice) and not kwargs.get("non_blocking")
    if not isinstance(first, OnDevice):
        return False
    by_mask = name in ("__getitem__", "__setitem__") and any(
        isinstance(i, Tensor) and i.dtype == torch.bool for i in (args[1] if isinstance(args[1], tuple) else args[1:2])
    )
    repeats = name == "repeat_interleave" and "output_size" not in kwargs and isinstance(args[-1], Tensor)
    one_sided = name == "where" and len(args) == 1
    return by_mask or repeats or one_sided or name in READS or name in SIZED_BY_VALUES
