"""Log-mel spectrograms of 32 clips of ten seconds, which differ by less than 1e-4."""

from collections.abc import Iterator

import torch

from benchmarks.measuring import Effort, Row, compare, ratio
from mmtx.modalities.log_mel import LogMel

PEER = "openai-whisper, clip by clip"
RATE = 16_000


def measured(effort: Effort) -> Iterator[Row]:
    import whisper

    waveform = clips(*((2, 1) if effort.quick else (32, 10)))
    lengths, spectrogram = torch.full((len(waveform),), waveform.shape[1]), whispers()

    def ours() -> torch.Tensor:
        return spectrogram(waveform, lengths)

    def theirs() -> torch.Tensor:
        return torch.stack([whisper.log_mel_spectrogram(clip, 80).T for clip in waveform])

    difference = float((ours() - theirs()).abs().max())
    assert difference < 1e-4, f"no ratio without equal outputs: they differ by {difference:.1e}"
    yield ratio("log-mel spectrograms of a batch", PEER, compare(ours, theirs, effort.pairs(31)))


def clips(count: int, seconds: int) -> torch.Tensor:
    """Noise."""
    return 0.1 * torch.randn(count, RATE * seconds, generator=torch.Generator().manual_seed(0))


def whispers() -> LogMel:
    """The spectrogram of Whisper."""
    return LogMel(
        sample_rate_hz=RATE,
        n_fft=400,
        hop_length=160,
        n_mels=80,
        dynamic_range=8.0,
        centre=False,
        mean=-4.0,
        std=4.0,
    )
