"""Frozen weights that are stored in fewer bits, by the library torchao (extra `quantised`)."""

from math import gcd
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.utils import parametrize

from mmtx.errors import InvalidValue, UserError

Bits = Literal["int8", "nf4"]
BLOCK, SCALES = 64, 256
"""Numbers of NF4 that share a scale, and scales that share one themselves (Dettmers et al. 2023, arXiv 2305.14314)."""


class Quantised(nn.Module):
    """A weight that is stored as int8 with a scale for each row, or as NF4 with one for each 64 numbers.

    It is the first parametrisation of a weight: what is stored are buffers, ``original0`` and on.
    """

    def __init__(self, bits: Bits, shape: torch.Size) -> None:
        super().__init__()
        if bits == "nf4" and shape.numel() % BLOCK:
            raise InvalidValue("quantised", bits, f"needs weights of a multiple of {BLOCK} numbers, not {list(shape)}")
        self.bits, self.shape = bits, shape
        self.kind: Any = None
        self.names: list[str] = []
        self.context: Any = None

    @torch.no_grad()
    def right_inverse(self, weight: Float[Tensor, "*E out in"]) -> tuple[Tensor, ...]:
        stored = _quantise(weight.detach().flatten(0, -2).float(), self.bits)
        names, self.context = stored.__tensor_flatten__()
        self.kind, self.names = type(stored), list(names)
        return tuple(getattr(stored, name) for name in names)

    @torch.no_grad()
    def forward(self, *stored: Tensor) -> Float[Tensor, "*E out in"]:
        flat, parts = self.shape.numel() // self.shape[-1], dict(zip(self.names, stored, strict=True))
        whole = self.kind.__tensor_unflatten__(parts, self.context, (flat, self.shape[-1]), (self.shape[-1], 1))
        weight: Tensor = whole.get_original_weight() if self.bits == "nf4" else whole.dequantize()
        return weight.view(self.shape)


def quantise(linear: nn.Module, bits: Bits) -> None:
    """Stores the weight of a linear map in fewer bits."""
    weight = linear.get_parameter("weight").detach()
    del linear.weight
    linear.register_buffer("weight", weight)
    parametrize.register_parametrization(linear, "weight", Quantised(bits, weight.shape))


def quantised(linear: nn.Module) -> Quantised | None:
    """How the weight of a linear map is stored in fewer bits, if it is."""
    if not parametrize.is_parametrized(linear, "weight"):
        return None
    first = linear.get_submodule("parametrizations.weight.0")
    return first if isinstance(first, Quantised) else None


def stored_parts(linear: nn.Module) -> dict[str, Tensor]:
    """What is stored of a weight in fewer bits, by the names of buffers."""
    return dict(linear.get_submodule("parametrizations.weight").named_buffers())


@torch.no_grad()
def store(linear: nn.Module, weight: Float[Tensor, "*E out in"]) -> None:
    """Stores another weight in the place of one that is stored in fewer bits."""
    own = quantised(linear)
    assert own is not None
    for ours, value in zip(stored_parts(linear).values(), own.right_inverse(weight), strict=True):
        ours.copy_(value)


def _quantise(weight: Float[Tensor, "rows in"], bits: Bits) -> Any:
    try:
        from torchao.quantization import Int8Tensor, PerRow, to_nf4
    except ImportError:
        raise UserError(f"lora.quantised={bits} needs torchao: pip install 'mmtx[quantised]'") from None
    if bits == "int8":
        return Int8Tensor.from_hp(weight, PerRow())
    return to_nf4(weight, BLOCK, gcd(weight.numel() // BLOCK, SCALES))
