"""The view of an agent of BabyAI, as codes or as pixels."""

from functools import lru_cache
from itertools import product
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import UInt8
from torch import Tensor

from mmtx.batch import Field

SIDE = 7
"""Cells of the view, across and ahead. The agent stands at (3, 6) and looks towards (3, 0)."""

NUM_OBJECTS, NUM_COLOURS, NUM_STATES = 11, 6, 3
"""Codes of a cell: its object (0: not visible, 1: empty), its colour, and whether a door is open, shut or locked."""

CELL_PIXELS = 8
"""Side of a cell in the view as a picture."""


@runtime_checkable
class ViewFormat(Protocol):
    """How a view is encoded for the model."""

    def fields(self, context: int) -> dict[str, Field]:
        """The fields of the steps of a window."""

    def of(self, cells: UInt8[Tensor, "*steps 7 7 3"]) -> dict[str, Tensor]:
        """The same fields of some views, in new memory."""


class Codes:
    """Cells by their codes, as MiniGrid observes them: ``cells`` (7, 7, 3), across, ahead, (object, colour, state)."""

    def fields(self, context: int) -> dict[str, Field]:
        return {"cells": Field((None, SIDE, SIDE, 3), torch.uint8, num_classes=NUM_OBJECTS, max_length=context)}

    def of(self, cells: UInt8[Tensor, "*steps 7 7 3"]) -> dict[str, Tensor]:
        return {"cells": cells.clone()}


class Pixels:
    """The view as MiniGrid draws it: ``pixels`` (3, 56, 56), the agent at the middle of the lower edge, looking up."""

    def fields(self, context: int) -> dict[str, Field]:
        side = SIDE * CELL_PIXELS
        return {"pixels": Field((None, 3, side, side), torch.uint8, max_length=context)}

    def of(self, cells: UInt8[Tensor, "*steps 7 7 3"]) -> dict[str, Tensor]:
        objects, colours, states = cells.long().unbind(-1)
        code = (objects * NUM_COLOURS + colours) * NUM_STATES + states
        here = torch.zeros(SIDE, SIDE, dtype=torch.long)
        here[SIDE // 2, SIDE - 1] = 1
        tiles = _tiles()[here.expand_as(code), code]  # (..., across, ahead, channel, row, column)
        side = SIDE * CELL_PIXELS
        rows = tiles.movedim((-3, -4, -2, -5, -1), (-5, -4, -3, -2, -1))
        return {"pixels": rows.reshape(*cells.shape[:-3], 3, side, side)}


@lru_cache
def _tiles() -> UInt8[Tensor, "2 198 3 8 8"]:
    """MiniGrid's picture of each code, without the agent and with it."""
    from minigrid.core.grid import Grid
    from minigrid.core.world_object import WorldObj

    tiles = torch.zeros(2, NUM_OBJECTS, NUM_COLOURS, NUM_STATES, 3, CELL_PIXELS, CELL_PIXELS, dtype=torch.uint8)
    for code in product(range(NUM_OBJECTS), range(NUM_COLOURS), range(NUM_STATES)):
        thing = WorldObj.decode(*code)
        if thing is not None and thing.encode() != code:
            continue  # no such cell: only doors have states
        for agent, facing in ((0, None), (1, 3)):
            drawn = Grid.render_tile(thing, agent_dir=facing, highlight=code[0] > 0, tile_size=CELL_PIXELS)
            tiles[(agent, *code)] = torch.from_numpy(drawn).permute(2, 0, 1)
    return tiles.flatten(1, 3)
