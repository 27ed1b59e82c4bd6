"""Sounds that a model makes, judged by a recogniser of speech."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from mmtx.batch import Batch, Spec
from mmtx.data.loaders import DataModule
from mmtx.errors import InvalidValue, UserError
from mmtx.judging.drawings import split_batches
from mmtx.learner import Learner
from mmtx.modalities.capabilities import Numbers, Sounds
from mmtx.objectives.capabilities import Makes, Writes
from mmtx.objectives.text_metrics import WordErrorRate


class Recogniser:
    """A learner that transcribes sounds alone.

    Args:
        learner: in eval mode.
        place: of its run, for errors.

    Raises:
        InvalidValue: it writes no text, or from something else beside sounds.

    Attributes:
        audio: name of the sounds.
        text: name of the texts.
        reads: both of them.
    """

    def __init__(self, learner: Learner, place: str) -> None:
        found = [learner.objective(name) for name in learner.objectives]
        writers = [each for each in found if isinstance(each, Writes)]
        names = [name for name in learner.model.names if not writers or name != writers[0].writes]
        if not writers or len(names) != 1 or "waveform" not in learner.specs[names[0]].fields:
            problem = f"has the set {', '.join(learner.model.names)} and the objectives {', '.join(learner.objectives)}"
            hint = "a run of experiment=whisper_digits"
            raise InvalidValue("judge", place, f"{problem}; a judge of sounds writes the text of sounds alone", hint)
        self.learner, self.place, self._writer = learner, place, writers[0]
        self.audio, self.text = names[0], writers[0].writes
        self.reads = self.audio, self.text

    def check(self, specs: Mapping[str, Spec]) -> None:
        """Raises InvalidValue unless data has texts, and sounds of the same rate, trimmed in the same way."""
        own, theirs = self.learner.specs[self.audio], specs.get(self.audio)
        if theirs is None or (own.sample_rate_hz, own.trim_db) != (theirs.sample_rate_hz, theirs.trim_db):
            described = "lacks it" if theirs is None else f"has {theirs.sample_rate_hz} Hz, trim_db={theirs.trim_db}"
            problem = f"has learnt '{self.audio}' of {own.sample_rate_hz} Hz, trim_db={own.trim_db}"
            raise InvalidValue("judge", self.place, f"{problem}, and the data of this run {described}")
        if self.text not in specs or specs[self.text].vocabulary is None:
            raise InvalidValue("judge", self.place, f"writes '{self.text}', which the data of this run lack")

    def read(self, waveforms: Float[Tensor, "B S"], lengths: Int[Tensor, " B"]) -> list[str]:
        """The transcript of each."""
        batch = Batch({self.audio: {"waveform": waveforms}}, {self.audio: lengths}, {self.audio: False})
        return self._writer.write(self.learner.model, batch)


def sound_maker(learner: Learner) -> Makes | None:
    """The first objective that makes sounds; None where none does."""
    found = [learner.objective(name) for name in learner.objectives]
    makers = (each for each in found if isinstance(each, Makes) and each.writes is not None)
    return next((each for each in makers if each.made_field == "waveform"), None)


def judge_sounds(
    learner: Learner,
    judge: Recogniser,
    data: DataModule,
    split: str,
    *,
    generator: torch.Generator,
    options: Mapping[str, Any] = MappingProxyType({}),
) -> dict[str, float]:
    """A sound is made for every sample of a split, given all but its sound, and the judge transcribes it.

    ``wer``: its word error rate, against the sample's text; ``judge_wer``: of the sample's own sounds;
    ``judge_wer_of_spectrograms``: of waveforms that were made again from their spectrograms, which nothing that makes
    spectrograms can be expected to beat.

    Args:
        learner: in eval mode, on the device to compute on.
        judge: on the same device.
        data: with sounds and texts.
        split: that is judged.
        generator: draws the noise.
        options: of the objective's `make`.

    Raises:
        UserError: the split is empty.
    """
    maker, metric = sound_maker(learner), WordErrorRate()
    assert maker is not None and maker.writes is not None
    vocabulary = data.specs[judge.text].vocabulary
    assert vocabulary is not None
    counted: dict[str, list[tuple[float, float]]] = {"wer": [], "judge_wer": [], "judge_wer_of_spectrograms": []}
    for batch in split_batches(data, split, generator.device):
        made = maker.make(learner.model, batch, generator, len(batch), **options)
        lengths = batch.lengths[maker.writes]
        sounds = (made, batch[maker.writes]["waveform"], _made_again(learner, maker.writes, batch))
        rows = zip(batch[judge.text]["ids"].tolist(), batch.lengths[judge.text].tolist(), strict=True)
        truth = [[vocabulary.decode(row[:length])] for row, length in rows]
        for key, waveforms in zip(counted, sounds, strict=True):
            ends = lengths if key == "judge_wer" else torch.full_like(lengths, waveforms.shape[1])
            counted[key].append(metric.score(judge.read(waveforms, ends), truth)[metric.name])
    if not counted["wer"]:
        raise UserError(f"a judge needs samples, and split={split} has none")
    sums = {key: (sum(a for a, _ in pairs), sum(b for _, b in pairs)) for key, pairs in counted.items()}
    return {key: metric.value({metric.name: pair}) for key, pair in sums.items()}


def _made_again(learner: Learner, name: str, batch: Batch) -> Float[Tensor, "B S"]:
    tokenizer = learner.model.tokenizer(name)
    assert isinstance(tokenizer, Numbers) and isinstance(tokenizer, Sounds)
    with torch.no_grad():
        return tokenizer.sound(tokenizer.fields_of(tokenizer.numbers(batch[name], batch.lengths[name])))
