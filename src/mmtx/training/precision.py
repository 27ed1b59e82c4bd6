"""What numbers a run computes with: from config to Lightning's plugin."""

from typing import Literal

import torch
from lightning.pytorch.plugins.precision import MixedPrecision, Precision
from torch import nn

PrecisionName = Literal["32-true", "bf16-mixed", "16-mixed", "bf16-true"]


class BFloat16Weights(MixedPrecision):
    """Weights, gradients and the optimiser's state in bfloat16, and operations as in ``bf16-mixed``.

    Batches stay as they are, since a waveform in bfloat16 would be another sound, and so do buffers: tables of angles
    or distances would lose their places. Where the two meet, the context of mixed precision casts. Norms, losses and
    sums are computed in float32, in which the average of the weights and the optimiser's count of steps are kept.
    """

    def __init__(self, device: str) -> None:
        super().__init__("bf16-mixed", device)

    def convert_module(self, module: nn.Module) -> nn.Module:
        for parameter in module.parameters():
            if parameter.is_floating_point() and parameter.dtype != torch.bfloat16:
                parameter.data = parameter.data.bfloat16()
        return module


def is_mixed_bfloat16(plugin: Precision) -> bool:
    """Whether operations multiply in bfloat16, whatever the weights are."""
    return isinstance(plugin, MixedPrecision) and plugin.precision == "bf16-mixed"


def dtype_of_products(plugin: Precision) -> torch.dtype:
    """What matrices are multiplied in."""
    if not isinstance(plugin, MixedPrecision):
        return torch.float32
    return {"16-mixed": torch.float16, "bf16-mixed": torch.bfloat16}[plugin.precision]


def loss_scaler(plugin: Precision) -> torch.amp.GradScaler | None:
    """The loss scaler, which 16-mixed has."""
    return plugin.scaler if isinstance(plugin, MixedPrecision) else None


def precision_plugin(precision: PrecisionName, device: str) -> Precision:
    """The plugin for a type of device, ``cpu`` or ``cuda``; by name, Lightning would take bfloat16 for
    ``16-mixed`` on a CPU, and convert whole batches for ``bf16-true``."""
    if precision == "32-true":
        return Precision()
    return BFloat16Weights(device) if precision == "bf16-true" else MixedPrecision(precision, device)
