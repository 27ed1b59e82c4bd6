"""How much each token attends to each other, recorded in a forward pass.

Axes as in `attention.rule`.
"""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mmtx.attention.kernels import Bias, Keys, Queries, Rendering, Sinks
from mmtx.nn.backbone import Backbone
from mmtx.nn.layer_context import LayerContext


@dataclass(frozen=True)
class Recording:
    """Attends as another rendering does, and records the weights.

    Weights are what attention gives where the values are the rows of an identity matrix, whatever the rendering.
    """

    rendering: Rendering
    weights: dict[int, Float[Tensor, "B Q M"]]
    layer: int

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
        num_keys, width = k.shape[2], v.shape[3]
        identity = torch.eye(num_keys, dtype=v.dtype, device=v.device)
        parts = []
        for start in range(0, num_keys, width):  # as many columns at a time as values are wide
            columns = identity[:, start : start + width]
            columns = nn.functional.pad(columns, (0, width - columns.shape[1]))
            parts.append(self.rendering.attend(q, k, columns.expand_as(v), bias=bias, scale=scale, sinks=sinks))
        self.weights[self.layer] = torch.cat(parts, dim=-1)[..., :num_keys].mean(1).detach().float()
        return self.rendering.attend(q, k, v, bias=bias, scale=scale, dropout=dropout, sinks=sinks)


@contextmanager
def attention_maps(
    stack: Backbone, part: Literal["attention", "cross_attention"]
) -> Iterator[dict[int, Float[Tensor, "B Q M"]]]:
    """Records the weights of each layer that attends, averaged over its heads, in a forward pass of the stack within
    this context.

    Args:
        stack: encoder or backbone.
        part: ``attention``, or ``cross_attention``, where the keys are the tokens of the memory.
    """
    weights: dict[int, Tensor] = {}

    def record(layer: int, module: nn.Module, args: tuple[Tensor, LayerContext], kwargs: dict[str, Any]) -> Any:
        x, context = args
        if part == "attention":
            context = replace(context, rendering=Recording(context.rendering, weights, layer))
        elif context.memory_rendering is not None:
            context = replace(context, memory_rendering=Recording(context.memory_rendering, weights, layer))
        return (x, context), kwargs

    # compiled code would not run the hooks
    eager = torch.compiler.set_stance("force_eager") if stack.is_compiled else nullcontext()
    hooks = [
        block.register_forward_pre_hook(partial(record, layer), with_kwargs=True)
        for layer, block in enumerate(stack.blocks)
    ]
    try:
        with eager:
            yield weights
    finally:
        for hook in hooks:
            hook.remove()
