"""Frames: a rotation and an origin of each residue."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from mmtx.structure.superposition import Points, Real


@dataclass(frozen=True)
class Frames:
    """A frame turns points by its rotation and then shifts them by its origin.

    Attributes:
        rotation: orthogonal matrices of determinant 1; columns are the axes of the frame.
        origin: of each frame.
    """

    rotation: Float[Tensor, "*n 3 3"]
    origin: Float[Tensor, "*n 3"]

    @classmethod
    def identity(cls, like: Float[Tensor, "*n D"]) -> Frames:
        """Of each vector of a tensor, the frame that changes nothing."""
        turn = torch.eye(3, dtype=like.dtype, device=like.device)
        return cls(turn.expand(*like.shape[:-1], 3, 3), like.new_zeros(*like.shape[:-1], 3))

    @classmethod
    def from_points(cls, before: Tensor, middle: Tensor, behind: Tensor) -> Frames:
        """Frames at `middle`, whose first axis points to `behind` and whose second one lies in the plane of the three,
        on the side of `before` (Gram and Schmidt; Jumper et al. 2021, supplement, algorithm 21: N, Cα and C). Three
        points on one line have a frame that is no rotation.

        Args:
            before: points, ``(*n, 3)``.
            middle: the same.
            behind: the same.
        """
        first = F.normalize(behind - middle, dim=-1)
        side = before - middle
        second = F.normalize(side - (side * first).sum(-1, keepdim=True) * first, dim=-1)
        axes = torch.stack([first, second, torch.linalg.cross(first, second)], dim=-1)
        return cls(axes, middle)

    @classmethod
    def from_trace(cls, trace: Points, real: Real) -> tuple[Frames, Bool[Tensor, "B n"]]:
        """Frames of a chain of which only the Cα atoms are known, from each and the two beside it; and which residues
        have one: the ends have none, nor have those on a line with their neighbours. Theirs are identities."""
        inner = cls.from_points(trace[:, :-2], trace[:, 1:-1], trace[:, 2:])
        bent = torch.linalg.det(inner.rotation.float()) > 0.5
        framed = F.pad(real[:, :-2] & real[:, 2:] & bent, (1, 1))[:, : trace.shape[1]]
        turn = F.pad(inner.rotation, (0, 0, 0, 0, 1, 1))[:, : trace.shape[1]]
        whole = cls.identity(trace)
        return cls(torch.where(framed[..., None, None], turn, whole.rotation), trace), framed

    def to_global(self, points: Float[Tensor, "*points 3"]) -> Float[Tensor, "*seen 3"]:
        """Points of each frame, as all see them; axes of size 1 are those of the other."""
        return torch.einsum("...ij,...j->...i", self.rotation, points) + self.origin

    def to_local(self, points: Float[Tensor, "*points 3"]) -> Float[Tensor, "*seen 3"]:
        """Points as each frame sees them: undoes `to_global`."""
        return torch.einsum("...ji,...j->...i", self.rotation, points - self.origin)

    def spread(self, count: int) -> Frames:
        """The same frames with so many axes of size 1 behind, one for each axis of points that a frame has."""
        shape = self.origin.shape[:-1] + (1,) * count
        return Frames(self.rotation.reshape(*shape, 3, 3), self.origin.reshape(*shape, 3))

    def moved(self, update: Float[Tensor, "*n 6"]) -> Frames:
        """Frames that are turned and shifted by a step in their own axes (Jumper et al. 2021, supplement, algorithm
        23).

        Args:
            update: b, c and d of the quaternion ``1 + b i + c j + d k``, which is normalised, and a shift.
        """
        turn = rotation_of(F.pad(update[..., :3], (1, 0), value=1.0))
        return Frames(self.rotation @ turn, self.to_global(update[..., 3:]))

    def without_turning(self) -> Frames:
        """The same frames, through whose rotations no gradient flows."""
        return Frames(self.rotation.detach(), self.origin)


def rotation_of(quaternion: Float[Tensor, "*n 4"]) -> Float[Tensor, "*n 3 3"]:
    """The rotation of a quaternion ``a + b i + c j + d k``, which need not have unit length."""
    a, b, c, d = F.normalize(quaternion, dim=-1).unbind(-1)
    rows = [
        *(a * a + b * b - c * c - d * d, 2 * (b * c - a * d), 2 * (b * d + a * c)),
        *(2 * (b * c + a * d), a * a - b * b + c * c - d * d, 2 * (c * d - a * b)),
        *(2 * (b * d - a * c), 2 * (c * d + a * b), a * a - b * b - c * c + d * d),
    ]
    return torch.stack(rows, dim=-1).unflatten(-1, (3, 3))


def random_rotations(count: int, generator: torch.Generator | None = None) -> Float[Tensor, "count 3 3"]:
    """Rotations drawn uniformly, on the CPU: of quaternions whose direction is uniform (Shoemake 1992).

    Args:
        count: of them.
        generator: None: torch's own.
    """
    return rotation_of(torch.randn(count, 4, generator=generator))
