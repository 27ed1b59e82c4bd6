"""From a log-mel spectrogram to a waveform that has it, by the algorithm of Griffin and Lim."""

import torch
from jaxtyping import Float
from torch import Tensor

from mmtx.sound.mel_spectrogram import MelSpectrogram

MOMENTUM = 0.99
"""Of the fast version of the algorithm."""


def griffin_lim(mel: Float[Tensor, "B T M"], spectrogram: MelSpectrogram, iterations: int) -> Float[Tensor, "B S"]:
    """Waveforms whose spectrograms are near to the given ones.

    What mel bins say of frequencies is the solution of least squares, cut at 0; the phases, of which a spectrogram says
    nothing, are those of a sound whose magnitudes are nearest to that (Griffin and Lim 1984, in the fast version of
    Perraudin et al. 2013, as torchaudio has it), from a start that is not random. Nothing is learnt: speech is
    intelligible and sounds hollow.

    Args:
        mel: frames of `spectrogram`, which does not centre them; all frames count.
        spectrogram: that the frames are of.
        iterations: of the phases.

    Returns:
        ``T * hop_length`` samples of each clip.
    """
    from torchaudio.functional import griffinlim

    with torch.autocast(mel.device.type, enabled=False):
        power = spectrogram.frequencies(mel.float()).transpose(1, 2)
        return griffinlim(
            torch.cat([power, power[..., -1:]], dim=2),  # the last frame, which a spectrogram drops
            window=torch.hann_window(spectrogram.n_fft, device=mel.device),
            n_fft=spectrogram.n_fft,
            hop_length=spectrogram.hop_length,
            win_length=spectrogram.n_fft,
            power=2.0,
            n_iter=iterations,
            momentum=MOMENTUM,
            length=mel.shape[1] * spectrogram.hop_length,
            rand_init=False,
        )
