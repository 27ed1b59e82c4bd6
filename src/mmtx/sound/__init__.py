"""Spectrograms of sounds, and sounds of spectrograms."""

from mmtx.public_names import of_room

__getattr__, __dir__ = of_room(__name__, __path__)
