"""Many runs from one command: planned and checked, one process each, on as many devices as there are."""

from mmtx.public_names import of_room

__getattr__, __dir__ = of_room(__name__, __path__)
