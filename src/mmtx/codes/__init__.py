"""Codes of pictures, films and sounds: quantisers, and the networks that encode into codes and decode them."""

from mmtx.public_names import of_room

__getattr__, __dir__ = of_room(__name__, __path__)
