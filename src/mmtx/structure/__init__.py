"""Chains in space: their geometry, losses, and layers that attend in space."""

from mmtx.public_names import of_room

__getattr__, __dir__ = of_room(__name__, __path__)
