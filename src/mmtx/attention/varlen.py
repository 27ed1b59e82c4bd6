"""Attention over rows of any lengths by FlashAttention, for packed rows and windows on a GPU. Axes as in `kernels`."""

from dataclasses import dataclass
from functools import cache
from inspect import signature
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.attention.varlen import varlen_attn

from mmtx.attention.kernels import Bias, Keys, Queries, Sinks
from mmtx.attention.packing import Packing

HALF = (torch.float16, torch.bfloat16)

UNLIMITED = -1

ASKS_FOR_GROUPS = "enable_gqa" in signature(varlen_attn).parameters
"""Fewer key heads than query heads have to be announced; torch 2.11 takes them as they come."""


@dataclass(frozen=True)
class Varlen:
    """Segments that lie side by side, each attending within itself; in half precision, as its kernels have no other.

    Attributes:
        reach: how many tokens a query sees before itself and after itself, -1: all; itself not counted.
        dtype: of the computation.
        starts: where each segment starts in the row, and at last where the row ends; None: each row is a segment.
        longest: at least as many tokens as any segment has. A power of two, so that compiled code meets few of them.
    """

    reach: tuple[int, int]
    dtype: torch.dtype
    starts: Int[Tensor, " segments_plus_one"] | None = None
    longest: int = 0

    @classmethod
    def of(cls, is_causal: bool, window: int | None, packing: Packing | None, dtype: torch.dtype) -> "Varlen":
        """The arguments of the kernel, made without waiting for the device.

        Args:
            is_causal: a token attends to none after itself.
            window: it attends to tokens nearer than so many places; None: to all.
            packing: of the row; None: rows are samples.
            dtype: of the computation.
        """
        before = UNLIMITED if window is None else window - 1
        reach = before, 0 if is_causal else before
        if packing is None:
            return cls(reach, dtype)
        ends = F.pad(packing.real.sum(1).cumsum(0), (1, 1), value=0)
        ends[-1] = len(packing.index)
        return cls(reach, dtype, ends.int(), 1 << (max(packing.segment_lengths) - 1).bit_length())

    def attend(
        self,
        q: Queries,
        k: Keys,
        v: Keys,
        *,
        bias: Bias = None,
        scale: float | None = None,
        dropout: float = 0.0,
        sinks: Sinks = None,
    ) -> Queries:
        if dropout or bias is not None or sinks is not None:
            raise ValueError(
                "neither dropout of attention nor a bias of positions nor sinks can be computed by varlen_attn"
            )
        rows, heads, length, width = q.shape
        starts, longest = self.starts, self.longest
        if starts is None:
            starts = torch.arange(0, (rows + 1) * length, length, dtype=torch.int32, device=q.device)
            longest = length
        grouped: dict[str, Any] = {"enable_gqa": True} if ASKS_FOR_GROUPS and k.shape[1] != heads else {}
        scale = width**-0.5 if scale is None else scale  # that of the width before it is filled up
        q8, k8, v8 = (self._flat(x) for x in (q, k, v))
        how: dict[str, Any] = {"scale": scale, "window_size": self.reach, **grouped}
        attended = varlen_attn(q8, k8, v8, starts, starts, longest, longest, **how)
        assert isinstance(attended, Tensor)
        return attended[..., :width].unflatten(0, (rows, length)).transpose(1, 2).to(q.dtype)

    def _flat(self, x: Float[Tensor, "B heads N E"]) -> Float[Tensor, "tokens heads E8"]:
        """All rows side by side, heads as wide as a multiple of 8, which the kernels need."""
        flat, missing = x.to(self.dtype).transpose(1, 2).flatten(0, 1), -x.shape[3] % 8
        return F.pad(flat, (0, missing)) if missing else flat


@cache
def has_varlen(device: torch.device) -> bool:
    """A device has the kernels: FlashAttention 2, from NVIDIA's compute capability 8 on."""
    return device.type == "cuda" and torch.cuda.get_device_capability(device) >= (8, 0)
