"""Sound that can be had again from its tokens."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import pytest
import torch
from builders import log_mel
from contracts import check_tokenizer
from torch import Tensor

from mmtx.batch import Field, Spec
from mmtx.errors import InvalidValue
from mmtx.modalities.invertible_audio import InvertibleAudio
from mmtx.modalities.spectrogram_stem import Convolution, Patches
from mmtx.sound.griffin_lim import griffin_lim

RATE, SAMPLES = 16_000, 16_000
WHISPER = {"sample_rate_hz": RATE, "n_fft": 400, "hop_length": 160, "n_mels": 80, "dynamic_range": 8.0}
WHISPER |= {"centre": False, "mean": -4.0, "std": 4.0}


def made(dim: int, stem: Any = None, **changes: Any) -> InvertibleAudio:
    torch.manual_seed(0)
    spec = Spec({"waveform": Field((None,), torch.float32, max_length=SAMPLES)}, sample_rate_hz=RATE)
    stem = stem or partial(Patches, frames=4, mels=None)
    spectrogram = log_mel(**{**WHISPER, **changes.pop("spectrogram", {})})
    keys = {"phase_iterations": 16, **changes}
    return InvertibleAudio(spec=spec, dim=dim, clock=None, spectrogram=spectrogram, stem=stem, **keys)


def sine(hertz: float) -> Tensor:
    return 0.5 * torch.sin(2 * math.pi * hertz * torch.arange(SAMPLES) / RATE)


def pitch(waveform: Tensor) -> float:
    """The frequency, in Hz, of which a Hann window of it has most."""
    magnitudes = torch.fft.rfft(waveform * torch.hann_window(len(waveform))).abs()
    return float(magnitudes.argmax()) * RATE / len(waveform)


@pytest.mark.parametrize("stem", [partial(Patches, frames=4, mels=None), partial(Patches, frames=3, mels=20)])
def test_contract(stem: Any) -> None:
    check_tokenizer(made(6, stem))


@pytest.mark.parametrize("hertz", [220.0, 440.0, 1200.0, 3000.0])
def test_a_sine_keeps_its_pitch_and_its_loudness(hertz: float) -> None:
    """To less than a mel bin, which is 37 Hz, or 4 %; a clip that is shorter ends sooner."""
    tokenizer = made(320)
    clips, lengths = torch.stack([sine(hertz), sine(hertz)]), torch.tensor([SAMPLES, SAMPLES // 2])
    with torch.no_grad():
        held = tokenizer.invert(tokenizer({"waveform": clips}, lengths, False))["waveform"]
    assert held.shape == clips.shape
    for clip, length in zip(held, lengths.tolist(), strict=True):
        whole = clip[800 : length - 800]
        assert abs(pitch(whole) - hertz) <= max(20.0, 0.03 * hertz)
        assert float(whole.std()) == pytest.approx(0.5 / math.sqrt(2), rel=0.4)


def test_patches_are_inverted() -> None:
    """Exactly, where a token is as wide as its patch."""
    for stem in (Patches(80, 320, frames=4, mels=None), Patches(80, 60, frames=3, mels=20)):
        frames = torch.randn(2, 12, 80)
        content = stem(frames, torch.tensor([12, 12]))
        torch.testing.assert_close(stem.inverse(content), frames, atol=1e-3, rtol=1e-3)


def test_the_made_sound_has_the_spectrogram() -> None:
    """Two voices at once: the mean error is a few decibels, where silence would be off by tens."""
    spectrogram, waveform = log_mel(**WHISPER), (sine(300.0) + sine(1100.0) * torch.linspace(0, 1, SAMPLES))[None]
    lengths = torch.tensor([SAMPLES])
    mel = spectrogram(waveform, lengths)
    again = spectrogram(griffin_lim(mel, spectrogram, 32), lengths)
    loud = mel > mel.amax() - 3.0 / 4.0  # within 30 dB of the loudest; a unit is 40 dB
    assert float((again - mel)[loud].abs().mean()) * 40 < 3
    assert float((spectrogram(torch.zeros(1, SAMPLES), lengths) - mel)[loud].abs().mean()) * 40 > 20


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"stem": Convolution}, "stem=Convolution is no linear map"),
        ({"spectrogram": {"centre": True}}, "spectrogram.centre=True leaves out how loud each frequency is"),
        ({"phase_iterations": 0}, "phase_iterations=0 must be at least 1"),
    ],
)
def test_what_cannot_be_inverted_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidValue, match=message):
        made(8, **changes)
