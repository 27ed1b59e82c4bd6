"""Initial weights, for every module of mmtx, in one place."""

import math

from torch import nn

STANDARD_WIDTH = 768
"""The width at which GPT-2, BERT and ViT chose a standard deviation of 0.02."""


def initialise(module: nn.Module, *, std: float, residual_outputs: int = 1) -> None:
    """Draws weights from normal distributions; biases are zero.

    The weight of a linear map gets `std` at a fan-in of 768, as in GPT-2, BERT and ViT, and at any other the same
    output variance: ``std · sqrt(768 / fan_in)``, for 0.02 close to PyTorch's own ``1 / sqrt(3 fan_in)``. The last
    linear map of each half of a block is divided by the root of the number of residual additions, so that the residual
    stream keeps its variance over the depth (Radford et al. 2019, section 2.3). Embeddings get `std`.

    Args:
        module: initialised in place, children included.
        std: standard deviation at a fan-in of 768.
        residual_outputs: halves of blocks that write to the residual stream.
    """
    for name, child in module.named_modules():
        if isinstance(child, nn.Embedding):
            nn.init.normal_(child.weight, std=std)
        elif isinstance(child, nn.Linear | nn.Conv1d | nn.Conv2d):
            scaled = std * math.sqrt(STANDARD_WIDTH / child.weight[0].numel())
            writes_residual = name.endswith(("attention.out", ".mlp.down"))
            nn.init.normal_(child.weight, std=scaled / math.sqrt(residual_outputs) if writes_residual else scaled)
            if child.bias is not None:
                nn.init.zeros_(child.bias)
