"""Films as animations that begin again, one beside the other."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from mmtx.batch import Batch
from mmtx.modalities.capabilities import Films
from mmtx.model import MultimodalTransformer

LINE_PIXELS = 2
FRAME_MS, LAST_FRAME_MS = 50, 1500
SLOW_FRAME_MS = 200
"""Of a sample, which has few frames."""
LEAST_SIDE, MOST_FILMS = 96, 4
"""Pixels of a frame of a sample, and how many samples are shown."""


def write_films(model: MultimodalTransformer, batch: Batch, stem: Path) -> Path | None:
    """Writes ``<stem>.gif``, the first samples of the first name of films; None where the set has none."""
    for name in (name for name in model.names if name in batch):
        tokenizer = model.tokenizer(name)
        lengths = [length for length in batch.lengths[name].tolist() if length][:MOST_FILMS]
        if isinstance(tokenizer, Films) and lengths:
            present = batch.select(batch.present(name).nonzero()[:MOST_FILMS, 0])[name]
            films = [
                tokenizer.film({key: values[index] for key, values in present.items()}, length)
                for index, length in enumerate(lengths)
            ]
            path = stem.with_suffix(".gif")
            write_large(path, films)
            return path
    return None


def write_large(path: Path, films: Sequence[Float[Tensor, "_ C height width"]]) -> None:
    """Writes films beside each other, large and slowly enough to be seen.

    Args:
        path: of the animation.
        films: frames of each, in 0..1; they may differ in number.
    """
    save_gif(path, beside_each_other([[*_large(film)] for film in films]), max(map(len, films)), SLOW_FRAME_MS)


def beside_each_other(
    films: Sequence[Sequence[Float[Tensor, "3 height width"]]],
) -> Iterator[Float[Tensor, "3 height all_widths"]]:
    """The frames of several films, each with a line at its right; one that ends before others stands still.

    Args:
        films: frames of each, at least one, all of one size.
    """
    lined = [[F.pad(frame, (0, LINE_PIXELS)) for frame in film] for film in films]
    for i in range(max(map(len, films))):
        yield torch.cat([film[min(i, len(film) - 1)] for film in lined], 2)


def save_gif(
    path: Path, frames: Iterable[Float[Tensor, "3 height width"]], count: int, frame_ms: int = FRAME_MS
) -> None:
    """Writes an animation of `count` frames, whose last stays."""
    pictures = map(picture_of, frames)
    durations = [frame_ms] * (count - 1) + [LAST_FRAME_MS]
    next(pictures).save(path, format="GIF", save_all=True, append_images=pictures, duration=durations, loop=0)


def picture_of(frame: Float[Tensor, "3 height width"]) -> Any:
    """A picture of Pillow's."""
    from PIL import Image

    return Image.fromarray((frame * 255).round().byte().permute(1, 2, 0).numpy())


def _large(film: Float[Tensor, "T C height width"]) -> Float[Tensor, "T 3 tall wide"]:
    """In colour, each pixel so often that a frame can be seen."""
    times = max(1, -(-LEAST_SIDE // max(film.shape[2:])))
    coloured = film[:, :1].expand(-1, 3, -1, -1) if film.shape[1] != 3 else film
    return coloured.repeat_interleave(times, 2).repeat_interleave(times, 3)
