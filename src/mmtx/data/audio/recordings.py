"""Recordings of sound, with what is said in them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float32
from torch import Tensor

from mmtx.batch import Field, Sample, Spec
from mmtx.data.audio.sound_file import SHORTEST_SECONDS, read_sound, trim_silence
from mmtx.data.base import Samples, Source, Split
from mmtx.data.text.vocabulary import TextVocabulary
from mmtx.errors import InvalidValue, UserError, check_within, refuse_together
from mmtx.process.stopping import track

RATES_HZ = (1000, 192_000)


@dataclass(frozen=True)
class Recording:
    """A sound file, and what is known of it.

    Attributes:
        file: the sound.
        text: what is said; None where no recording of the dataset has a text.
        label: its class; None where no recording of the dataset has one.
    """

    file: Path
    text: str | None
    label: int | None


class Recordings(Source):
    """Names: ``audio``; ``text`` where recordings have texts; ``label`` where they have classes.

    Args:
        train: recordings to learn from.
        val: held out to watch training; may be empty.
        test: held out for the test; may be empty.
        labels: names of the classes; None: there are none.
        vocabulary: how texts are written; learns from those of the training part.
        sample_rate_hz: of every waveform.
        resample: convert files that have another rate, rather than refuse them.
        max_seconds: the longest recording; longer ones are refused.
        trim_db: ends of a recording that are so much quieter than its loudest moment are cut off; None: nothing is.
        in_memory: decode all at once and keep them, rather than each when it is asked for.
    """

    def __init__(
        self,
        *,
        train: Sequence[Recording],
        val: Sequence[Recording],
        test: Sequence[Recording],
        labels: tuple[str, ...] | None,
        vocabulary: TextVocabulary,
        sample_rate_hz: int,
        resample: bool,
        max_seconds: float,
        trim_db: float | None,
        in_memory: bool,
    ) -> None:
        if trim_db is not None and trim_db <= 0:
            raise InvalidValue("trim_db", trim_db, "must be above 0, or null")
        self._train, self._val, self._test, self._labels = train, val, test, labels
        self._sample_rate_hz, self._trim_db = sample_rate_hz, trim_db
        self._max_samples = math.ceil(max_seconds * sample_rate_hz)
        self._keys: dict[str, Any] = {
            "sample_rate_hz": sample_rate_hz,
            "resample": resample,
            "max_seconds": max_seconds,
        }
        self._kept = self._read_all([*train, *val, *test]) if in_memory else {}
        self.vocabulary, self._longest_text = vocabulary, 0
        held_out = [recording.text for recording in [*val, *test] if recording.text is not None]
        texts = [recording.text for recording in train if recording.text is not None]
        if texts:
            self.learnt.vocabulary("text", vocabulary, texts, marks=True, held_out=held_out)
            self._longest_text = max(len(self._ids(text)) for text in {*texts, *held_out})

    @property
    def specs(self) -> Mapping[str, Spec]:
        waveform = Field((None,), torch.float32, max_length=self._max_samples)
        specs = {"audio": Spec({"waveform": waveform}, sample_rate_hz=self._sample_rate_hz, trim_db=self._trim_db)}
        if self._longest_text:
            ids = Field((None,), torch.long, num_classes=self.vocabulary.size, max_length=self._longest_text)
            specs["text"] = Spec({"ids": ids}, vocabulary=self.vocabulary)
        if self._labels is not None:
            label = Field((), torch.long, num_classes=len(self._labels))
            specs["label"] = Spec({"class": label}, class_names=self._labels)
        return specs

    def train(self) -> Split:
        return self._split(self._train)

    def val(self) -> Split | None:
        return self._split(self._val) if self._val else None

    def test(self) -> Split | None:
        return self._split(self._test) if self._test else None

    def _split(self, recordings: Sequence[Recording]) -> Split:
        return Samples(len(recordings), partial(self._sample, recordings))

    def _sample(self, recordings: Sequence[Recording], i: int) -> Sample:
        recording = recordings[i]
        kept = self._kept.get(recording.file)
        sample = {"audio": {"waveform": self._read(recording.file) if kept is None else kept.clone()}}
        if recording.text is not None:
            sample["text"] = {"ids": torch.tensor(self._ids(recording.text))}
        if recording.label is not None:
            sample["label"] = {"class": torch.tensor(recording.label)}
        return sample

    def _read(self, file: Path) -> Float32[Tensor, " samples"]:
        return trim_silence(read_sound(file, **self._keys), self._sample_rate_hz, self._trim_db)

    def _ids(self, text: str) -> list[int]:
        begin, end = self.vocabulary.begin, self.vocabulary.end
        assert begin is not None and end is not None
        return [begin, *self.vocabulary.encode(text), end]

    def _read_all(self, recordings: Sequence[Recording]) -> dict[Path, Tensor]:
        waveforms, problems = {}, []
        for recording in track(recordings, "reading recordings"):
            try:
                waveforms[recording.file] = self._read(recording.file)
            except UserError as error:
                problems.append(str(error))
        refuse_together(problems, "the recordings")
        return waveforms


def check_sound_keys(*, sample_rate_hz: int, max_seconds: float) -> None:
    """Checks the keys that all datasets of recordings share, before any file is looked at."""
    check_within("sample_rate_hz", sample_rate_hz, *RATES_HZ)
    if not SHORTEST_SECONDS <= max_seconds < math.inf:
        raise InvalidValue("max_seconds", max_seconds, f"must be at least {SHORTEST_SECONDS:g}, and finite")
