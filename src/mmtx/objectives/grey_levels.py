"""How probable a density makes pictures that have a few grey levels: bits per dimension."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from mmtx.batch import Batch
from mmtx.decoding.flow import Integration
from mmtx.errors import InvalidValue
from mmtx.model import MultimodalTransformer
from mmtx.objectives.flow import Flow
from mmtx.objectives.flow_numbers import check_size
from mmtx.objectives.flowed_name import FlowedName

ROUNDING = 0.51
"""By which a byte may be off its level: scikit-learn's 17 levels are no whole numbers of 0..255."""


def bits_per_dim(
    flow: Flow,
    model: MultimodalTransformer,
    batch: Batch,
    *,
    levels: int,
    generator: torch.Generator,
    how: Integration,
) -> Float[Tensor, " B"]:
    """An upper bound on minus the binary logarithm of the probability of each picture, for each of its numbers.

    The probability of a level is the integral of the density over the cell around it, ``level - 1/2`` to ``level +
    1/2``. By Jensen's inequality its logarithm is at least the mean, over numbers that are spread uniformly over the
    cell, of the logarithm of the density in units of levels (Theis et al. 2016, arXiv 1511.01844, section 3.1); one
    number is drawn for each pixel.

    Args:
        flow: of pictures.
        model: whose set has them.
        batch: with pictures, and the rest of the set.
        levels: grey levels, which are equally far apart, black and white the outer ones.
        generator: draws the numbers; on the batch's device.
        how: the flow is integrated.

    Raises:
        InvalidValue: the flow is of something else, or of too many numbers; there are pixels between levels.
    """
    name, head = _pictures(flow, levels)
    pixels = batch[name]["pixels"]
    scale = 1.0 if pixels.dtype.is_floating_point else 255.0
    step = scale / (levels - 1)
    nearest = (pixels / step).round()
    if bool(((nearest * step - pixels).abs() > ROUNDING * scale / 255).any()):
        raise InvalidValue("levels", levels, "is not how many grey levels the pictures have: there are pixels between")
    noise = torch.rand(pixels.shape, generator=generator, device=pixels.device)
    spread = batch.with_values(name, pixels=(nearest + noise - 0.5) * step)
    black, brighter = (batch.with_values(name, pixels=torch.full_like(noise, value)) for value in (0.0, step))
    real = head.real(batch)[..., None]
    of_a_level = (head.numbers(brighter) - head.numbers(black)).abs().log().double() * real  # units of the flow
    log_density = flow.log_likelihood(model, spread, how).double() + of_a_level.flatten(1).sum(1)
    return -log_density / math.log(2) / (real.expand(of_a_level.shape).flatten(1).sum(1).clamp(min=1))


def _pictures(flow: Flow, levels: int) -> tuple[str, FlowedName]:
    """The name of what a flow makes, with its numbers."""
    name = flow.reads[0]
    if len(flow.reads) > 1 or flow.made_field != "pixels":
        raise InvalidValue("levels", levels, f"is of pictures alone, and this flow makes {', '.join(flow.reads)}")
    check_size(map(flow.head, flow.reads), "levels", levels)
    return name, flow.head(name)
