"""mmtx: experiments with multimodal transformers. Chop everything up and throw it into the set."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mmtx.build import build, load

__all__ = ["build", "load"]


def __getattr__(name: str) -> Any:
    """`build` and `load` bring torch with them, so they come when they are asked for."""
    if name not in __all__:
        raise AttributeError(f"module 'mmtx' has no attribute '{name}'")
    import mmtx.build

    return getattr(mmtx.build, name)
