"""The transformer: a stack of blocks that sees tokens, their positions and which attend to which, and nothing else."""

from collections.abc import Callable
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from mmtx.attention.kernels import Bias, Rendering
from mmtx.attention.memory_rule import Memory, MemoryRule
from mmtx.attention.packing import Packing
from mmtx.attention.rule import Connectivity
from mmtx.errors import InvalidValue, check_at_least, check_fraction
from mmtx.nn.attention import LayerCache
from mmtx.nn.init import initialise
from mmtx.nn.positions import Positions, RotaryTable


class Backbone(nn.Module):
    """A stack of transformer blocks.

    Args:
        cross_attention: every block also attends to a memory, between self-attention and feed-forward.
        dim: width D.
        num_layers: blocks.
        num_heads: attention heads; divides `dim`.
        attention: ``attention(dim, num_heads)`` makes a block's attention.
        mlp: ``mlp(dim)`` makes a block's feed-forward half.
        norm: ``norm(dim)`` makes a normalisation.
        positions: the position scheme.
        input_norm: normalise the input (BERT, the decision transformer).
        norm_first: normalise before each half (GPT-2) or after its residual sum (BERT).
        final_norm: normalise the output of the last block.
        dropout: of the embedding and of the output of each half.
        drop_path: chance of skipping a half of a block for a whole sample (Huang et al. 2016, arXiv 1603.09382),
            rising linearly from 0 in the first block to this value in the last; a stack of one block has none.
        layer_scale: initial value of a learned scale on each half's output (Touvron et al. 2021, arXiv 2103.17239).
        window: reach of local layers, in positions.
        window_pattern: one letter a layer, repeated over the depth: G is global, L local; None: all are global.
        init_std: standard deviation of initial weights, see `mmtx.nn.init`.
        activation_checkpointing: recompute blocks in the backward pass to save memory.
        compile: compile each block with `torch.compile`.
        flex: render connectivity by FlexAttention (long packed rows on a GPU).
    """

    def __init__(
        self,
        *,
        cross_attention: bool,
        dim: int,
        num_layers: int,
        num_heads: int,
        attention: Callable[[int, int], nn.Module],
        mlp: Callable[[int], nn.Module],
        norm: Callable[[int], nn.Module],
        positions: Positions,
        input_norm: bool,
        norm_first: bool,
        final_norm: bool,
        dropout: float,
        drop_path: float,
        layer_scale: float | None,
        window: int | None,
        window_pattern: str | None,
        init_std: float,
        activation_checkpointing: bool,
        compile: bool,
        flex: bool,
    ) -> None:
        super().__init__()
        for key, value in (("dim", dim), ("num_layers", num_layers), ("num_heads", num_heads)):
            check_at_least(key, value, 1)
        check_fraction("dropout", dropout)
        check_fraction("drop_path", drop_path)
        self.dim, self.cross_attention, self.positions, self.init_std = dim, cross_attention, positions, init_std
        self.windows = layer_windows(num_layers, window, window_pattern)
        self.activation_checkpointing, self.flex = activation_checkpointing, flex
        self.input_norm, self.embed_dropout = norm(dim) if input_norm else nn.Identity(), nn.Dropout(dropout)
        self.position_bias = positions.bias(num_heads) if positions.bias else None
        self.blocks = nn.ModuleList(
            Block(
                dim,
                attention=attention(dim, num_heads),
                cross_attention=attention(dim, num_heads) if cross_attention else None,
                mlp=mlp(dim),
                norm=norm,
                norm_first=norm_first,
                dropout=dropout,
                drop_path=drop_path * layer / max(num_layers - 1, 1),
                layer_scale=layer_scale,
            )
            for layer in range(num_layers)
        )
        first = self.blocks[0]
        assert isinstance(first, Block)
        assert isinstance(first.attention.head_dim, int)
        self.head_dim = first.attention.head_dim
        if positions.rotary is not None:
            _check_head_dim(dim, self.head_dim, least=2 * len(positions.rotary.axes))
        self.final_norm = norm(dim) if final_norm else nn.Identity()
        initialise(self, std=init_std, residual_outputs=(3 if cross_attention else 2) * num_layers)
        self.is_compiled = compile
        if compile:
            for block in self.blocks:
                block.compile()  # in place, so that state-dict keys stay clean

    def forward(
        self,
        x: Float[Tensor, "B N D"],
        connectivity: Connectivity,
        cache: list[LayerCache] | None = None,
        memory: Memory | None = None,
    ) -> Float[Tensor, "B N D"]:
        """Args:
        x: content plus place of the query tokens (all, or the last `num_queries`).
        connectivity: of all tokens.
        cache: keys and values of the tokens before those in `x`, one per block.
        memory: the keys of cross-attention.
        """
        if (memory is not None) != self.cross_attention:
            raise ValueError(f"a stack with cross_attention={self.cross_attention} got memory={memory is not None}")
        renderings = {window: connectivity.render(window, self.flex) for window in dict.fromkeys(self.windows)}
        rotary = None
        if self.positions.rotary is not None:
            rotary = self.positions.rotary.table(connectivity.query_position, self.head_dim)
        bias = None
        if self.position_bias is not None:
            bias = connectivity.bias(self.position_bias)
        memory_rendering = MemoryRule(connectivity, memory.connectivity).render() if memory is not None else None
        memory_hidden = memory.hidden if memory is not None else None
        x = self.embed_dropout(self.input_norm(x.to(next(self.parameters()).dtype)))  # positions come in float32
        for layer, block in enumerate(self.blocks):
            run: Callable[..., Tensor] = block
            if self.activation_checkpointing and self.training:
                run = partial(checkpoint, block, use_reentrant=False)
            layer_cache, rendering = cache[layer] if cache else None, renderings[self.windows[layer]]
            x = run(x, rendering, rotary, bias, layer_cache, memory_hidden, memory_rendering, connectivity.packing)
        return self.final_norm(x)

    def new_cache(self, capacity: int) -> list[LayerCache]:
        """An empty cache for at most `capacity` tokens."""
        return [LayerCache(capacity) for _ in self.blocks]


class Block(nn.Module):
    """Self-attention, cross-attention if there is a memory, then feed-forward; each with a residual connection."""

    def __init__(
        self,
        dim: int,
        *,
        attention: nn.Module,
        cross_attention: nn.Module | None,
        mlp: nn.Module,
        norm: Callable[[int], nn.Module],
        norm_first: bool,
        dropout: float,
        drop_path: float,
        layer_scale: float | None,
    ) -> None:
        super().__init__()
        self.norm_first = norm_first
        self.attention_norm, self.attention = norm(dim), attention
        self.attention_add = Residual(dim, dropout, drop_path, layer_scale)
        if cross_attention is not None:
            self.cross_attention_norm, self.cross_attention = norm(dim), cross_attention
            self.cross_attention_add = Residual(dim, dropout, drop_path, layer_scale)
        self.mlp_norm, self.mlp = norm(dim), mlp
        self.mlp_add = Residual(dim, dropout, drop_path, layer_scale)

    def forward(
        self,
        x: Float[Tensor, "B N D"],
        rendering: Rendering,
        rotary: RotaryTable | None,
        bias: Bias,
        cache: LayerCache | None,
        memory: Float[Tensor, "B S D"] | None,
        memory_rendering: Rendering | None,
        packing: Packing | None,
    ) -> Float[Tensor, "B N D"]:
        if self.norm_first:
            added = self.attention(self.attention_norm(x), rendering, rotary, bias, cache)
            x = self.attention_add(x, added, packing)
            if memory is not None:
                added = self.cross_attention(self.cross_attention_norm(x), memory_rendering, cache=cache, memory=memory)
                x = self.cross_attention_add(x, added, packing)
            return self.mlp_add(x, self.mlp(self.mlp_norm(x)), packing)
        added = self.attention(x, rendering, rotary, bias, cache)
        x = self.attention_norm(self.attention_add(x, added, packing))
        if memory is not None:
            added = self.cross_attention(x, memory_rendering, cache=cache, memory=memory)
            x = self.cross_attention_norm(self.cross_attention_add(x, added, packing))
        return self.mlp_norm(self.mlp_add(x, self.mlp(x), packing))


class Residual(nn.Module):
    """The residual connection around a half of a block: dropout, learned scale, drop path."""

    roles = {"scale": "gain"}

    def __init__(self, dim: int, dropout: float, drop_path: float, layer_scale: float | None) -> None:
        super().__init__()
        self.dropout, self.drop_path = nn.Dropout(dropout), drop_path
        self.scale = None if layer_scale is None else nn.Parameter(torch.full((dim,), layer_scale))

    def forward(
        self, x: Float[Tensor, "B N D"], added: Float[Tensor, "B N D"], packing: Packing | None = None
    ) -> Float[Tensor, "B N D"]:
        if self.scale is None and not self.training:
            return x + added
        added = self.dropout(added)
        if self.scale is not None:
            added = added * self.scale
        if self.drop_path and self.training:
            num_samples = len(added) if packing is None else len(packing.lengths)
            share = added.new_empty(num_samples, 1, 1).bernoulli_(1 - self.drop_path) / (1 - self.drop_path)
            added = added * (share if packing is None else packing.spread(share))
        return x + added


def _check_head_dim(dim: int, head_dim: int, least: int) -> None:
    if head_dim % 2 or head_dim < least:
        need = f"an even one of at least {least}"
        raise InvalidValue("dim", dim, f"gives heads of width {head_dim}; rotary positions need {need}")


def layer_windows(num_layers: int, window: int | None, pattern: str | None) -> list[int | None]:
    """The window of each layer; None where it is global."""
    check_at_least("window", window, 1)
    if pattern is None:
        return [None] * num_layers
    if not pattern or set(pattern) - {"L", "G"}:
        raise InvalidValue("window_pattern", pattern, "must be letters L (local) and G (global)", "LLLG")
    if "L" in pattern and window is None:
        raise InvalidValue("window", window, f"must be given for the local layers of window_pattern={pattern}")
    return [window if pattern[layer % len(pattern)] == "L" else None for layer in range(num_layers)]
