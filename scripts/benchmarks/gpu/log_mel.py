"""Log-mel spectrograms of a batch of clips on the device, beside the same formula in a few lines of torch."""

from collections.abc import Iterator

import torch
from torch import Tensor

from benchmarks.gpu.device import Device, Line
from benchmarks.log_mel import RATE, clips, whispers
from mmtx.sound.mel_spectrogram import mel_filters


def measured(device: Device) -> Iterator[Line]:
    waveform = clips(*((2, 1) if device.tiny else (32, 30))).to(device.name)
    lengths, spectrogram = torch.full((len(waveform),), waveform.shape[1], device=device.name), whispers()
    window, filters = torch.hann_window(400, device=device.name), mel_filters(RATE, 400, 80).to(device.name)
    difference = float((spectrogram(waveform, lengths) - plain(waveform, window, filters)).abs().max())
    assert difference < 1e-3, f"no ratio without equal outputs: they differ by {difference:.1e}"
    timed = device.time(
        {"ours": lambda: spectrogram(waveform, lengths), "plain torch": lambda: plain(waveform, window, filters)}
    )
    for how, each in timed.items():
        value = f"{waveform.numel() / RATE / each.seconds:,.0f} s of sound/s"
        yield Line(
            f"log-mel by {how}", value, "plain torch", each.seconds / timed["plain torch"].seconds, None, each.gib
        )


def plain(waveform: Tensor, window: Tensor, filters: Tensor) -> Tensor:
    """Whisper's spectrogram (Radford et al. 2022, section 2.2) of clips of one length."""
    power = torch.stft(waveform, 400, 160, window=window, return_complex=True)[..., :-1].abs() ** 2
    mel = (filters @ power).clamp(min=1e-10).log10()
    mel = torch.maximum(mel, mel.amax((1, 2), keepdim=True) - 8.0)
    return ((mel + 4.0) / 4.0).transpose(1, 2)
