"""A grid of samples: of each, what the set has of it, name beneath name, under its prediction and the truth."""

import textwrap
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from mmtx.batch import Batch
from mmtx.modalities.base import Tokenizer
from mmtx.modalities.capabilities import Inverts, Panel
from mmtx.modalities.drawing import Draw, drawings_of, is_text
from mmtx.model import MultimodalTransformer
from mmtx.objectives.base import Example

COLUMNS = 4
CHARACTERS = 12
"""Of a title, to an inch; a title of more lines than `LINES` is cut short, so that it stays above its own picture."""
LINES = 3

Below = Callable[[Any, Any, int], None]
"""Draws beneath the picture of a name: axes of its own, those of the picture, and the sample's index."""


class _Row(NamedTuple):
    """One picture of each sample: of a name's fields, or beneath the one that is so many rows above it."""

    name: str
    panel: Panel
    draw: Draw | None
    fields: Mapping[str, Tensor]
    below: Below | None = None
    above: int = 0


def draw_samples(
    model: MultimodalTransformer, batch: Batch, examples: Sequence[Example], path: Path, below: Mapping[str, Below]
) -> Path | None:
    """Draws samples; None where the set has nothing but texts, which a table shows better.

    Args:
        model: in eval mode.
        batch: what the examples were made from, on the device of the model.
        examples: one for each sample.
        path: of the picture.
        below: of some names, what is drawn beneath them.
    """
    names = [name for name in model.names if name in batch]
    if all(is_text(model.tokenizer(name)) for name in names):
        return None
    rows = [row for name in names for row in _rows(model.tokenizer(name), batch, name, below.get(name))]
    _draw(rows, {name: batch.lengths[name].tolist() for name in names}, examples, path)
    return path


def _rows(tokenizer: Tokenizer, batch: Batch, name: str, below: Below | None) -> list[_Row]:
    drawings = drawings_of(tokenizer)
    rows = [_Row(name, drawing.panel, drawing.draw, batch[name]) for drawing in drawings]
    if isinstance(tokenizer, Inverts):
        tokens = tokenizer(batch[name], batch.lengths[name], batch.full.get(name, False))
        held = tokenizer.invert(tokens)
        if any(key in held and _differ(values, held[key]) for key, values in batch[name].items()):
            rows.append(_Row(name, drawings[-1].panel, drawings[-1].draw, held))
    return (
        rows
        if below is None
        else [*rows, _Row(name, drawings[-1].panel, None, {}, below, len(rows) - len(drawings) + 1)]
    )


def _differ(values: Tensor, others: Tensor) -> bool:
    """By more than an eye would see; what was turned back may be longer, by what filled its last token."""
    one, other = values.float(), others[tuple(slice(size) for size in values.shape)].float()
    return not torch.allclose(one, other, rtol=0, atol=0.01 * float(one.abs().max()))


def _draw(rows: Sequence[_Row], lengths: Mapping[str, list[int]], examples: Sequence[Example], path: Path) -> None:
    from matplotlib.figure import Figure

    count = min([len(examples), *(row.panel.most for row in rows if row.panel.most is not None)])
    columns, blocks = min(COLUMNS, count), -(-count // COLUMNS)
    width, heights = max(row.panel.width for row in rows), [row.panel.height for row in rows]
    figure = Figure(figsize=(width * columns, sum(heights) * blocks), layout="constrained")
    grid = figure.add_gridspec(len(rows) * blocks, columns, height_ratios=heights * blocks)
    names = list(lengths)
    for index in range(count):
        block, column = divmod(index, columns)
        axes = [figure.add_subplot(grid[block * len(rows) + place, column]) for place in range(len(rows))]
        for place, (own, row) in enumerate(zip(axes, rows, strict=True)):
            if row.draw is not None:
                row.draw(own, {key: values[index] for key, values in row.fields.items()}, lengths[row.name][index])
            elif row.below is not None:
                row.below(own, axes[place - row.above], index)
        _label_outer(axes, [row.name for row in rows], is_first=column == 0, several=len(names) > 1)
        _title(axes[0], examples[index], int(CHARACTERS * width))
    figure.savefig(path, dpi=110)


def _label_outer(axes: Sequence[Any], names: Sequence[str], is_first: bool, several: bool) -> None:
    """Leaves the label of x to the lowest axes of a name, and those of y to the first of a row, where each name is
    written if there are several."""
    for place, (own, name) in enumerate(zip(axes, names, strict=True)):
        if name in names[place + 1 :]:
            own.set_xlabel("")
        if not is_first:
            own.set_ylabel("")
        elif several and name not in names[:place]:
            own.set_ylabel("\n".join(filter(None, [name, own.get_ylabel()])))


def _title(axes: Any, example: Example, width: int) -> None:
    colour = "black" if example.right is None else "tab:green" if example.right else "tab:red"
    truth = [f"(truth: {example.truth})"] if example.truth else []  # a film has its own beneath it
    texts = [_cut(text, width) for text in (str(example.predicted), *truth)]
    axes.set_title("\n".join(texts), fontsize=10, color=colour)


def _cut(text: str, width: int) -> str:
    return "\n".join(textwrap.wrap(text, width, max_lines=LINES, placeholder=" …"))
