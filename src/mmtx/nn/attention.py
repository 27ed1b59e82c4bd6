"""Multi-head attention under a `Rendering` of a rule, and a decoder's cache of keys and values."""

from collections.abc import Callable, Sequence
from typing import Literal, get_args

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from mmtx.attention.kernels import KEYS, Bias, Keys, Queries, Rendering, whole
from mmtx.errors import InvalidValue, check_at_least, check_fraction
from mmtx.nn.cache import LayerCache, MixerCache
from mmtx.nn.layer_context import LayerContext
from mmtx.nn.mixer import Mixer
from mmtx.nn.neighbour_memory import NeighbourMemory
from mmtx.nn.rotary import rotate
from mmtx.nn.stacked_linear import StackedLinear

STEEPEST_SLOPE = 4.0
"""Initial slopes of a bias of pairs are spread evenly from 0 to it, so that some heads attend to contacts at once."""

Linear = Literal["query", "key", "value", "out"]
LINEARS: tuple[Linear, ...] = get_args(Linear)
NormalisedWidth = Literal["head", "all"]


class KeyValueCache(MixerCache):
    """Keys and values of earlier tokens, in a buffer of fixed capacity.

    Attributes:
        bias: of queries, keys and values side by side; None until a first call has computed it.
    """

    rewinds = replays = streams = True

    def __init__(self, capacity: int) -> None:
        self.capacity, self._filled = capacity + -capacity % KEYS, 0
        self.bias: Tensor | None = None
        self._keys: Tensor | None = None
        self._values: Tensor | None = None

    def select(self, index: Int[Tensor, " rows"]) -> None:
        """Keeps some rows, in any order, any number of times; as many as before stay in the same buffer."""
        if self._keys is not None and self._values is not None:
            self._keys, self._values = (self._selected(buffer, index) for buffer in (self._keys, self._values))

    def drop(self, place: int | Int[Tensor, " B"]) -> None:
        self._filled -= 1
        for buffer in (buffer for buffer in (self._keys, self._values) if buffer is not None):
            if isinstance(place, int):
                buffer[:, :, place : self._filled] = buffer[:, :, place + 1 : self._filled + 1].clone()
                continue
            others = torch.arange(self._filled, device=place.device)
            others = (others + (others >= place[:, None]))[:, None, :, None]
            buffer[:, :, : self._filled] = torch.take_along_dim(buffer, others, dim=2)

    def extend(
        self, k: Float[Tensor, "B G n E"], v: Float[Tensor, "B G n E"], past: int | Int[Tensor, " 1"]
    ) -> tuple[Float[Tensor, "B G M E"], Float[Tensor, "B G M E"]]:
        """Puts keys and values behind the first `past`, and gives all up to them; where only the device knows how many
        those are, all that there is room for."""
        if self._keys is None or self._values is None:
            self._keys = k.new_zeros(*k.shape[:2], self.capacity, k.shape[3])  # what is masked has to be finite
            self._values = torch.zeros_like(self._keys)
        if isinstance(past, Tensor):
            return self._keys.index_copy_(2, past, k), self._values.index_copy_(2, past, v)
        self._filled = stop = past + k.shape[2]
        self._keys[:, :, past:stop] = k
        self._values[:, :, past:stop] = v
        return self._keys[:, :, :stop], self._values[:, :, :stop]

    def _selected(self, buffer: Float[Tensor, "B G C E"], index: Int[Tensor, " rows"]) -> Float[Tensor, "rows G C E"]:
        kept = buffer[:, :, : self._filled][index]
        if len(kept) != len(buffer):
            buffer = buffer.new_empty(len(kept), *buffer.shape[1:])
        buffer[:, :, : self._filled] = kept
        return buffer


class Attention(Mixer):
    """Scaled dot-product attention with grouped queries. Made by ``attention(dim, num_heads)``.

    Args:
        dim: width D.
        num_heads: query heads H.
        head_dim: width E of a head; None: ``dim / num_heads``.
        num_kv_heads: key and value heads G, a divisor of H (Ainslie et al. 2023, arXiv 2305.13245); None: H.
        bias: which of query, key, value and out have a bias (Whisper's key has none).
        scale: true divides scores by ``sqrt(head width)``, false by nothing (T5), a number by its root (Gemma 2).
        qk_norm: ``qk_norm(width)`` normalises queries and keys (Dehghani et al. 2023, arXiv 2302.05442).
        qk_norm_over: ``head`` by head, or ``all`` heads as one (OLMo 2, OLMoE).
        clip: keeps queries, keys and values within ± this, after their norms (OLMoE); None: as they are.
        dropout: of attention weights.
        sinks: a learned score of each head joins the softmax and takes its share, so that a head may attend to nothing
            (gpt-oss, arXiv 2508.10925; at its initial value of 0, Miller 2023, "Attention is off by one").
        softcap: scores s of the own set become ``softcap · tanh(s / softcap)`` (Gemma 2); None: as they are.
        neighbours: ``neighbours(num_heads)`` makes what finds keys that the window of the layer has left behind;
            None: nothing.
        pair_bias: each head adds the number of every two tokens, `LayerContext.pairs`, times a slope of its own
            (Jumper et al. 2021, supplement, algorithm 7, of one number a pair). Tokens without pairs are attended to
            as ever.
    """

    roles = {"biases.*": "bias", "sinks": "bias", "pair_slopes": "gain"}
    writes_residual = ("out.weight",)
    head_dim: int
    packs = True

    def __init__(
        self,
        dim: int,
        num_heads: int,
        *,
        head_dim: int | None,
        num_kv_heads: int | None,
        bias: Sequence[Linear],
        scale: bool | float,
        qk_norm: Callable[[int], nn.Module] | None,
        qk_norm_over: NormalisedWidth,
        dropout: float,
        clip: float | None = None,  # absent in stored configs of earlier versions
        sinks: bool = False,  # absent in stored configs of earlier versions
        softcap: float | None = None,  # absent in stored configs of earlier versions
        neighbours: Callable[[int], NeighbourMemory] | None = None,  # this too
        pair_bias: bool = False,  # and this
    ) -> None:
        super().__init__()
        if head_dim is None and dim % num_heads:
            near = " or ".join(str(times * num_heads) for times in (dim // num_heads, dim // num_heads + 1) if times)
            raise InvalidValue("dim", dim, f"is not a multiple of num_heads={num_heads}", near)
        check_at_least("attention.head_dim", head_dim, 1)
        num_kv_heads = num_heads if num_kv_heads is None else num_kv_heads
        if num_kv_heads < 1 or num_heads % num_kv_heads:
            raise InvalidValue("attention.num_kv_heads", num_kv_heads, f"does not divide num_heads={num_heads}")
        for linear in bias:
            if linear not in LINEARS:
                raise InvalidValue("attention.bias", list(bias), f"may name {', '.join(LINEARS)}; not {linear}")
        check_fraction("attention.dropout", dropout)
        if clip is not None and clip <= 0:
            raise InvalidValue("attention.clip", clip, "must be above 0")
        self.dim, self.heads_grow = dim, head_dim is None
        self.num_heads, self.num_kv_heads, self.head_dim = num_heads, num_kv_heads, head_dim or dim // num_heads
        if softcap is not None and softcap <= 0:
            raise InvalidValue("attention.softcap", softcap, "must be above 0")
        self.dropout, self.clip, self.softcap, self.scale = dropout, clip, softcap, _factor(scale)
        kv_width = num_kv_heads * self.head_dim
        widths = {"query": num_heads * self.head_dim, "key": kv_width, "value": kv_width}
        self.widths = list(widths.values())
        self.qkv = StackedLinear(dim, sum(self.widths), bias=False)
        self.stored_together = {"qkv.weight": widths}
        self.biases = nn.ParameterDict({name: torch.zeros(widths[name]) for name in LINEARS[:3] if name in bias})
        self.out = nn.Linear(widths["query"], dim, bias="out" in bias)
        self.norms_all_heads = qk_norm_over == "all"
        query_width, key_width = (widths["query"], kv_width) if self.norms_all_heads else (self.head_dim, self.head_dim)
        self.query_norm = qk_norm(query_width) if qk_norm else None
        self.key_norm = qk_norm(key_width) if qk_norm else None
        self.sinks = nn.Parameter(torch.zeros(num_heads)) if sinks else None
        self.neighbours = neighbours(num_heads) if neighbours is not None else None
        self.needs_time_order = self.needs_window = self.neighbours is not None
        self.pair_slopes = nn.Parameter(torch.linspace(0, STEEPEST_SLOPE, num_heads)) if pair_bias else None
        self.needs_pairs, self.packs = pair_bias, not pair_bias

    def forward(
        self,
        x: Float[Tensor, "B N D"],
        context: LayerContext,
        *,
        bias: Bias = None,
        cache: MixerCache | None = None,
    ) -> Float[Tensor, "B N D"]:
        """Every token attends to those of its own set that the rendering allows."""
        assert cache is None or isinstance(cache, KeyValueCache)
        parts = self.qkv(x, self._bias(cache)).split(self.widths, dim=-1)
        q, k, v = self._queries(parts[0]), *self._keys_and_values(parts[1], parts[2])
        plain = q, k, v
        if context.rotary is not None:
            q, k = rotate(q, context.rotary), k if context.key_rotary is not None else rotate(k, context.rotary)
        if cache is not None:
            k, v = cache.extend(k, v, context.past)
        if context.key_rotary is not None:
            k = rotate(k, context.key_rotary)
        attended = self._attend(q, k, v, context.rendering, self._with_pairs(bias, context, x))
        return self._joined(attended if self.neighbours is None else self.neighbours(attended, *plain, context))

    def cross_attend(
        self,
        x: Float[Tensor, "B N D"],
        context: LayerContext,
        *,
        memory: Float[Tensor, "B M D"],
        cache: LayerCache | None = None,
    ) -> Float[Tensor, "B N D"]:
        """Every token attends to a memory, whose keys and values are computed once where there is a cache."""
        assert context.memory_rendering is not None
        bias, of_queries, of_memory = self._bias(), slice(self.widths[0]), slice(self.widths[0], None)
        q = self._queries(self.qkv(x, None if bias is None else bias[of_queries], of_queries))
        kv = cache.memory if cache is not None else None
        if kv is None:
            both = self.qkv(memory, None if bias is None else bias[of_memory], of_memory)
            kv = self._keys_and_values(*both.split(self.widths[1:], dim=-1))
            if cache is not None:
                cache.memory = kv
        return self._joined(self._attend(q, *kv, context.memory_rendering, None))

    def new_cache(self, capacity: int) -> KeyValueCache | None:
        """None where `neighbours` need keys that are not rotated, too, and where pairs are known of whole sets: all is
        computed again then."""
        return KeyValueCache(capacity) if self.neighbours is None and not self.needs_pairs else None

    def scale_scores(self, base_width: int) -> None:
        """Divides scores by the width of heads instead of its root where it grows with the model: queries and keys
        become alike. Where `head_dim` is given, wider models have more heads, and scores stay as they are."""
        if self.heads_grow and base_width % self.num_heads:
            raise InvalidValue("base_width", base_width, f"is not a multiple of num_heads={self.num_heads}")
        if not self.heads_grow and self.num_heads * base_width % self.dim:
            heads = f"{self.num_heads * base_width / self.dim:g} heads of attention.head_dim={self.head_dim}"
            raise InvalidValue("base_width", base_width, f"would have {heads}, for num_heads={self.num_heads} here")
        if self.heads_grow and base_width != self.dim:
            ratio = self.dim / base_width
            self.scale = (self.head_dim * ratio) ** -0.5 if self.scale is None else self.scale / ratio

    def _attend(self, q: Queries, k: Keys, v: Keys, rendering: Rendering, bias: Bias) -> Queries:
        dropout = self.dropout if self.training else 0.0
        return rendering.attend(q, k, v, bias=bias, scale=self.scale, dropout=dropout, sinks=self.sinks)

    def _with_pairs(self, bias: Bias, context: LayerContext, x: Float[Tensor, "B N D"]) -> Bias:
        if self.pair_slopes is None:
            return bias
        pairs = x.new_zeros(1, x.shape[1], x.shape[1]) if context.pairs is None else context.pairs
        own = (self.pair_slopes[:, None, None] * pairs[:, None]).to(x.dtype)
        given = whole(bias)
        return own if given is None else given + own

    def _joined(self, heads: Queries) -> Float[Tensor, "B N D"]:
        return self.out(heads.transpose(1, 2).flatten(2))

    def _queries(self, q: Float[Tensor, "B N width"]) -> Queries:
        return self._clipped(self._normalised(q, self.query_norm))

    def _keys_and_values(self, k: Float[Tensor, "B M kv"], v: Float[Tensor, "B M kv"]) -> tuple[Keys, Keys]:
        return self._clipped(self._normalised(k, self.key_norm)), self._clipped(self._heads(v))

    def _normalised(self, x: Float[Tensor, "B N width"], norm: nn.Module | None) -> Float[Tensor, "B heads N E"]:
        """The heads of queries or keys."""
        if norm is None:
            return self._heads(x)
        return self._heads(norm(x)) if self.norms_all_heads else norm(self._heads(x))

    def _clipped(self, x: Float[Tensor, "B heads N E"]) -> Float[Tensor, "B heads N E"]:
        return x if self.clip is None else x.clamp(-self.clip, self.clip)

    def _heads(self, x: Float[Tensor, "B N width"]) -> Float[Tensor, "B heads N E"]:
        return x.unflatten(-1, (-1, self.head_dim)).transpose(1, 2)

    def _bias(self, cache: KeyValueCache | None = None) -> Tensor | None:
        if cache is not None and cache.bias is not None:
            return cache.bias
        if not self.biases:
            return None
        parts = [
            self.biases[name] if name in self.biases else self.qkv.weight.new_zeros(width)
            for name, width in zip(LINEARS[:3], self.widths, strict=True)
        ]
        bias = torch.cat(parts)
        if cache is not None:
            cache.bias = bias
        return bias


def _factor(scale: bool | float) -> float | None:
    """Of scores; None: the root of a head's width divides them."""
    if isinstance(scale, bool):
        return None if scale else 1.0
    if scale <= 0:
        raise InvalidValue("attention.scale", scale, "must be above 0", "true, or false")
    return float(scale) ** -0.5
