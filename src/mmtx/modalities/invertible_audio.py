"""Sound that can be had again from its tokens: slices of a log-mel spectrogram."""

from collections.abc import Callable, Mapping

from jaxtyping import Float
from torch import Tensor

from mmtx.batch import Spec
from mmtx.errors import InvalidValue, check_at_least
from mmtx.modalities.audio import Audio
from mmtx.modalities.log_mel import LogMel
from mmtx.modalities.sound_augment import SoundAugment
from mmtx.modalities.spectrogram_stem import Patches, Stem
from mmtx.sound.griffin_lim import griffin_lim
from mmtx.tokens import Tokens


class InvertibleAudio(Audio):
    """As `Audio`, of slices or patches through a linear map, which is inverted; waveforms are those of `griffin_lim`.

    Args:
        spectrogram: not centred, since that leaves out how loud each frequency is.
        stem: of slices or patches.
        phase_iterations: of the algorithm of Griffin and Lim.
        pad_to_seconds: see `Audio`; what is made out of noise has this length.
    """

    def __init__(
        self,
        *,
        spec: Spec,
        dim: int,
        clock: str | None,
        spectrogram: LogMel,
        stem: Callable[[int, int], Stem],
        phase_iterations: int,
        pad_to_seconds: float | None = None,  # absent in stored configs of earlier versions
    ) -> None:
        super().__init__(
            spec=spec,
            dim=dim,
            clock=clock,
            spectrogram=spectrogram,
            stem=stem,
            augment=_unchanged(),
            pad_to_seconds=pad_to_seconds,
        )
        check_at_least("phase_iterations", phase_iterations, 1)
        if not isinstance(self.stem, Patches):
            problem = "is no linear map, so that it cannot be inverted"
            raise InvalidValue("stem", type(self.stem).__name__, problem, "modality/stem@modality.audio.stem=slices")
        if spectrogram.centre:
            raise InvalidValue("spectrogram.centre", True, "leaves out how loud each frequency is", "false")
        self.patches, self.log_mel, self.phase_iterations = self.stem, spectrogram, phase_iterations

    def invert(self, tokens: Tokens) -> dict[str, Tensor]:
        """Waveforms that have the spectrograms of which these are the tokens; behind the end of a clip they mean
        nothing."""
        return {"waveform": self.sound({"frames": self.patches.inverse(tokens.content)})}

    def sound(self, fields: Mapping[str, Tensor]) -> Float[Tensor, "B S"]:
        return griffin_lim(fields["frames"], self.log_mel, self.phase_iterations)


def _unchanged() -> SoundAugment:
    return SoundAugment(
        speeds=[], noise_snr_db=None, equalise_db=0.0, time_masks=0, time_share=0.0, mel_masks=0, mel_bins=0
    )
