"""What is drawn of a sample, name by name: by its tokenizer, or else by the shape of its fields."""

from collections.abc import Callable, Mapping
from functools import partial
from textwrap import fill
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from mmtx.batch import Field, Spec
from mmtx.modalities.base import Tokenizer
from mmtx.modalities.capabilities import Draws, Panel

Draw = Callable[[Any, Mapping[str, Tensor], int], None]
"""As `Draws.draw`."""

PICTURE, CURVES, TEXT = Panel(), Panel(height=1.3), Panel(height=0.8)
CHARACTERS_OF_A_LINE, LINES = 34, 4
MOST_CURVES = 8
"""Of a matrix: one with more columns is a picture."""
MOST_BINS = 1000
"""Of a waveform: more than a picture has columns."""
MOST_FRAMES = 8
"""Of a strip: of a longer film, so many that are equally far apart."""


class Drawing(NamedTuple):
    """A picture of one name of a sample.

    Attributes:
        panel: the room that it takes.
        draw: draws it.
    """

    panel: Panel
    draw: Draw


def drawings_of(tokenizer: Tokenizer) -> list[Drawing]:
    """What is drawn of a name, from above to below: what its tokenizer draws, a waveform above it; of a tokenizer that
    draws nothing, its first field but ``times``."""
    spec = tokenizer.spec
    if not isinstance(tokenizer, Draws):
        key = next((key for key in spec.fields if key != "times"), "times")
        return [Drawing(_panel(spec, key), partial(_draw_field, spec, key))]
    own = Drawing(tokenizer.panel, tokenizer.draw)
    if spec.sample_rate_hz is None or "waveform" not in spec.fields:
        return [own]
    return [Drawing(own.panel._replace(height=CURVES.height), partial(_draw_waveform, spec.sample_rate_hz)), own]


def is_text(tokenizer: Tokenizer) -> bool:
    """Whether a name is drawn as the text that it is."""
    return not isinstance(tokenizer, Draws) and "ids" in tokenizer.spec.fields


def draw_strip(axes: Any, film: Float[Tensor, "T C height width"]) -> None:
    """Frames in 0..1, side by side."""
    chosen = torch.linspace(0, len(film) - 1, min(len(film), MOST_FRAMES)).round().long()
    strip = film[chosen].permute(1, 2, 0, 3).flatten(2)  # C height frames*width
    axes.imshow(strip.permute(1, 2, 0).squeeze(-1).numpy(), cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    width = film.shape[3]
    axes.set_xticks([width * (place + 0.5) for place in range(len(chosen))], [str(int(i)) for i in chosen])
    axes.set_xlabel("frame")
    axes.tick_params(length=0, labelleft=False, labelsize=6)


def draw_spectrogram(axes: Any, mel: Float[Tensor, "T M"], seconds: float) -> None:
    """Frames over so many seconds."""
    axes.set_xlabel("seconds")
    axes.imshow(mel.T.numpy(), origin="lower", aspect="auto", cmap="magma", extent=(0, seconds, 0, mel.shape[1]))
    axes.set_ylabel("mel bin")


def _panel(spec: Spec, key: str) -> Panel:
    field = spec.fields[key]
    return TEXT if key == "ids" or not field.shape else PICTURE if _is_picture(field) else CURVES


def _is_picture(field: Field) -> bool:
    """Whether a sample, or a step of it, is no vector, nor a few numbers at a time."""
    shape = field.shape[field.ragged :]
    return len(shape) > 2 or (len(shape) == 2 and (shape[1] or 0) > MOST_CURVES)


def _draw_field(spec: Spec, key: str, axes: Any, fields: Mapping[str, Tensor], length: int) -> None:
    field, values = spec.fields[key], fields[key].cpu()
    values = values[:length] if field.ragged else values
    if length == 0:
        _write(axes, "–")
    elif key == "ids" and spec.vocabulary is not None:
        _write(axes, spec.vocabulary.decode(values.tolist()))
    elif values.numel() == 1:
        names = spec.class_names if key == "class" else None
        _write(axes, names[int(values)] if names else f"{values.item():.4g}")
    elif _is_picture(field):
        _draw_picture(axes, values[-1] if field.ragged else values)
    else:
        _draw_curves(axes, values.float().reshape(len(values), -1), fields.get("times"))


def _write(axes: Any, text: str) -> None:
    """The first lines of a text."""
    lines = fill(text.replace("$", r"\$"), CHARACTERS_OF_A_LINE).split("\n")
    shown = lines if len(lines) <= LINES else [*lines[: LINES - 1], "…"]
    axes.text(0.5, 0.5, "\n".join(shown), ha="center", va="center", fontsize=8, transform=axes.transAxes)
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set_visible(False)


def _draw_picture(axes: Any, values: Tensor) -> None:
    """Pixels, channels first; or the first symbol of each cell, channels last."""
    if values.dim() == 3 and values.shape[0] in (1, 3):
        values = values.permute(1, 2, 0).squeeze(-1)
    elif values.dim() > 2:
        values = values.flatten(2)[..., 0]
    axes.imshow(values.numpy(), cmap="gray", interpolation="nearest")
    axes.set(xticks=[], yticks=[])


def _draw_curves(axes: Any, values: Float[Tensor, "steps size"], times: Tensor | None) -> None:
    """A curve for each number of a vector, over steps; of one step alone, a curve over its numbers."""
    if len(values) == 1:
        values, times = values.T, None
    steps = torch.arange(len(values)) if times is None else times[: len(values)].cpu()
    axes.plot(steps.numpy(), values.numpy(), linewidth=1, marker="." if len(values) < 20 else None, markersize=3)
    axes.tick_params(labelsize=6)


def _draw_waveform(rate_hz: int, axes: Any, fields: Mapping[str, Tensor], length: int) -> None:
    """The least and largest of some samples at a time, over seconds."""
    each = max(1, -(-length // MOST_BINS))
    bins = fields["waveform"][: max(length, 1)].float().cpu().unfold(0, each, each)
    seconds = torch.arange(len(bins)) * each / rate_hz
    axes.fill_between(seconds.numpy(), bins.amin(1).numpy(), bins.amax(1).numpy(), linewidth=0.6, color="tab:blue")
    axes.set_xlim(0, max(length, 1) / rate_hz)
    axes.tick_params(labelsize=6)
