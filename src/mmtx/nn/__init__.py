"""Plain torch, blind to modality: attention, positions, blocks, heads."""

from mmtx.public_names import of_room

__getattr__, __dir__ = of_room(__name__, __path__)
