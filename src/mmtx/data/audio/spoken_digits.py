"""Digits said by espeak-ng, one or several in a row: speech recognition without a download."""

import random
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Int16
from torch import Tensor

from mmtx.batch import Field, Sample, Spec
from mmtx.data.audio.clips import LOUDEST, Clips
from mmtx.data.audio.synthesis import ACCENTS, SPEAKERS, UNSEEN_ACCENT, espeak_version, random_voice, synthesise
from mmtx.data.base import ItemSource
from mmtx.data.files.cache import Arrays, cached_arrays
from mmtx.data.image.digits import NAMES
from mmtx.data.specs import class_spec, text_spec
from mmtx.data.text.vocabulary import TextVocabulary
from mmtx.errors import check_within
from mmtx.process.stopping import track

RECIPE = 1  # see `cached_arrays`

SECONDS_PER_DIGIT, SECONDS_MORE = 0.6, 0.5
"""n digits take at most 0.6 n + 0.5 s. The slowest voice was measured to take 0.9 s for one, 2.5 s for four and 12.1 s
for twenty."""

SILENCE_SECONDS = 0.2
"""Most seconds of silence before the first digit, and after the last."""


class SpokenDigits(ItemSource):
    """Names: ``audio`` (its waveform), ``text`` (``seven three zero``), and where clips hold one digit, ``label``.

    Clip `i` of a split is a pure function of (`split_seed`, split, `i`), of the range of digits and of the rate: how
    many digits, which, who says them, how high and how fast, the silence around them and the loudness are drawn for
    each. **Speakers of the test are in no other split**, nor are those of validation, and only the test has one more
    accent (`mmtx.data.audio.synthesis`).

    The clips are generated once, some 140 a second, and cached (`mmtx.data.files.cache`).

    Args:
        vocabulary: of the texts.
        min_digits: fewest digits of a clip.
        max_digits: most digits of a clip.
        num_train: training clips.
        num_val: validation clips; 0: none.
        num_test: test clips; 0: none.
        sample_rate_hz: of the waveforms.
        split_seed: of the clips.
    """

    def __init__(
        self,
        *,
        vocabulary: TextVocabulary,
        min_digits: int,
        max_digits: int,
        num_train: int,
        num_val: int,
        num_test: int,
        sample_rate_hz: int,
        split_seed: int,
    ) -> None:
        check_within("max_digits", max_digits, 1, 20)
        check_within("min_digits", min_digits, 1, max_digits)
        check_within("num_train", num_train, 1, 1_000_000)
        check_within("num_val", num_val, 0, 1_000_000)
        check_within("num_test", num_test, 0, 1_000_000)
        check_within("sample_rate_hz", sample_rate_hz, 8000, 48000)
        self.vocabulary, self.max_digits, self.sample_rate_hz = vocabulary, max_digits, sample_rate_hz
        texts = NAMES if max_digits == 1 else [" ".join(NAMES)]
        self.fitted.vocabulary("text", vocabulary, texts, marks=True)
        draw = _Draw(min_digits, max_digits, sample_rate_hz, split_seed)
        counts = {"train": num_train, "val": num_val, "test": num_test}
        self.items = {split: range(count) for split, count in counts.items()}
        self._clips = _cached(draw, {split: count for split, count in counts.items() if count})
        self._digits = {split: [draw.digits(split, i)[0] for i in range(counts[split])] for split in self._clips}

    @property
    def specs(self) -> Mapping[str, Spec]:
        seconds = _longest_speech(self.max_digits) + 2 * SILENCE_SECONDS
        audio = Field((None,), torch.float32, max_length=round(seconds * self.sample_rate_hz))
        longest = self.max_digits * (max(map(len, NAMES)) + 1) - 1 + 2  # an id stands for a byte or more; two marks
        specs = {
            "audio": Spec({"waveform": audio}, sample_rate_hz=self.sample_rate_hz),
            "text": text_spec(self.vocabulary, longest),
        }
        if self.max_digits == 1:
            specs["label"] = class_spec(NAMES)
        return specs

    def sample(self, item: int, split: str) -> Sample:
        digits = self._digits[split][item]
        ids = torch.tensor(self.vocabulary.encode_marked(_text(digits)))
        sample = {"audio": {"waveform": self._clips[split][item]}, "text": {"ids": ids}}
        return sample | ({"label": {"class": torch.tensor(digits[0])}} if self.max_digits == 1 else {})


@dataclass(frozen=True)
class _Draw:
    """Draws what is said in a clip, and how."""

    min_digits: int
    max_digits: int
    sample_rate_hz: int
    seed: int

    def digits(self, split: str, i: int) -> tuple[list[int], random.Random]:
        """The digits of a clip, and the generator for the rest of it."""
        generator = random.Random(f"{self.seed} {split} {i}")
        count = generator.randint(self.min_digits, self.max_digits)
        return [generator.randrange(10) for _ in range(count)], generator

    def clip(self, split: str, i: int) -> Int16[Tensor, " samples"]:
        digits, generator = self.digits(split, i)
        voice = random_voice(split, generator)
        before, after = (round(generator.uniform(0, SILENCE_SECONDS) * self.sample_rate_hz) for _ in range(2))
        peak = generator.uniform(0.2, 1.0)
        speech = synthesise(_text(digits), voice, self.sample_rate_hz)
        if len(speech) > _longest_speech(len(digits)) * self.sample_rate_hz:
            raise AssertionError(f"{voice} takes {len(speech) / self.sample_rate_hz:.2f} s for {_text(digits)!r}")
        speech = speech * (peak * LOUDEST / speech.abs().max())
        return torch.nn.functional.pad(speech, (before, after)).round().to(torch.int16)

    def clips(self, split: str, count: int) -> Clips:
        return Clips.of([self.clip(split, i) for i in track(range(count), f"spoken digits, {split}, clip")])


def _text(digits: list[int]) -> str:
    return " ".join(NAMES[digit] for digit in digits)


def _longest_speech(digits: int) -> float:
    """The most seconds that so many digits take."""
    return digits * SECONDS_PER_DIGIT + SECONDS_MORE


# --- the cache --------------------------------------------------------------------------------------------------------


def _cached(draw: _Draw, counts: dict[str, int]) -> dict[str, Clips]:
    """The clips of each split, from the cache or generated."""

    def make() -> Arrays:
        made = [draw.clips(split, count).arrays(f"{split}_") for split, count in counts.items()]
        return {key: values for arrays in made for key, values in arrays.items()}

    def read(arrays: Arrays) -> dict[str, Clips]:
        return {split: Clips.read(arrays, count, f"{split}_") for split, count in counts.items()}

    voices = [SPEAKERS, ACCENTS, UNSEEN_ACCENT]
    settings = [RECIPE, espeak_version(), voices, sorted(vars(draw).items()), counts]
    return cached_arrays("spoken_digits", settings, make, read)
