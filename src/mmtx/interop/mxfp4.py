"""Weights in MXFP4: numbers of four bits, of which each 32 share an exponent (OCP Microscaling Formats, version 1.0,
sections 5.3.3 and 6.3), as the files of gpt-oss hold them."""

from collections.abc import Mapping

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from mmtx.errors import UserError
from mmtx.interop.links import Weights

MAGNITUDES = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0)
"""Of the three lower bits; the fourth is the sign."""

BIAS = 127
"""What is added to exponents in the file."""


def decoded(weights: Mapping[str, Tensor]) -> Weights:
    """Weights of a file, with ``name_blocks`` and ``name_scales`` as one ``name``, whose last two axes are exchanged.

    Raises:
        UserError: one of the two is missing, or does not fit the other.
    """
    found = dict(weights)
    for key in [key for key in weights if key.endswith("_blocks")]:
        name = key.removesuffix("_blocks")
        blocks, scales = found.pop(key), found.pop(f"{name}_scales", None)
        if scales is None or blocks.shape[:-1] != scales.shape or {blocks.dtype, scales.dtype} != {torch.uint8}:
            raise UserError(f"{key} needs {name}_scales of shape {list(blocks.shape[:-1])}, both of type uint8")
        found[name] = numbers(blocks, scales).mT.contiguous()
    return found


def numbers(blocks: UInt8[Tensor, "*rows groups bytes"], scales: UInt8[Tensor, "*rows groups"]) -> Float[Tensor, "..."]:
    """The numbers of each row, group after group. A byte holds two, the first in its lower half."""
    table = torch.tensor([*MAGNITUDES, *(-each for each in MAGNITUDES)])
    halves = torch.stack([blocks & 15, blocks >> 4], dim=-1).flatten(-2)
    exponents = scales.int()[..., None] - BIAS
    return torch.ldexp(table[halves.int()], exponents).flatten(-2)
