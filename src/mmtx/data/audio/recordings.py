"""Recordings of sound, with their texts and classes."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float32
from torch import Tensor

from mmtx.batch import Field, Sample, Spec
from mmtx.data.audio.sound_file import SHORTEST_SECONDS, check_sound, read_sound, trim_silence
from mmtx.data.base import ItemSource
from mmtx.data.files.file_bytes import FileBytes
from mmtx.data.specs import class_spec, text_spec
from mmtx.data.text.vocabulary import TextVocabulary
from mmtx.errors import InvalidValue, UserError, check_within, refuse_together
from mmtx.process.stopping import track

RATES_HZ = (1000, 192_000)


@dataclass(frozen=True)
class Recording:
    """A sound file with its text and class.

    Attributes:
        file: the sound file.
        text: what is said; None where no recording of the dataset has a text.
        label: its class; None where no recording of the dataset has one.
        speaker: who speaks; None where that is not known.
    """

    file: Path
    text: str | None
    label: int | None
    speaker: str | None = None


@dataclass(frozen=True)
class SoundKeys:
    """The keys that all datasets of recordings share, checked before any file is read.

    Args:
        sample_rate_hz: of every waveform.
        resample: convert files of another rate; otherwise they are refused.
        max_seconds: longer recordings are refused.
        trim_db: trim the ends of a recording that are so much quieter than its loudest moment; None: none.

    Raises:
        InvalidValue: a key is outside its limits.
    """

    sample_rate_hz: int
    resample: bool
    max_seconds: float
    trim_db: float | None = None

    def __post_init__(self) -> None:
        check_within("sample_rate_hz", self.sample_rate_hz, *RATES_HZ)
        if not SHORTEST_SECONDS <= self.max_seconds < math.inf:
            raise InvalidValue("max_seconds", self.max_seconds, f"must be at least {SHORTEST_SECONDS:g}, and finite")
        if self.trim_db is not None and self.trim_db <= 0:
            raise InvalidValue("trim_db", self.trim_db, "must be above 0, or null")

    @property
    def spec(self) -> Spec:
        """Of their waveforms."""
        waveform = Field((None,), torch.float32, max_length=math.ceil(self.max_seconds * self.sample_rate_hz))
        return Spec({"waveform": waveform}, sample_rate_hz=self.sample_rate_hz, trim_db=self.trim_db)

    def check(self, file: Path | FileBytes) -> None:
        """Raises `UserError` for a file that `read` would refuse, as far as its header shows."""
        check_sound(file, sample_rate_hz=self.sample_rate_hz, resample=self.resample, max_seconds=self.max_seconds)

    def read(self, file: Path | FileBytes) -> Float32[Tensor, " samples"]:
        """The waveform of a file. Raises `UserError` where it cannot be read, or is not allowed."""
        rate = self.sample_rate_hz
        waveform = read_sound(file, sample_rate_hz=rate, resample=self.resample, max_seconds=self.max_seconds)
        return trim_silence(waveform, rate, self.trim_db)


class Recordings(ItemSource):
    """Names: ``audio``; ``text`` where recordings have texts; ``label`` where they have classes; ``speaker``, for
    slices, where speakers are known.

    Args:
        train: training recordings.
        val: validation recordings; may be empty.
        test: test recordings; may be empty.
        class_names: in the order of the labels; None: there are none.
        vocabulary: of the texts, fitted to those of the training part.
        sound: of every waveform.
        in_memory: decode all at the start and keep them; otherwise each when its sample is read.
        speakers: in the order of their codes; recordings of others lack the name.
    """

    def __init__(
        self,
        *,
        train: Sequence[Recording],
        val: Sequence[Recording],
        test: Sequence[Recording],
        class_names: tuple[str, ...] | None,
        vocabulary: TextVocabulary,
        sound: SoundKeys,
        in_memory: bool,
        speakers: Sequence[str] = (),
    ) -> None:
        self.items, self._class_names = {"train": train, "val": val, "test": test}, class_names
        self._sound, self._speakers = sound, tuple(speakers)
        self._waveforms = self._read_all([*train, *val, *test]) if in_memory else {}
        self.vocabulary, self._longest_text = vocabulary, 0
        held_out = [recording.text for recording in [*val, *test] if recording.text is not None]
        texts = [recording.text for recording in train if recording.text is not None]
        if texts:
            self.fitted.vocabulary("text", vocabulary, texts, marks=True, held_out=held_out)
            self._longest_text = max(len(self.vocabulary.encode_marked(text)) for text in {*texts, *held_out})

    @property
    def specs(self) -> Mapping[str, Spec]:
        specs = {"audio": self._sound.spec}
        if self._longest_text:
            specs["text"] = text_spec(self.vocabulary, self._longest_text)
        if self._class_names is not None:
            specs["label"] = class_spec(self._class_names)
        if self._speakers:
            specs["speaker"] = class_spec(self._speakers)
        return specs

    def origin(self, item: Recording, split: str) -> str:
        return str(item.file)

    def sample(self, item: Recording, split: str) -> Sample:
        waveform = self._waveforms.get(item.file)
        sample = {"audio": {"waveform": self._sound.read(item.file) if waveform is None else waveform.clone()}}
        if item.text is not None:
            sample["text"] = {"ids": torch.tensor(self.vocabulary.encode_marked(item.text))}
        if item.label is not None:
            sample["label"] = {"class": torch.tensor(item.label)}
        if item.speaker in self._speakers:
            sample["speaker"] = {"class": torch.tensor(self._speakers.index(item.speaker))}
        return sample

    def _read_all(self, recordings: Sequence[Recording]) -> dict[Path, Tensor]:
        waveforms, problems = {}, []
        for recording in track(recordings, "reading recordings"):
            try:
                waveforms[recording.file] = self._sound.read(recording.file)
            except UserError as error:
                problems.append(str(error))
        refuse_together(problems, "the recordings")
        return waveforms
