"""How much each token attends to each other, recorded in a forward pass.

Axes as in `attention.rule`.
"""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mmtx.attention.kernels import Bias, Keys, Queries, Rendering
from mmtx.nn.backbone import Backbone


@dataclass(frozen=True)
class Recording:
    """Attends as another rendering does, and records the weights.

    Weights are what attention gives where the values are the rows of an identity matrix, whatever the rendering.
    """

    rendering: Rendering
    weights: list[Float[Tensor, "B Q M"]]

    def attend(
        self, q: Queries, k: Keys, v: Keys, *, bias: Bias = None, scale: float | None = None, dropout: float = 0.0
    ) -> Queries:
        num_keys, width = k.shape[2], v.shape[3]
        identity = torch.eye(num_keys, dtype=v.dtype, device=v.device)
        parts = []
        for start in range(0, num_keys, width):  # as many columns at a time as values are wide
            columns = identity[:, start : start + width]
            columns = nn.functional.pad(columns, (0, width - columns.shape[1]))
            parts.append(self.rendering.attend(q, k, columns.expand_as(v), bias=bias, scale=scale))
        self.weights.append(torch.cat(parts, dim=-1)[..., :num_keys].mean(1).detach().float())
        return self.rendering.attend(q, k, v, bias=bias, scale=scale, dropout=dropout)


@contextmanager
def attention_maps(stack: Backbone, part: str) -> Iterator[list[Float[Tensor, "B Q M"]]]:
    """Records the weights of each layer, averaged over its heads, in a forward pass of the stack within this context.

    Args:
        stack: encoder or backbone.
        part: ``attention``, or ``cross_attention``, where the keys are the tokens of the memory.
    """
    weights: list[Tensor] = []

    def record(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        x, rendering, *rest = args
        return (x, Recording(rendering, weights), *rest), kwargs

    # compiled code would not run the hooks
    eager = torch.compiler.set_stance("force_eager") if stack.is_compiled else nullcontext()
    hooks = [getattr(block, part).register_forward_pre_hook(record, with_kwargs=True) for block in stack.blocks]
    try:
        with eager:
            yield weights
    finally:
        for hook in hooks:
            hook.remove()
