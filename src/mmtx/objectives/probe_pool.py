"""Pooling by a learned query."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from mmtx.errors import InvalidValue
from mmtx.model import MultimodalTransformer
from mmtx.nn.mlp import MLP
from mmtx.nn.norms import LayerNorm
from mmtx.nn.stacked_linear import StackedLinear
from mmtx.objectives.base import required_name
from mmtx.objectives.pooling import Pool
from mmtx.tokens import HiddenStates


class ProbePool(nn.Module, Pool):
    """A learned query attends to the tokens of one name, then a residual feed-forward half (SigLIP: Zhai et al. 2023,
    arXiv 2303.15343; Zhai et al. 2022, arXiv 2106.04560).

    Args:
        name: whose tokens.
        dim: width D of its stack.
        num_heads: heads of the attention.
        activation: of the feed-forward half.
        expansion: its hidden width, as a multiple of `dim`.
        eps: of its normalisation.
    """

    roles = {"probe": "token"}

    def __init__(
        self, *, name: str, dim: int, num_heads: int, activation: nn.Module, expansion: float, eps: float
    ) -> None:
        super().__init__()
        if dim % num_heads:
            raise InvalidValue("pool.dim", dim, f"is not a multiple of pool.num_heads={num_heads}")
        self.name, self.names, self.dim, self.num_heads = name, (name,), dim, num_heads
        self.probe = nn.Parameter(torch.randn(1, dim) * 0.02)
        self.qkv, self.out = StackedLinear(dim, 3 * dim), nn.Linear(dim, dim)
        self.stored_together = {"qkv.weight": dict.fromkeys(("query", "key", "value"), dim)}
        self.norm = LayerNorm(dim, eps=eps, bias=True)
        self.mlp = MLP(dim, activation=activation, expansion=expansion, multiple_of=1, gated=False, bias=True)

    def forward(self, states: HiddenStates) -> Float[Tensor, "B D"]:
        tokens, lengths = states.tokens(self.name), states.lengths(self.name)
        read = (self.probe.expand(len(tokens), -1, -1), tokens, tokens)
        query, key, value = (
            self.qkv(x, rows=slice(i * self.dim, (i + 1) * self.dim)).unflatten(2, (self.num_heads, -1)).transpose(1, 2)
            for i, x in enumerate(read)
        )
        real = torch.arange(tokens.shape[1], device=tokens.device) < lengths[:, None]
        real = real | (lengths == 0)[:, None]  # a softmax over nothing is not a number
        attended = F.scaled_dot_product_attention(query, key, value, attn_mask=real[:, None, None])
        pooled = self.out(attended.transpose(1, 2).flatten(2))
        return (pooled + self.mlp(self.norm(pooled)))[:, 0]

    def check(self, model: MultimodalTransformer) -> None:
        required_name(self.name, model.names, "modality of the set", "pool.name")
        if model.stack_of(self.name).dim != self.dim:
            raise InvalidValue(
                "pool.dim", self.dim, "is not the width of the stack", str(model.stack_of(self.name).dim)
            )
