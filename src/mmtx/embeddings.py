"""Type embeddings, positions and times of tokens: by which the backbone knows the kind and the place of each.

The model holds them, under the names that checkpoints have; here they are made, and summed for each token.
"""

import math
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from mmtx.errors import InvalidValue, UserError
from mmtx.modalities.base import Tokenizer
from mmtx.nn.positions import Learned, Positions
from mmtx.tokens import Clock, Tokens

RANDOM_RANGE = "backbone.positions.random_range"


def make_type_embeddings(names: Iterable[str], dims: Mapping[str, int], std: float) -> nn.ParameterDict:
    """A learned vector for each name, so that a checkpoint survives a change of the set."""
    return nn.ParameterDict({name: torch.empty(dims[name]).normal_(std=std) for name in names})


def make_position_embeddings(
    tokenizers: Mapping[str, Tokenizer], positions: Mapping[str, Positions], dims: Mapping[str, int]
) -> Any:
    """Of each name that has coordinates, where its stack adds positions: ``absolute(extent, dim)``. Of tokens on one
    axis whose positions are drawn, the extent is what they are drawn from.

    Args:
        tokenizers: of the whole set.
        positions: of each name's stack.
        dims: width of each name.

    Raises:
        InvalidValue: coordinates count from the middle, which only rotations and biases read; or a sample may have more
            tokens than positions are drawn from, or times of its own.
    """
    _check_random_ranges(tokenizers, positions)
    absolute = {name: each.absolute for name, each in positions.items() if tokenizers[name].extent}
    chosen = {name: make for name, make in absolute.items() if make is not None}
    for name in (name for name in chosen if tokenizers[name].centred):
        problem = "counts places from the middle, for which there are no absolute positions"
        raise InvalidValue(f"modality.{name}.centred", True, problem, "backbone/positions=rotary")
    return nn.ModuleDict(
        {name: make(_extent(tokenizers[name], positions[name]), dims[name]) for name, make in chosen.items()}
    )


def _extent(tokenizer: Tokenizer, positions: Positions) -> tuple[int, ...]:
    most = positions.random_range
    return (most,) if most is not None and len(tokenizer.extent) == 1 else tokenizer.extent


def _check_random_ranges(tokenizers: Mapping[str, Tokenizer], positions: Mapping[str, Positions]) -> None:
    for most in {each.random_range for each in positions.values() if each.random_range is not None}:
        own = {name: each for name, each in tokenizers.items() if positions[name].random_range == most}
        timed = [name for name, tokenizer in own.items() if "times" in tokenizer.spec.fields]
        if timed:
            raise InvalidValue(
                RANDOM_RANGE, most, f"cannot be: samples have times of their own in '{timed[0]}'", "null"
            )
        longest = sum(tokenizer.max_tokens for tokenizer in own.values())
        if longest > most:
            problem = f"is less than the {longest} tokens that a sample of {', '.join(own)} may have"
            raise InvalidValue(RANDOM_RANGE, most, problem)


def random_places(groups: Iterable[Tokens], random_range: int) -> Int[Tensor, " N"]:
    """What positions 0, 1, 2, ... of a set become: as many as it has tokens, drawn by the device's global generator."""
    sizes = [(tokens.content.shape[1], tokens.content.device) for tokens in groups]
    count, device = sum(size for size, _ in sizes), sizes[0][1]
    return torch.randperm(random_range, device=device)[:count].sort().values


def make_clock_embeddings(
    tokenizers: Mapping[str, Tokenizer],
    clock_of: Mapping[str, str],
    clocks: Mapping[str, Clock],
    dims: Mapping[str, int],
) -> nn.ModuleDict:
    """Of the time of each clock that has an embedding, shared by all names on it.

    Raises:
        InvalidValue: names on it have different widths.
    """
    made = nn.ModuleDict()
    for clock in dict.fromkeys(clock_of.values()):
        embedding = clocks.get(clock, Clock()).embedding
        if embedding is not None:
            names = [name for name in tokenizers if clock_of[name] == clock]
            if len(widths := {dims[name] for name in names}) > 1:
                raise InvalidValue(f"clocks.{clock}.embedding", clock, f"is of names of the widths {sorted(widths)}")
            made[clock] = embedding((max(tokenizers[name].num_times for name in names),), widths.pop())
    return made


def place_of(
    name: str,
    tokens: Tokens,
    dim: int,
    *,
    type_embedding: Float[Tensor, " D"] | None,
    positions: nn.Module | None,
    times: nn.Module | None,
    spread: Int[Tensor, " N"] | None = None,
) -> Float[Tensor, "#B n D"]:
    """The sum of type, position and time embeddings. Prefix tokens have no coordinates, so no position. Coordinates
    0, 1, 2, ... of tokens on one axis are those of `spread`, where that is given.

    Raises:
        UserError: there are more tokens than positions that have been learned.
    """
    coordinates, num_prefix = tokens.coordinates, tokens.num_prefix_tokens
    if spread is not None and coordinates.shape[1] == 1:
        coordinates = spread[coordinates]
    place = torch.zeros(1, coordinates.shape[0], dim, device=coordinates.device)
    if positions is not None:
        most = tokens.num_items * math.prod(positions.extent) if isinstance(positions, Learned) else None
        num_tokens = coordinates.shape[0] - num_prefix
        if most is not None and num_tokens > most:
            problem = f"has {num_tokens} tokens, and the model has learned positions for {most}"
            raise UserError(f"a sample's '{name}' {problem}: cut it, or lower data.max_seconds")
        place = torch.cat([place[:, :num_prefix], positions(coordinates[num_prefix:])[None]], dim=1)
    if type_embedding is not None:
        place = place + type_embedding
    if times is not None:
        place = place + times(tokens.time.flatten()[:, None]).unflatten(0, tokens.time.shape)
    return place
