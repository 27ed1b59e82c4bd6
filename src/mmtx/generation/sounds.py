"""Sounds that are made, in codes or out of noise, as one file."""

from collections.abc import Mapping
from typing import Any

from jaxtyping import Float
from torch import Tensor

from mmtx.batch import Batch
from mmtx.codes.decodes import Decodes, decodes_into
from mmtx.codes.sounds import Sounds
from mmtx.errors import check_within
from mmtx.generation.made_from import given_batch
from mmtx.generation.out_file import out_file
from mmtx.generation.trained import Trained
from mmtx.learner import Learner
from mmtx.objectives.capabilities import DrawsCodes, Makes

MOST = 256
"""Sounds of a file."""


def make_sounds(
    trained: Trained,
    objective: DrawsCodes | Makes,
    *,
    out: str,
    label: str | None = None,
    prompt: str | None = None,
    index: int | None = None,
    count: int = 1,
    **options: Any,
) -> str:
    """Sounds, given whatever else is in the set, one after the other in a file (data=coded_sounds, or
    objective=[flow]).

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
    file = out_file(out, ".wav")
    batch = given_batch(trained, objective.writes, {"label": label, "prompt": prompt, "index": index}, count)
    waveforms, rate = _made(trained, objective, batch, count, options)
    soundfile.write(file, waveforms.flatten().clamp(-1, 1).cpu().numpy(), rate)
    return f"written: {out}"


def makes_sounds(learner: Learner, objective: Any) -> bool:
    """Whether what an objective writes are codes of sounds, or waveforms."""
    spec = learner.specs.get(getattr(objective, "writes", None) or "")
    if spec is None or not isinstance(objective, Makes):
        return spec is not None and decodes_into(spec.vocabulary, Sounds)
    return objective.made_field == "waveform"


def _made(
    trained: Trained, objective: DrawsCodes | Makes, batch: Batch, count: int, options: Mapping[str, Any]
) -> tuple[Float[Tensor, "B S"], int | None]:
    """Waveforms, and their rate."""
    learner, generator = trained.learner, trained.generator()
    spec = learner.specs[objective.writes or ""]
    if isinstance(objective, Makes):
        return objective.make(learner.model, batch, generator, count, **options), spec.sample_rate_hz
    assert isinstance(spec.vocabulary, Decodes) and isinstance(spec.vocabulary.content, Sounds)
    frames = spec.vocabulary.decoded(objective.draw_codes(learner.model, batch, generator, count, **options))
    return spec.vocabulary.content.waveform(frames), spec.vocabulary.content.spectrogram.sample_rate_hz
