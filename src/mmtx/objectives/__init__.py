"""One file per objective: what is predicted, its head, its loss, its statistics."""

from mmtx.public_names import of_room

__getattr__, __dir__ = of_room(__name__, __path__)
