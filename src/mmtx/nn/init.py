"""Initial weights, for every module of mmtx, in one place."""

import math

from torch import nn

from mmtx.nn.roles import LOOKED_UP, MULTIPLYING, is_stacked, known_roles, residual_writers

STANDARD_WIDTH = 768
"""The width at which GPT-2, BERT and ViT chose a standard deviation of 0.02."""


def initialise(module: nn.Module, *, std: float, residual_outputs: int = 1) -> None:
    """Draws weights from normal distributions, by their roles; biases are zero. Other parameters stay as they are.

    What multiplies gets `std` at a fan-in of 768, as in GPT-2, BERT and ViT, and at any other the same output variance:
    ``std · sqrt(768 / fan_in)``, for 0.02 close to PyTorch's own ``1 / sqrt(3 fan_in)``. What writes to the
    residual stream (`residual_writers`) is divided by the root of the number of its additions, so that the stream keeps
    its variance over the depth (Radford et al. 2019, section 2.3). Embeddings and tables of positions get `std`. A
    child that has drawn its own (`draws_weights`) stays as it is: a stack within a tokenizer.

    Args:
        module: initialised in place, children included.
        std: standard deviation at a fan-in of 768.
        residual_outputs: halves of blocks that write to the residual stream.
    """
    roles, writers, drawn = known_roles(module), residual_writers(module), _drawn_within(module)
    for name, parameter in module.named_parameters():
        if id(parameter) in drawn:
            continue
        role, path = roles.get(name), name.rpartition(".")[0]
        if role in LOOKED_UP:
            nn.init.normal_(parameter, std=std)
        elif role in MULTIPLYING:
            is_transposed = getattr(module.get_submodule(path), "transposed", False)  # of a convolution: inputs first
            one = parameter[0] if is_stacked(parameter, role) else parameter
            fan_in = (one[:, 0] if is_transposed else one[0]).numel()
            scaled = std * math.sqrt(STANDARD_WIDTH / fan_in)
            nn.init.normal_(parameter, std=scaled / math.sqrt(residual_outputs) if name in writers else scaled)
        elif role == "bias":
            nn.init.zeros_(parameter)


def _drawn_within(module: nn.Module) -> set[int]:
    """The ids of parameters of children that draw their own."""
    drawing = (child for child in module.modules() if child is not module and getattr(child, "draws_weights", False))
    return {id(parameter) for child in drawing for parameter in child.parameters()}
