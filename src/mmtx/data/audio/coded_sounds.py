"""Sounds, and the codes that a trained codec has for them."""

from mmtx.data.base import Source
from mmtx.data.codec_vocabulary import SoundCodes
from mmtx.data.coded_samples import CodedSamples


class CodedSounds(CodedSamples):
    """Names: those of the sounds, and ``codes``, the ids of the sound. Each sound is encoded once.

    Args:
        sounds: dataset with a name ``audio``.
        vocabulary: the codes.
    """

    name, field = "audio", "waveform"

    def __init__(self, *, sounds: Source, vocabulary: SoundCodes) -> None:
        super().__init__(sounds, vocabulary)
