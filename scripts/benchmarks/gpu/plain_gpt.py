"""A GPT-2 in plain torch, as short as it can be: the peer of training steps.

Pre-norm blocks of causal attention and a GELU half, learned positions, the head tied to the embedding (Radford et al.
2019); one fused product for queries, keys and values, and torch's own attention.
"""

from torch import Tensor, arange, nn
from torch.nn import functional

from benchmarks.gpt import Shape


class Block(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.before_attention, self.before_mlp = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU("tanh"), nn.Linear(4 * width, width))

    def forward(self, x: Tensor) -> Tensor:
        rows, length, width = x.shape
        shaped = self.qkv(self.before_attention(x)).view(rows, length, 3, self.heads, width // self.heads)
        q, k, v = shaped.permute(2, 0, 3, 1, 4)
        attended = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.out(attended.transpose(1, 2).reshape(rows, length, width))
        return x + self.mlp(self.before_mlp(x))


class PlainGPT(nn.Module):
    """Gives the mean cross-entropy of the next ids.

    Args:
        shape: its sizes.
    """

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.ids = nn.Embedding(shape.vocabulary, shape.width)
        self.places = nn.Embedding(shape.context, shape.width)
        self.blocks = nn.Sequential(*(Block(shape.width, shape.heads) for _ in range(shape.layers)))
        self.norm = nn.LayerNorm(shape.width)
        for module in self.modules():
            if isinstance(module, nn.Linear | nn.Embedding):
                nn.init.normal_(module.weight, std=0.02)

    def forward(self, ids: Tensor) -> Tensor:
        """Of ids [rows, context + 1]."""
        inputs, targets = ids[:, :-1], ids[:, 1:]
        x = self.ids(inputs) + self.places(arange(inputs.shape[1], device=ids.device))
        logits = functional.linear(self.norm(self.blocks(x)), self.ids.weight)
        return functional.cross_entropy(logits.flatten(0, 1), targets.flatten())
