"""mmtx: experiments with multimodal transformers. Chop everything up and throw it into the set."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mmtx.experiment import build
    from mmtx.run.loading import load

__all__ = ["build", "load"]

_HOMES = {"build": "mmtx.experiment", "load": "mmtx.run.loading"}


def __getattr__(name: str) -> Any:
    """`build` and `load` bring torch with them, so they come when they are asked for."""
    if name not in _HOMES:
        raise AttributeError(f"module 'mmtx' has no attribute '{name}'")
    return getattr(import_module(_HOMES[name]), name)
