"""Films that go on from their first frames, as an animation."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mmtx.config.construct import construct_as
from mmtx.data.collate import collate
from mmtx.data.image.decode_image import Fit
from mmtx.data.image.image_folder import MOST_PIXELS
from mmtx.data.video.video_file import read_video
from mmtx.errors import InvalidValue, UserError
from mmtx.generation.out_file import out_file
from mmtx.generation.rest_of_set import rest_of_set
from mmtx.generation.trained import Trained
from mmtx.learner import Learner
from mmtx.modalities.capabilities import Films
from mmtx.objectives.capabilities import ContinuesFilms
from mmtx.objectives.film import write_large


def continue_films(
    trained: Trained,
    objective: ContinuesFilms,
    *,
    out: str,
    frames: str | None = None,
    index: int | None = None,
    **options: Any,
) -> str:
    """A film that goes on from its first frames, as an animation (objective=[next_frames] or [forced_frames]).

    Args:
        trained: the model.
        objective: that makes frames.
        out: the file, a .gif
        frames: a film (.gif, .npy, .mp4), all of whose frames are given
        index: or a sample, counted from 0, of the run's test (or validation) data, of which the first are given
        options: of the objective.

    Raises:
        UserError: an option cannot be, or no film is given.
    """
    file, learner, name = out_file(out, ".gif"), trained.learner, objective.name
    if (frames is None) == (index is None):
        raise UserError("a film goes on from frames=FILE, or from those of a sample, index=N; give one of them")
    names = learner.model.names
    if frames is None:
        sample = rest_of_set(trained, names, None, index)
        sample[name] = {key: values[: objective.given] for key, values in sample[name].items()}
    elif len(names) > 1:
        raise UserError(f"frames={frames} gives a film; this set needs {', '.join(names)}: use index=N")
    else:
        sample = {name: {"frames": _read(learner, name, frames)}}
    batch = trained.sent(collate([sample], {each: learner.specs[each] for each in sample}))
    made = objective.continue_film(learner.model, batch, trained.generator(), **options)
    tokenizer = learner.model.tokenizer(name)
    assert isinstance(tokenizer, Films)
    write_large(file, [tokenizer.film({"frames": made[0]}, made.shape[1])])
    return f"written: {out}"


def _read(learner: Learner, name: str, file: str) -> Tensor:
    """A film as those of the data: of a longer one, as many frames as these have, equally far apart."""
    if not Path(file).is_file():
        raise InvalidValue("frames", file, "is not a file")
    field = learner.specs[name].fields["frames"]
    _, channels, height, width = (size or 1 for size in field.shape)
    node = ((learner.config or {}).get("data") or {}).get("fit")
    fit = construct_as(Fit, node) if node else Fit(floats=field.dtype.is_floating_point)
    limits = {"max_frames": field.max_length or 1, "max_pixels": MOST_PIXELS}
    read: torch.Tensor = read_video(Path(file), size=(height, width), channels=channels, fit=fit, **limits)
    return read
