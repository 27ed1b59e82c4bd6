"""Type embeddings, positions and times of tokens: by which the backbone knows the kind and the place of each.

The model holds them, under the names that checkpoints have; here they are made, and summed for each token.
"""

import math
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mmtx.errors import InvalidValue, UserError
from mmtx.modalities.base import Tokenizer
from mmtx.nn.positions import Learned
from mmtx.tokens import Clock, Tokens


def make_type_embeddings(names: Iterable[str], dims: Mapping[str, int], std: float) -> nn.ParameterDict:
    """A learned vector for each name, so that a checkpoint survives a change of the set."""
    return nn.ParameterDict({name: torch.empty(dims[name]).normal_(std=std) for name in names})


def make_position_embeddings(
    tokenizers: Mapping[str, Tokenizer], absolute: Mapping[str, Any], dims: Mapping[str, int]
) -> Any:
    """Of each name that has coordinates, where its stack adds positions: ``absolute[name](extent, dim)``.

    Raises:
        InvalidValue: coordinates count from the middle, which only rotations and biases read.
    """
    chosen = {name: make for name, make in absolute.items() if make is not None and tokenizers[name].extent}
    for name in (name for name in chosen if tokenizers[name].centred):
        problem = "counts places from the middle, for which there are no absolute positions"
        raise InvalidValue(f"modality.{name}.centred", True, problem, "backbone/positions=rotary")
    return nn.ModuleDict({name: make(tokenizers[name].extent, dims[name]) for name, make in chosen.items()})


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
) -> Float[Tensor, "#B n D"]:
    """The sum of type, position and time embeddings. Prefix tokens have no coordinates, so no position.

    Raises:
        UserError: there are more tokens than positions that have been learned.
    """
    coordinates, num_prefix = tokens.coordinates, tokens.num_prefix_tokens
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
