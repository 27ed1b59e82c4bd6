"""Sounds that are made, as one file."""

from pathlib import Path
from typing import Any

from mmtx.errors import InvalidValue, check_within
from mmtx.generation.made_from import given_batch
from mmtx.generation.trained import Trained
from mmtx.learner import Learner
from mmtx.objectives.capabilities import Makes

MOST = 256
"""Sounds of a file."""


def make_sounds(
    trained: Trained,
    objective: Makes,
    *,
    out: str,
    label: str | None = None,
    prompt: str | None = None,
    index: int | None = None,
    count: int = 1,
    **options: Any,
) -> str:
    """Sounds, given whatever else is in the set, one after the other in a file (objective=[flow]).

    Args:
        trained: the model.
        objective: that makes them.
        out: the file, a .wav
        label: class of the sounds, by its name or its number
        prompt: or the text that they are made from
        index: or a sample, counted from 0, of the run's test (or validation) data
        count: how many
        options: of the objective.

    Raises:
        UserError: an option cannot be, or nothing is given to make sounds from.
    """
    import soundfile

    check_within("count", count, 1, MOST)
    file, learner = Path(out).expanduser(), trained.learner
    if file.suffix.lower() != ".wav" or not file.parent.is_dir():
        raise InvalidValue("out", out, "must be a .wav file in a folder that exists")
    batch = given_batch(trained, objective.writes, {"label": label, "prompt": prompt, "index": index}, count)
    waveforms = objective.make(learner.model, batch, trained.generator(), count, **options)
    rate = learner.specs[objective.writes or ""].sample_rate_hz
    soundfile.write(file, waveforms.flatten().clamp(-1, 1).cpu().numpy(), rate)
    return f"written: {out}"


def makes_sounds(learner: Learner, objective: Any) -> bool:
    """Whether an objective makes waveforms."""
    writes = getattr(objective, "writes", None)
    return isinstance(objective, Makes) and writes in learner.specs and objective.made_field == "waveform"
