"""Numbers of several names, side by side, that a flow makes or finds probable."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from mmtx.batch import Batch
from mmtx.decoding.flow import Integration, Velocity, integrate, log_likelihood
from mmtx.decoding.guided import led_away, with_and_without
from mmtx.errors import InvalidValue, check_within
from mmtx.model import MultimodalTransformer
from mmtx.objectives.flowed_name import FlowedName
from mmtx.objectives.masks import stratified

Numbers = Mapping[str, Float[Tensor, "B n k"]]
"""Of each token of each name."""

Heads = Mapping[str, FlowedName]
"""Of the names."""

Draws = torch.Generator | Sequence[torch.Generator]
"""Sources of randomness: one on the device, or one on the CPU for each sample."""

MOST_NUMBERS = 256
"""Of a sample whose exact likelihood is computed."""

Times = Literal["uniform", "logit_normal"]
"""Of training: uniform, or the sigmoid of a normal number, of which more lie in the middle (Esser et al. 2024, arXiv
2403.03206)."""

VelocityOf = Callable[[Batch, Numbers, Float[Tensor, " B"]], Numbers]
"""From samples with the rest of the set, numbers and the time of each sample to the velocity of each number."""


@dataclass(frozen=True)
class NumberLayout:
    """Where the numbers of each name stand among those K of a sample.

    Attributes:
        shapes: of each name: tokens, and numbers of a token.
        real: which numbers there are.
    """

    shapes: Mapping[str, tuple[int, int]]
    real: Bool[Tensor, "B K"]

    @classmethod
    def of(cls, heads: Heads, batch: Batch) -> NumberLayout:
        real = {name: head.real_numbers(batch) for name, head in heads.items()}
        shapes = {name: (part.shape[1], part.shape[2]) for name, part in real.items()}
        return cls(shapes, torch.cat([part.flatten(1) for part in real.values()], dim=1))

    def flat(self, parts: Numbers) -> Float[Tensor, "B K"]:
        """Numbers of each token of each name as numbers of a sample, zero where there is none."""
        return torch.cat([parts[name].flatten(1) for name in self.shapes], dim=1) * self.real

    def parts(self, flat: Float[Tensor, "B K"]) -> dict[str, Float[Tensor, "B n k"]]:
        """Undoes `flat`."""
        sizes = [tokens * size for tokens, size in self.shapes.values()]
        split = zip(self.shapes.items(), flat.split(sizes, dim=1), strict=True)
        return {name: part.unflatten(1, shape) for (name, shape), part in split}

    def repeated(self, times: int) -> NumberLayout:
        """Of the same samples, one after the other, so many times."""
        return NumberLayout(self.shapes, self.real.repeat(times, 1))

    def velocity(self, velocity: VelocityOf, batch: Batch) -> Velocity:
        """The same velocity, of numbers as they stand here."""

        def flat(numbers: Float[Tensor, "B K"], moment: Float[Tensor, " B"]) -> Float[Tensor, "B K"]:
            return self.flat(velocity(batch, self.parts(numbers), moment))

        return flat


def draw_moments(
    times: Times, shape: tuple[int, int], generator: torch.Generator, device: torch.device
) -> Float[Tensor, "B k"]:
    """Times of training for each of k parts of each sample, spread evenly over their distribution."""
    moment = stratified(torch.zeros(shape, device=device), generator)
    return torch.special.ndtri(moment).sigmoid() if times == "logit_normal" else moment


def blank_samples(head: FlowedName, batch: Batch, count: int, length: int | None, device: torch.device) -> Batch:
    """So many samples with a name of this length, None: the longest, whose values mean nothing."""
    if length is not None and not head.is_ragged:
        raise InvalidValue("length", length, f"cannot be chosen: every '{head.name}' has the same size", "null")
    length = head.max_length if length is None else length
    check_within("length", length, 1, head.max_length)
    return head.blank(batch, torch.full((count,), length, device=device))


def made_numbers(
    velocity: VelocityOf,
    heads: Heads,
    batch: Batch,
    generator: Draws,
    how: Integration,
    guidance: Mapping[str, float | int],
) -> dict[str, Float[Tensor, "B n k"]]:
    """Numbers that are made out of noise, given the rest of each sample.

    Args:
        velocity: of the flow.
        heads: of the names that are made.
        batch: with these names, whose lengths are those of what is made.
        generator: draws the noise, or one for each sample does.
        how: velocities are integrated.
        guidance: ``{name: scale}``; velocities are led away from those without a name, see `led_away`.
    """
    scales = {name: scale for name, scale in guidance.items() if scale != 1}
    several, layout = 1 + len(scales), NumberLayout.of(heads, batch)
    flat = layout.repeated(several).velocity(velocity, with_and_without(batch, scales))
    noise = _noise(layout.real, generator, next(iter(heads.values())).projection.weight.dtype) * layout.real

    def guided(numbers: Float[Tensor, "B K"], moment: Float[Tensor, " B"]) -> Float[Tensor, "B K"]:
        return led_away(flat(numbers.repeat(several, 1), moment.repeat(several)), scales)

    return layout.parts(integrate(guided, noise, how))


def _noise(real: Bool[Tensor, "B K"], generator: Draws, dtype: torch.dtype) -> Float[Tensor, "B K"]:
    if isinstance(generator, torch.Generator):
        return torch.randn(real.shape, generator=generator, device=real.device, dtype=dtype)
    rows = [torch.randn(real.shape[1], generator=each, dtype=dtype) for each in generator]
    return torch.stack(rows).to(real.device)


def log_likelihood_of(velocity: VelocityOf, heads: Heads, batch: Batch, how: Integration) -> Float[Tensor, " B"]:
    """The logarithm of the density of each sample's numbers given the rest of it, in nats: of numbers that their
    tokenizer scales as they are then, of others in the units of the data."""
    layout = NumberLayout.of(heads, batch)
    data = layout.flat({name: head.numbers(batch) for name, head in heads.items()})
    found = log_likelihood(layout.velocity(velocity, batch), data, layout.real, how)
    return found - torch.stack([head.log_scale(batch).to(found) for head in heads.values()]).sum(0)


def check_size(heads: Iterable[FlowedName], key: str, value: object, nearest: str | None = None) -> None:
    """Raises InvalidValue, of a key for likelihoods, where these would take too many derivatives."""
    size = sum(head.max_numbers for head in heads)
    if size > MOST_NUMBERS:
        problem = f"needs a derivative for each of the {size} numbers of a sample, and {MOST_NUMBERS} are the limit"
        raise InvalidValue(key, value, problem, nearest)


def attended_names(model: MultimodalTransformer, names: tuple[str, ...], *, in_turn: bool = False) -> list[str]:
    """The other names of the set to which some of these attend; `in_turn`, they have several items, which attend to
    whatever stands before them on their clock."""
    clocks = [*dict.fromkeys(model.clock_of[name] for name in model.decoded)]

    def place(name: str) -> tuple[int, int]:
        clock = model.clock_of[name]
        is_mutual = clock in model.clocks and model.clocks[clock].mutual
        return clocks.index(clock), 0 if is_mutual or in_turn else model.decoded.index(name)

    last = max(place(name) for name in names)
    before = {name for name in model.decoded if name not in names and place(name) <= last}
    return [name for name in model.names if name in before or (name in model.encoded and not model.towers)]
