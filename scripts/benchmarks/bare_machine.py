"""For a machine that has torch, lightning and hydra-core alone."""

import importlib.util
import sys
import types
from typing import Any

DTYPES = ("Bool", "Float", "Float32", "Int", "Int16", "Int32", "Int64", "Num", "Shaped", "UInt8")
"""What mmtx imports of jaxtyping."""


def stand_in() -> None:
    """Puts a module in the place of `jaxtyping` where it is missing: nothing checks shapes there, they are comments."""
    if importlib.util.find_spec("jaxtyping") is None:
        module = types.ModuleType("jaxtyping")
        vars(module).update({name: _Shape() for name in DTYPES})
        sys.modules["jaxtyping"] = module


class _Shape:
    """``Float[Tensor, "B D"]`` is the tensor's class."""

    def __getitem__(self, given: tuple[Any, str]) -> Any:
        return given[0]
