"""A picture of samples whose tokens were left out: each as it is, what was kept of it, and filled."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from mmtx.batch import Batch
from mmtx.modalities.base import Tokenizer
from mmtx.modalities.capabilities import Numbers
from mmtx.modalities.drawing import drawings_of
from mmtx.model import MultimodalTransformer

COLUMNS = 8
ROWS = ("truth", "kept", "filled")


def draw_filled(
    model: MultimodalTransformer, batch: Batch, rows: Mapping[str, Sequence[Tensor]], titles: Sequence[str], path: Path
) -> Path:
    """Draws the first samples of a batch, a column for each.

    Args:
        model: whose tokenizers draw.
        batch: the samples.
        rows: of each name, the patches of each of `ROWS`, ``(B, n, numbers)``.
        titles: one for each sample.
        path: of the picture.
    """
    from matplotlib.figure import Figure

    columns, names = min(COLUMNS, len(batch)), list(rows)
    figure = Figure(figsize=(1.6 * columns, 1.8 * len(ROWS) * len(names)), layout="constrained")
    grid = figure.subplots(len(ROWS) * len(names), columns, squeeze=False)
    for place, (name, patches) in enumerate((key, each) for key in names for each in rows[key]):
        tokenizer = model.tokenizer(name)
        assert isinstance(tokenizer, Numbers)
        fields, draw = _as_data(tokenizer, tokenizer.fields_of(patches.cpu())), drawings_of(tokenizer)[-1].draw
        lengths = [min(int(n), len(next(iter(fields.values()))[i])) for i, n in enumerate(batch.lengths[name])]
        for column, axes in enumerate(grid[place][:columns]):
            draw(axes, {key: values[column] for key, values in fields.items()}, lengths[column])
        grid[place][0].set_ylabel(f"{name}\n{ROWS[place % len(ROWS)]}", fontsize=8)
    for axes, title in zip(grid[0], titles[:columns], strict=True):
        axes.set_title(title, fontsize=8)
    figure.savefig(path, dpi=110)
    return path


def _as_data(tokenizer: Tokenizer, fields: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Pixels in bytes where those of the data are, and else within 0..1."""
    of_data, drawn = tokenizer.spec.fields, dict(fields)
    for key in fields.keys() & of_data.keys() & {"pixels"}:
        is_bytes = of_data[key].dtype == torch.uint8
        drawn[key] = fields[key].round().clamp(0, 255).to(torch.uint8) if is_bytes else fields[key].clamp(0, 1)
    return drawn
