"""Pictures that are drawn, in codes or as pixels, as one grid."""

import math
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Num
from torch import Tensor

from mmtx.codes.decodes import decodes_into
from mmtx.codes.pixels import Pictures
from mmtx.errors import check_within
from mmtx.generation.made_from import given_batch
from mmtx.generation.out_file import out_file
from mmtx.generation.trained import Trained
from mmtx.learner import Learner
from mmtx.objectives.capabilities import DrawsCodes, Makes

LEAST_SIDE, MOST = 96, 1024
"""Of a picture in the grid, in pixels; and how many pictures there may be."""


def draw_pictures(
    trained: Trained,
    objective: DrawsCodes | Makes,
    *,
    out: str,
    label: str | None = None,
    prompt: str | None = None,
    index: int | None = None,
    count: int = 16,
    **options: Any,
) -> str:
    """Pictures, given whatever else is in the set, as one file (data=coded_pictures, or objective=[flow]).

    Where a sample has several, as documents have, all are in the file, sample after sample.

    Args:
        trained: the model.
        objective: that draws.
        out: the file, a .png
        label: class of the pictures, by its name or its number
        prompt: or the text that they are drawn from
        index: or a sample, counted from 0, of the run's test (or validation) data
        count: how many, or samples of several
        options: of the objective.

    Raises:
        UserError: an option cannot be, or nothing is given to draw from.
    """
    check_within("count", count, 1, MOST)
    file, learner = out_file(out, ".png"), trained.learner
    batch = given_batch(trained, objective.writes, {"label": label, "prompt": prompt, "index": index}, count)
    if isinstance(objective, Makes):
        pixels = objective.make(learner.model, batch, trained.generator(), count, **options).flatten(0, -4)
    else:
        ids = objective.draw_codes(learner.model, batch, trained.generator(), count, **options)
        vocabulary = learner.specs[objective.writes or ""].vocabulary
        assert decodes_into(vocabulary, Pictures)
        pixels = vocabulary.decoded(ids)
    _write(pixels.cpu(), file)
    return f"written: {out}"


def draws_pictures(learner: Learner, objective: Any) -> bool:
    """Whether what an objective writes are codes of pictures, or pictures."""
    if isinstance(objective, Makes):
        return len(objective.reads) == 1 and objective.made_field == "pixels"
    spec = learner.specs.get(getattr(objective, "writes", None) or "")
    return spec is not None and decodes_into(spec.vocabulary, Pictures)


def _write(pixels: Num[Tensor, "B C height width"], file: Path) -> None:
    """All pictures in rows, each as large as can be seen, with a line between."""
    from PIL import Image

    bytes_ = pixels if pixels.dtype == torch.uint8 else (pixels * 255).round().to(torch.uint8)
    count, channels, height, width = bytes_.shape
    times, columns = max(1, math.ceil(LEAST_SIDE / max(height, width))), math.ceil(math.sqrt(count))
    large = bytes_.repeat_interleave(times, 2).repeat_interleave(times, 3)
    rows, down, across = math.ceil(count / columns), height * times + 1, width * times + 1
    grid = torch.full((channels, rows * down, columns * across), 128, dtype=torch.uint8)
    for number, picture in enumerate(large):
        row, column = divmod(number, columns)
        top, left = row * down, column * across
        grid[:, top : top + height * times, left : left + width * times] = picture
    shown = grid.permute(1, 2, 0).squeeze(-1) if channels in (1, 3) else grid[0]
    Image.fromarray(shown.numpy()).save(file)
