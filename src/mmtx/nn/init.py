"""Initial weights, for every module of mmtx, in one place."""

from __future__ import annotations

import math

from torch import nn


def initialise(module: nn.Module, *, std: float, residual_outputs: int = 1) -> None:
    """GPT-2's scheme (Radford et al. 2019, section 2.3).

    Linear, convolution and embedding weights are drawn from N(0, std²), biases are zero. The last linear map of each
    half of a block is scaled down by the root of the number of residual additions, so that the sum over the depth
    keeps its size.

    Args:
        module: initialised in place, children included.
        std: standard deviation; 0.02 in GPT-2, BERT and ViT alike.
        residual_outputs: halves of blocks that write to the residual stream.
    """
    for name, child in module.named_modules():
        if isinstance(child, nn.Linear | nn.Conv1d | nn.Conv2d | nn.Embedding):
            writes_residual = name.endswith((".attention.out", ".mlp.down"))
            nn.init.normal_(child.weight, std=std / math.sqrt(residual_outputs) if writes_residual else std)
            if getattr(child, "bias", None) is not None:
                nn.init.zeros_(child.bias)
