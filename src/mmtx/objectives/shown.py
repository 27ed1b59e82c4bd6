"""Predictions as files for people: texts beside the truth, pictures of what the model was given, its sounds."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from mmtx.batch import Batch
from mmtx.modalities.base import Tokenizer
from mmtx.modalities.capabilities import Draws, Inverts
from mmtx.model import MultimodalTransformer
from mmtx.objectives.base import Example

COLUMNS = 4

Below = Callable[[Any, Any, int], None]
"""Draws beneath the picture of a sample: axes of its own, those of the picture, and the sample's index."""


def show_examples(
    model: MultimodalTransformer, batch: Batch, examples: Sequence[Example], stem: Path, below: Sequence[Below] = ()
) -> list[Path]:
    """Writes ``<stem>.jsonl``, ``<stem>_<index>.wav`` of every sound, and ``<stem>.png`` of what can be drawn.

    Args:
        model: in eval mode.
        batch: what the examples were made from, on the device of the model.
        examples: one for each sample.
        stem: of the files.
        below: drawn beneath each picture.

    Returns:
        The files for loggers, which find sounds beside the table.
    """
    table = stem.with_suffix(".jsonl")
    lines = [
        json.dumps({"truth": e.truth, "predicted": e.predicted, "right": e.right}, ensure_ascii=False) for e in examples
    ]
    table.write_text("\n".join(lines) + "\n", encoding="utf-8")
    write_sounds(model, batch, stem)
    name = drawn_name(model, batch)
    return [table] if name is None else [table, _draw(model, name, batch, examples, stem.with_suffix(".png"), below)]


def write_sounds(model: MultimodalTransformer, batch: Batch, stem: Path) -> None:
    """Writes the first waveform of each sample that has one, to ``<stem>_<index>.wav``."""
    for name in (name for name in model.names if name in batch):
        rate = model.tokenizer(name).spec.sample_rate_hz
        if rate is not None and "waveform" in batch[name]:
            import soundfile

            for index, length in enumerate(batch.lengths[name].tolist()):
                if length:
                    soundfile.write(f"{stem}_{index}.wav", batch[name]["waveform"][index, :length].cpu().numpy(), rate)
            return


def drawn_name(model: MultimodalTransformer, batch: Batch) -> str | None:
    """The name of the batch that is drawn: the first in the set that can be."""
    return next((name for name in model.names if name in batch and isinstance(model.tokenizer(name), Draws)), None)


def _draw(
    model: MultimodalTransformer,
    name: str,
    batch: Batch,
    examples: Sequence[Example],
    path: Path,
    below: Sequence[Below],
) -> Path:
    """A grid of pictures, with prediction and truth above; beneath each, the picture that its tokens hold, if they can
    be inverted, and what is to be drawn below."""
    from matplotlib.figure import Figure

    tokenizer = model.tokenizer(name)
    assert isinstance(tokenizer, Draws)
    panel, lengths = tokenizer.panel, batch.lengths[name].tolist()
    count = len(examples) if panel.most is None else min(panel.most, len(examples))
    pictures = [batch[name], *_inverted(tokenizer, batch, name)]
    columns, stacked = min(COLUMNS, count), len(pictures) + len(below)
    rows = -(-count // columns) * stacked
    figure = Figure(figsize=(panel.width * columns, panel.height * rows), layout="constrained")
    for index in range(count):
        first = (index // columns * stacked, index % columns)
        axes = [figure.add_subplot(rows, columns, (first[0] + i) * columns + first[1] + 1) for i in range(stacked)]
        for own, fields in zip(axes, pictures, strict=False):
            tokenizer.draw(own, {key: values[index] for key, values in fields.items()}, lengths[index])
        for own, draw in zip(axes[len(pictures) :], below, strict=True):
            draw(own, axes[0], index)
        _label_outer(axes, first[1])
        _title(axes[0], examples[index])
    figure.savefig(path, dpi=110)
    return path


def _inverted(tokenizer: Tokenizer | Draws, batch: Batch, name: str) -> list[dict[str, Tensor]]:
    """What the tokens of a batch hold, where they can be inverted."""
    if not (isinstance(tokenizer, Inverts) and isinstance(tokenizer, Tokenizer)):
        return []
    return [tokenizer.invert(tokenizer(batch[name], batch.lengths[name], batch.full.get(name, False)))]


def _label_outer(axes: Sequence[Any], column: int) -> None:
    """Leaves the names of axes to the lowest of those above each other, and to the first of a row."""
    for own in axes[:-1]:
        own.set_xlabel("")
    if column:
        for own in axes:
            own.set_ylabel("")


def _title(axes: Any, example: Example) -> None:
    colour = "black" if example.right is None else "tab:green" if example.right else "tab:red"
    axes.set_title(f"{example.predicted}\n(truth: {example.truth})", fontsize=10, color=colour, wrap=True)
