"""mmtx: experiments with multimodal transformers. Chop everything up and throw it into the set."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mmtx import interop
    from mmtx.experiment import build
    from mmtx.interop import from_pretrained
    from mmtx.run.checkpoint_content import load
    from mmtx.run.import_export import to_pretrained
    from mmtx.tokens import Clock

__all__ = ["Clock", "build", "from_pretrained", "interop", "load", "to_pretrained"]

_ROOMS = ("data", "interop", "modalities", "nn", "objectives", "run", "sweep", "training")
_HOMES = {
    "Clock": "mmtx.tokens",
    "build": "mmtx.experiment",
    "load": "mmtx.run.checkpoint_content",
    "from_pretrained": "mmtx.interop",
    "to_pretrained": "mmtx.run.import_export",
}


def __getattr__(name: str) -> Any:
    """What is here brings torch with it, so it comes when it is first needed."""
    if name in _ROOMS:
        return import_module(f"mmtx.{name}")
    if name not in _HOMES:
        raise AttributeError(f"module 'mmtx' has no attribute '{name}'")
    return getattr(import_module(_HOMES[name]), name)
