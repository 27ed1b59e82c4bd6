"""The log-mel spectrogram whose frames tokenizers of sound augment."""

from mmtx.modalities.sound_augment import SoundAugment
from mmtx.sound.mel_spectrogram import MelSpectrogram


class LogMel(MelSpectrogram):
    """The same as `MelSpectrogram`, with what augmentation needs to know of it."""

    @property
    def decibel(self) -> float:
        """One decibel in the units of its bins."""
        return 0.1 / self.std

    def check(self, augment: SoundAugment) -> None:
        """Any augmentation fits."""
