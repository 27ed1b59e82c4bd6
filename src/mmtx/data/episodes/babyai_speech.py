"""Missions of BabyAI as speech of espeak-ng."""

import random
from dataclasses import dataclass

import numpy
import torch
from jaxtyping import Int16, Int64
from torch import Tensor

from mmtx.data.audio.clips import LOUDEST, Clips
from mmtx.data.audio.synthesis import espeak_version, random_voice, synthesise
from mmtx.data.episodes.babyai_demonstrations import Demonstrations
from mmtx.data.files.cache import Arrays, cached_arrays
from mmtx.process.stopping import track

RECIPE = 1  # see `cached_arrays`

SAMPLE_RATE_HZ = 16_000
SECONDS_PER_WORD, SECONDS_MORE = 0.4, 0.8
"""A mission of n words takes at most 0.4 n + 0.8 s. The slowest voice was measured to take 1.6 s for five words, 2.4 s
for eight, 5.6 s for sixteen and 23.7 s for sixty-seven."""


@dataclass(frozen=True)
class Speakers:
    """The voices that say missions in a split.

    Args:
        split: train, val or test.
        voices: number for each mission; each mission has its own.
        seed: of the choice.
    """

    split: str
    voices: int
    seed: int

    def say(self, mission: str, voice: int) -> Int16[Tensor, " samples"]:
        """A mission utterances by one of its voices, in units of 1 / `LOUDEST`."""
        drawn = random_voice(self.split, random.Random(f"{self.seed} {self.split} {voice} {mission}"))
        speech = synthesise(mission, drawn, SAMPLE_RATE_HZ)
        if len(speech) > longest_speech(len(mission.split())) * SAMPLE_RATE_HZ:
            raise AssertionError(f"{drawn} takes {len(speech) / SAMPLE_RATE_HZ:.2f} s for {mission!r}")
        return (speech * LOUDEST).round().to(torch.int16)


def longest_speech(words: int) -> float:
    """The most seconds that so many words take."""
    return words * SECONDS_PER_WORD + SECONDS_MORE


def spoken(shown: Demonstrations, speakers: Speakers) -> tuple[Clips, Int64[numpy.ndarray, " episodes"]]:
    """Clips of every mission by its voices, from the cache or generated, and the index of each episode's clip."""
    voice = numpy.arange(len(shown.mission)) % speakers.voices
    pairs, number = numpy.unique(numpy.stack([shown.mission, voice], 1), axis=0, return_inverse=True)
    utterances = [(str(shown.texts[mission]), int(voice)) for mission, voice in pairs]

    def make() -> Arrays:
        return Clips.of([speakers.say(*pair) for pair in track(utterances, "spoken missions")]).arrays()

    settings = [RECIPE, espeak_version(), sorted(vars(speakers).items()), utterances]
    clips = cached_arrays("babyai", settings, make, lambda arrays: Clips.read(arrays, len(utterances)))
    return clips, number.reshape(-1)
