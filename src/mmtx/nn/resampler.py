"""A projector to a fixed number of tokens, by learned queries."""

from functools import partial

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from mmtx.errors import InvalidValue, check_at_least
from mmtx.nn.mlp import MLP
from mmtx.nn.norms import LayerNorm
from mmtx.nn.projector import Projector

EPS = 1e-5
EXPANSION = 4.0
"""Of the feed-forward half, as Flamingo has it."""


class Resampler(Projector):
    """Learned queries attend, layer after layer, to all tokens of a sample and to each other (the Perceiver resampler
    of Flamingo: Alayrac et al. 2022, arXiv 2204.14198, section 3.1.1).

    Args:
        num_queries: tokens that a sample becomes, however long it is.
        num_layers: of attention and feed-forward.
        num_heads: of the attention.
        causal: each token attends to itself and to those before it, in the decoder; false: they attend to each other.
    """

    keeps_tokens = False
    roles = {"queries": "token"}

    def __init__(
        self,
        *,
        from_dim: int,
        dim: int,
        extent: tuple[int, ...],
        num_queries: int,
        num_layers: int,
        num_heads: int,
        causal: bool = False,
    ) -> None:
        for key, value in (("num_queries", num_queries), ("num_layers", num_layers), ("num_heads", num_heads)):
            check_at_least(key, value, 1)
        if dim % num_heads:
            raise InvalidValue("num_heads", num_heads, f"does not divide the width of the set, {dim}")
        super().__init__(from_dim=from_dim, dim=dim, extent=(num_queries,), causal=causal)
        self.into = nn.Linear(from_dim, dim)
        self.queries = nn.Parameter(torch.randn(num_queries, dim) * 0.02)
        self.layers = nn.ModuleList(_Layer(dim, num_heads) for _ in range(num_layers))
        self.norm = LayerNorm(dim, eps=EPS, bias=True)

    def num_tokens(self, lengths: Int[Tensor, " B"]) -> Int[Tensor, " B"]:
        return (lengths > 0) * self.extent[0]

    def forward(self, hidden: Float[Tensor, "B n F"], lengths: Int[Tensor, " B"]) -> Float[Tensor, "B m D"]:
        tokens = self.into(hidden)
        real = torch.arange(tokens.shape[1], device=tokens.device) < lengths[:, None]
        real = F.pad(real, (0, self.extent[0]), value=True)  # and the queries
        queries = self.queries.expand(len(tokens), -1, -1)
        for layer in self.layers:
            queries = layer(queries, tokens, real)
        return self.norm(queries)


class _Layer(nn.Module):
    """Queries attend to tokens and to themselves, then a feed-forward half; both are added."""

    writes_residual = ("out.weight",)

    def __init__(self, dim: int, num_heads: int) -> None:
        super().__init__()
        norm = partial(LayerNorm, eps=EPS, bias=True)
        self.num_heads = num_heads
        self.token_norm, self.query_norm, self.mlp_norm = norm(dim), norm(dim), norm(dim)
        self.query, self.out = nn.Linear(dim, dim, bias=False), nn.Linear(dim, dim, bias=False)
        self.key_value = nn.Linear(dim, 2 * dim, bias=False)
        self.stored_together = {"key_value.weight": {"key": dim, "value": dim}}
        self.mlp = MLP(dim, activation=nn.GELU(), expansion=EXPANSION, multiple_of=1, gated=False, bias=False)

    def forward(
        self, queries: Float[Tensor, "B m D"], tokens: Float[Tensor, "B n D"], real: Bool[Tensor, "B n+m"]
    ) -> Float[Tensor, "B m D"]:
        own = self.query_norm(queries)
        pair = self.key_value(torch.cat([self.token_norm(tokens), own], dim=1)).chunk(2, dim=-1)
        query, key, value = (x.unflatten(2, (self.num_heads, -1)).transpose(1, 2) for x in (self.query(own), *pair))
        attended = F.scaled_dot_product_attention(query, key, value, attn_mask=real[:, None, None])
        queries = queries + self.out(attended.transpose(1, 2).flatten(2))
        return queries + self.mlp(self.mlp_norm(queries))
