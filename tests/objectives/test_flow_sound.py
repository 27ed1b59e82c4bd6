"""A flow of sounds: spectrograms of one length, and waveforms that have them."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch
from builders import STEMS, audio_batch, audio_spec, backbone, label_spec, log_mel, merge, model, series
from contracts import check_objective

from mmtx.batch import Batch
from mmtx.decoding.flow import Integration
from mmtx.errors import InvalidValue
from mmtx.modalities.invertible_audio import InvertibleAudio
from mmtx.model import MultimodalTransformer
from mmtx.nn.adaptive_norm import AdaptiveNorm
from mmtx.nn.positions import Positions
from mmtx.nn.rotary import Rotary
from mmtx.objectives import flow
from mmtx.objectives.flow import Flow
from mmtx.sound.griffin_lim import griffin_lim

SAID = {"label": label_spec(), "audio": audio_spec()}
SECONDS = 0.2
INDEX = Positions(absolute=None, rotary=Rotary(axes=["index"], base=100.0), bias=None)


def tokenizer(**changes: Any) -> InvertibleAudio:
    keys = {"stem": STEMS["slices"], "spectrogram": log_mel(), "phase_iterations": 2, "pad_to_seconds": SECONDS}
    return InvertibleAudio(spec=SAID["audio"], dim=24, clock=None, **{**keys, **changes})


def saying(**changes: Any) -> tuple[MultimodalTransformer, Flow]:
    own = {"label": series(SAID["label"], clock=None), "audio": tokenizer(**changes)}
    whole = model(own, backbone(positions=INDEX, num_layers=1, norm=partial(AdaptiveNorm, eps=1e-6)))
    torch.manual_seed(1)
    names = {"names": ["audio"], "times": "uniform", "likelihood_steps": None}
    objective = Flow(specs=SAID, model=whole, weight=1.0, **names).eval()  # type: ignore[arg-type]
    with torch.no_grad():
        for parameter in objective.heads.parameters():
            parameter.normal_(std=0.2)
    return whole, objective


def said(lengths: list[int]) -> Batch:
    count = torch.ones(len(lengths), dtype=torch.long)
    labels = Batch({"label": {"class": torch.arange(len(lengths)) % 5}}, {"label": count}, {"label": True}, count - 1)
    return merge(labels, audio_batch(lengths))


def test_numbers_are_the_spectrogram_of_the_clip_and_of_silence_behind_it() -> None:
    """Whatever else is in the batch, and the silence is what the dynamic range leaves of it."""
    whole, objective = saying()
    head, batch = objective.head("audio"), said([128, 40])
    frames = head.fields_of(head.numbers(batch))["frames"]
    rate, spectrogram = SAID["audio"].sample_rate_hz, log_mel()
    assert rate is not None
    for row, length in enumerate([128, 40]):
        clip = torch.zeros(1, round(SECONDS * rate))
        clip[0, :length] = batch["audio"]["waveform"][row, :length]
        own = spectrogram(clip, torch.tensor([clip.shape[1]]))[0]
        torch.testing.assert_close(frames[row, : len(own)], own, atol=1e-5, rtol=1e-5)
        assert frames[row, len(own) :].eq(0).all(), "what fills the last slice"
    quiet, loudest = frames[1, len(own) - 2 : len(own)], frames[1, : len(own)].amax()
    assert spectrogram.dynamic_range is not None
    floor = (loudest * spectrogram.std - spectrogram.dynamic_range) / spectrogram.std
    torch.testing.assert_close(quiet, floor.expand_as(quiet), atol=1e-5, rtol=1e-5)
    assert head.real(batch).all() and objective.count(batch) == 2 * head.max_numbers


def test_waveforms_are_made_of_the_spectrograms_that_are_made() -> None:
    """What the batch has of the sounds is not read, nor how long they are."""
    whole, objective = saying()
    how = Integration(2)
    made = objective.make(whole, said([128, 40]), torch.Generator().manual_seed(0), 2, integration=how)
    again = objective.make(whole, said([50, 128]), torch.Generator().manual_seed(0), 2, integration=how)
    assert made.equal(again) and objective.made_field == "waveform"
    numbers = objective.made(whole, said([128, 128]), torch.Generator().manual_seed(0), how)["audio"]
    frames = objective.head("audio").fields_of(numbers)["frames"]
    torch.testing.assert_close(made, griffin_lim(frames, log_mel(), 2))


def test_contract(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flow, "SHOWN", Integration(num_steps=1))
    whole, objective = saying()
    check_objective(objective, whole, SAID)


def test_a_length_that_follows_the_clip_is_refused() -> None:
    with pytest.raises(
        InvalidValue, match="names=audio is made of frames, of which clips have as many.*pad_to_seconds"
    ):
        saying(pad_to_seconds=None)
