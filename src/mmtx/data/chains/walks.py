"""Chains that a program makes: helices, strands and turns, packed as tightly as the best of some tries."""

import math

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from mmtx.data.chains.chain_sample import RESIDUES
from mmtx.structure.distances import distances

STEP = 3.8
"""Å from a Cα atom to the next."""

HELIX, STRAND, TURN = range(3)

BENDS = {HELIX: (91.0, 50.0), STRAND: (124.0, -170.0)}
"""Degrees: the angle at a Cα atom, and the torsion of it, the one before and the two behind; of a helix, which is
right-handed (Levitt 1976, J. Mol. Biol. 104, 59), and of a strand. Those of a turn are random."""

LIKES = {HELIX: "AELMQKRH", STRAND: "VIYCWFT", TURN: "GNPSD"}
"""Residues of each kind of segment (after Chou and Fasman 1974, Biochemistry 13, 211)."""

SEGMENTS = {HELIX: (6, 11), STRAND: (4, 8), TURN: (2, 4)}
"""Residues of a segment, at least and at most."""

CLASH = 4.0
"""Å: residues that are no neighbours are not nearer to each other, where one of the tries has none that are."""


def segments(length: int, generator: torch.Generator) -> Int64[Tensor, " n"]:
    """Helices and strands with a turn between each two, residue by residue."""
    found: list[int] = []
    while len(found) < length:
        kind = TURN if found and found[-1] != TURN else int(torch.randint(2, (), generator=generator))
        least, most = SEGMENTS[kind]
        found += [kind] * int(torch.randint(least, most + 1, (), generator=generator))
    return torch.tensor(found[:length])


def spelt(kinds: Int64[Tensor, " n"], generator: torch.Generator) -> Int64[Tensor, " n"]:
    """Residues that such segments like."""
    codes = [[RESIDUES.index(letter) for letter in LIKES[kind]] for kind in kinds.tolist()]
    drawn = torch.rand(len(codes), generator=generator).tolist()
    return torch.tensor([each[int(share * len(each))] for each, share in zip(codes, drawn, strict=True)])


def packed_chain(kinds: Int64[Tensor, " n"], tries: int, generator: torch.Generator) -> Float[Tensor, "n 3"]:
    """Of some chains with such segments, and turns at random, the one with the smallest radius among those without a
    clash; where all clash, among all."""
    angles = torch.rand(tries, len(kinds), 2, generator=generator) * torch.tensor([50.0, 360.0]) + torch.tensor(
        [80.0, 0]
    )
    for kind, (angle, torsion) in BENDS.items():
        angles[:, kinds == kind] = torch.tensor([angle, torsion])
    walks = walked(angles.deg2rad())
    radius = (walks - walks.mean(1, keepdim=True)).square().sum(-1).mean(1)
    best = (radius + 1e6 * clashes(walks)).argmin()
    return walks[best]


def walked(angles: Float[Tensor, "W n 2"]) -> Float[Tensor, "W n 3"]:
    """Chains with such angles and torsions at each residue, step by step; the first two and the last one bend nothing.

    Args:
        angles: in radians.
    """
    count = len(angles)
    steps = [torch.tensor([STEP, 0.0, 0.0]).expand(count, 3)]
    normal = torch.tensor([0.0, 0.0, 1.0]).expand(count, 3)
    for angle, torsion in (each.unbind(-1) for each in angles[:, 1:-1].unbind(1)):
        along = F.normalize(steps[-1], dim=-1)  # each is a product of those before: without it, rounding errors grow
        side = torch.linalg.cross(normal, along)
        normal = F.normalize(_turned(normal, side, torsion), dim=-1)
        side = torch.linalg.cross(normal, along)
        bend = math.pi - angle
        steps.append(STEP * (bend.cos()[:, None] * along + bend.sin()[:, None] * side))
    start = torch.zeros(count, 1, 3)
    return torch.cat([start, torch.stack(steps, 1).cumsum(1)], dim=1)


def _turned(one: Float[Tensor, "W 3"], other: Float[Tensor, "W 3"], angle: Float[Tensor, " W"]) -> Float[Tensor, "W 3"]:
    """The first of two orthogonal axes, turned in their plane."""
    return angle.cos()[:, None] * one - angle.sin()[:, None] * other


def clashes(walks: Float[Tensor, "W n 3"]) -> Bool[Tensor, " W"]:
    """Whether residues that are no neighbours are too near."""
    index = torch.arange(walks.shape[1])
    apart = (index[:, None] - index).abs() > 1
    return ((distances(walks) < CLASH) & apart).flatten(1).any(1)
