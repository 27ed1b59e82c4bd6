"""Pictures that are drawn, in codes or as pixels, as one grid."""

import math
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Num
from torch import Tensor

from mmtx.batch import Sample
from mmtx.codes.pictured import Pictured
from mmtx.data.collate import collate
from mmtx.errors import InvalidValue, UserError, check_within, some
from mmtx.generation.rest_of_set import INPUTS, inputs_of, rest_of_set, with_field
from mmtx.generation.trained import Trained
from mmtx.generation.translation import source_ids
from mmtx.learner import Learner
from mmtx.objectives.capabilities import DrawsPictures, DrawsPixels

LEAST_SIDE, MOST = 96, 1024
"""Of a picture in the grid, in pixels; and how many pictures there may be."""


def draw_pictures(
    trained: Trained,
    objective: DrawsPictures | DrawsPixels,
    *,
    out: str,
    label: str | None = None,
    prompt: str | None = None,
    index: int | None = None,
    count: int = 16,
    **options: Any,
) -> str:
    """Pictures, given whatever else is in the set, as one file (data=coded_pictures, or objective=[flow]).

    Args:
        trained: the model.
        objective: that draws.
        out: the file, a .png
        label: class of the pictures, by its name or its number
        prompt: or the text that they are drawn from
        index: or a sample, counted from 0, of the run's test (or validation) data
        count: how many
        options: of the objective.

    Raises:
        UserError: an option cannot be, or nothing is given to draw from.
    """
    check_within("count", count, 1, MOST)
    file, learner = Path(out).expanduser(), trained.learner
    if file.suffix.lower() != ".png" or not file.parent.is_dir():
        raise InvalidValue("out", out, "must be a .png file in a folder that exists")
    sample = _given(trained, objective, label, prompt, index)
    specs = {name: learner.specs[name] for name in sample}
    batch = trained.sent(collate([sample] * count, specs, size=count))
    if isinstance(objective, DrawsPixels):
        pixels = objective.draw_pixels(learner.model, batch, trained.generator(), count, **options)
    else:
        ids = objective.draw_codes(learner.model, batch, trained.generator(), count, **options)
        vocabulary = learner.specs[objective.writes or ""].vocabulary
        assert isinstance(vocabulary, Pictured)
        pixels = vocabulary.pixels(ids)
    _write(pixels.cpu(), file)
    return f"written: {out}"


def draws_pictures(learner: Learner, objective: Any) -> bool:
    """Whether what an objective writes are codes of pictures, or pictures."""
    spec = learner.specs.get(getattr(objective, "writes", None) or "")
    if spec is None or not isinstance(objective, DrawsPixels):
        return spec is not None and isinstance(spec.vocabulary, Pictured)
    return "pixels" in spec.fields and not spec.fields["pixels"].ragged


def _given(
    trained: Trained, objective: DrawsPictures | DrawsPixels, label: str | None, prompt: str | None, index: int | None
) -> Sample:
    """The rest of the set, of which one option gives all."""
    learner, names = trained.learner, inputs_of(trained.learner, objective.writes)
    given = {key: value for key, value in (("label", label), ("prompt", prompt), ("index", index)) if value is not None}
    if len(given) > 1:
        first, second, *_ = given
        raise InvalidValue(second, given[second], f"cannot be given beside {first}={given[first]}; give one of them")
    if index is not None or not names:
        return rest_of_set(trained, names, None, index)
    keys = [key for key in ("label", "prompt") if with_field(learner, names, key)]
    if not given:
        ways = " or ".join([f"{key}=..." for key in keys] + ["index=N"])
        raise UserError(f"this model draws from {', '.join(names)}; give {ways}")
    ((key, value),) = given.items()
    (name, *_), others = (
        with_field(learner, names, key),
        [each for each in names if INPUTS[key] not in _fields(learner, each)],
    )
    if others:
        raise InvalidValue(key, value, f"gives no {some(others)}, which this set needs too", "index=N")
    fields = {"class": _class(learner, name, str(value))} if key == "label" else {}
    return {name: fields or {"ids": source_ids(learner, name, str(value))}}


def _fields(learner: Learner, name: str) -> list[str]:
    return [*learner.specs[name].fields]


def _class(learner: Learner, name: str, label: str) -> Tensor:
    """The code of a class, by its name, else by its number."""
    spec = learner.specs[name]
    names, number = spec.class_names or (), spec.fields["class"].num_classes or 0
    if label in names:
        return torch.tensor(names.index(label))
    if label.isdecimal() and int(label) < number:
        return torch.tensor(int(label))
    raise InvalidValue("label", label, f"is no class of '{name}'", some(names) if names else f"0..{number - 1}")


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
