"""Where the linear maps of a public model stand in ours, as the family's links tell."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Int
from torch import Tensor

from mmtx.interop.links import Link

PATTERN = 2
"""Axes of the weight of a linear map."""


@dataclass(frozen=True)
class Place:
    """The part of one of our weights that is a weight of theirs.

    Attributes:
        ours: key of our weight.
        rows: of ours, in the order of their outputs.
        columns: of ours, in the order of their inputs.
        transposed: whether theirs is stored with inputs first, as GPT-2's.
    """

    ours: str
    rows: Int[Tensor, " out"]
    columns: Int[Tensor, " in"]
    transposed: bool


def places(links: Sequence[Link], shapes: dict[str, torch.Size], wanted: Collection[str]) -> dict[str, Place]:
    """``{name of their weight: its place}``, of links that only move numbers; found by writing numbers of rows and of
    columns in the place of weights.

    Args:
        links: of the family.
        shapes: of our weights.
        wanted: names of theirs, or of ours; no others are looked at.
    """
    found: dict[str, Place] = {}
    for link in links:
        if len(link.ours) != 1 or not {*link.ours, *link.theirs} & {*wanted} or len(shapes[link.ours[0]]) != PATTERN:
            continue
        rows, columns = (torch.arange(size, dtype=torch.float64) for size in shapes[link.ours[0]])
        whole = shapes[link.ours[0]]
        written = [link.write([each.expand(whole)]) for each in (rows[:, None], columns[None], torch.ones(()))]
        for name, row, column, one in zip(link.theirs, *written, strict=True):
            place = _place(link.ours[0], row, column) if bool((one == 1).all()) else None
            if place is not None:
                found[name] = place
    return found


def _place(ours: str, rows: Tensor, columns: Tensor) -> Place | None:
    """Of the numbers of rows and columns that stand in their weight; None if they are those of no linear map."""
    for transposed in (False, True):
        r, c = (rows.T, columns.T) if transposed else (rows, columns)
        if r.dim() == PATTERN and bool((r == r[:, :1]).all()) and bool((c == c[:1]).all()):
            return Place(ours, r[:, 0].long(), c[0].long(), transposed)
    return None
