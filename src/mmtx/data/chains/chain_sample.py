"""A chain as a sample: kinds of residues, places, and contacts with mistakes."""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float32, Int64
from torch import Tensor

from mmtx.batch import Field, Sample, Spec
from mmtx.errors import check_fraction
from mmtx.structure.distances import distances
from mmtx.structure.frames import random_rotations
from mmtx.structure.superposition import centred

RESIDUES = "ACDEFGHIKLMNPQRSTVWY"
"""One letter each, in the order of their codes; the last code, X, is any other."""

CONTACT_ANGSTROMS = 8.0
"""Cα atoms that are nearer touch."""

APART = 3
"""Residues of which nothing is known by contacts are nearer along the chain than this."""


class Chain(NamedTuple):
    """Residues in their order.

    Attributes:
        kinds: their codes.
        trace: places of their Cα atoms, in Å.
    """

    kinds: Int64[Tensor, " n"]
    trace: Float32[Tensor, "n 3"]


@dataclass(frozen=True)
class Mistakes:
    """What is wrong with contacts.

    Args:
        missing: the share of contacts that is not there.
        spurious: the share of other pairs that seem to touch.
    """

    missing: float
    spurious: float

    def __post_init__(self) -> None:
        check_fraction("missing", self.missing)
        check_fraction("spurious", self.spurious)


def chain_specs(longest: int) -> dict[str, Spec]:
    """The name ``chain``, of up to so many residues."""
    fields = {
        "class": Field((None,), torch.long, num_classes=len(RESIDUES) + 1, max_length=longest),
        "values": Field((None, 3), torch.float32, max_length=longest),
        "contacts": Field((None, longest), torch.float32, max_length=longest),
    }
    return {"chain": Spec(fields, class_names=(*RESIDUES, "X"))}


def chain_sample(chain: Chain, longest: int, mistakes: Mistakes, seed: int, turned: bool) -> Sample:
    """A sample of the name ``chain``, about its middle.

    Args:
        chain: of which it is made.
        longest: residues of the longest sample.
        mistakes: in contacts, which are the same whenever the sample is made.
        seed: of the mistakes.
        turned: by a random rotation, from torch's own generator.
    """
    kinds, trace = chain
    everyone = torch.ones(1, len(trace), dtype=torch.bool)
    placed = centred(trace[None], everyone)[0]
    if turned:
        placed = placed @ random_rotations(1)[0].mT
    touching = contacts(trace, mistakes, torch.Generator().manual_seed(seed))
    wide = torch.zeros(len(trace), longest)
    wide[:, : len(trace)] = touching
    return {"chain": {"class": kinds, "values": placed, "contacts": wide}}


def contacts(trace: Float32[Tensor, "n 3"], mistakes: Mistakes, generator: torch.Generator) -> Float32[Tensor, "n n"]:
    """1 for pairs that seem to touch, 0 for others, the same in both directions."""
    near = distances(trace[None])[0] < CONTACT_ANGSTROMS
    chance = torch.rand(near.shape, generator=generator).triu(1)
    chance = chance + chance.mT
    seem = torch.where(near, chance >= mistakes.missing, chance < mistakes.spurious)
    index = torch.arange(len(trace))
    return (seem & ((index[:, None] - index).abs() >= APART)).float()
