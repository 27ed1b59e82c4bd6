"""Sound without a spectrogram: its samples, the convolutions over them, positions and masks."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from builders import STEMS, audio, audio_batch, log_mel, sound_augment, waveform_stem
from torch import Tensor, nn

from mmtx.errors import InvalidValue
from mmtx.modalities.position_convolution import PositionConvolution
from mmtx.modalities.samples import Samples
from mmtx.modalities.span_masks import SpanMasks, spans
from mmtx.modalities.wave_convolutions import WaveConvolutions

LENGTHS = torch.tensor([90, 41, 1, 0])


def clips() -> Tensor:
    """Louder and louder, off their middle, and garbage behind each end."""
    waveform = torch.randn(4, 90, generator=torch.Generator().manual_seed(0)) * torch.tensor([[0.1], [1], [2], [3]]) + 3
    return waveform.masked_fill(torch.arange(90) >= LENGTHS[:, None], math.nan)


def test_samples_have_mean_0_and_variance_1_over_their_clip() -> None:
    made = Samples(sample_rate_hz=800, normalise=True)
    frames = made(clips(), LENGTHS)
    for frame, clip, length in zip(frames, clips(), LENGTHS.tolist(), strict=True):
        own = clip[:length]
        expected = (own - own.mean()) / (own.var(correction=0) + 1e-7).sqrt() if length else own
        torch.testing.assert_close(frame[:length, 0], expected)
        assert not frame[length:].any()
    assert made.num_frames(LENGTHS).equal(LENGTHS)


def test_samples_as_they_are() -> None:
    assert Samples(sample_rate_hz=800, normalise=False)(clips(), LENGTHS)[..., 0].equal(clips().nan_to_num())


def test_samples_are_those_of_transformers() -> None:
    extractor = pytest.importorskip("transformers").Wav2Vec2FeatureExtractor(sampling_rate=800)
    sounds = [clip[:length].numpy() for clip, length in zip(clips()[:2], LENGTHS.tolist(), strict=False)]
    theirs = extractor(sounds, sampling_rate=800, padding=True, return_attention_mask=True, return_tensors="pt")
    ours = Samples(sample_rate_hz=800, normalise=True)(clips()[:2], LENGTHS[:2])[..., 0]
    torch.testing.assert_close(ours, theirs["input_values"], atol=1e-5, rtol=1e-5)


def stem(**changes: Any) -> WaveConvolutions:
    torch.manual_seed(0)
    return waveform_stem(**changes)(1, 8)


def test_tokens_are_those_that_read_nothing_behind_the_end() -> None:
    """Counted by convolutions of ones; a clip that is too short has one."""
    made = stem(widths=[2, 2, 2], kernels=[10, 3, 2], strides=[5, 2, 2])
    assert made.reach == 30
    for length in range(80):
        ones = torch.ones(1, 1, max(length, made.reach))
        for kernel, stride in ((10, 5), (3, 2), (2, 2)):
            ones = F.conv1d(ones, torch.ones(1, 1, kernel), stride=stride)
        count = ones.shape[2] if length else 0
        assert made.num_tokens(torch.tensor([length])).item() == count
        assert made.extent(length) == (ones.shape[2],)
        assert made(torch.zeros(1, max(length, 1), 1), torch.tensor([length])).shape[1] == ones.shape[2]


def test_the_first_convolution_is_normalised_over_the_clip_alone() -> None:
    made = stem(layer_norms=False)
    assert made.clip_norm is not None
    with torch.no_grad():
        made.clip_norm.weight.copy_(torch.rand(5)), made.clip_norm.bias.copy_(torch.rand(5))
    x, real = torch.randn(2, 5, 9), torch.arange(9) < torch.tensor([[9], [4]])
    normalised = made.clip_norm(x, real)
    for row, one, length in zip(normalised, x, (9, 4), strict=True):
        expected = F.group_norm(one[None, :, :length], 5, made.clip_norm.weight, made.clip_norm.bias)[0]
        torch.testing.assert_close(row[:, :length], expected)


@pytest.mark.parametrize("kernel", [1, 4, 5])
def test_positions_are_a_convolution_with_a_normalised_weight(kernel: int) -> None:
    """Torch's own; an even kernel reads one token more before than after."""
    made = PositionConvolution(6, kernel=kernel, groups=3, activation=nn.GELU())
    with torch.no_grad():
        made.scale.mul_(torch.rand_like(made.scale)), made.bias.normal_()
    theirs = nn.utils.parametrizations.weight_norm(nn.Conv1d(6, 6, kernel, groups=3), dim=2)
    state = {"bias": made.bias, "original0": made.scale, "original1": made.direction}
    theirs.load_state_dict({key if key == "bias" else f"parametrizations.weight.{key}": v for key, v in state.items()})
    x, lengths = torch.randn(2, 7, 6), torch.tensor([7, 3])
    read = made(x, torch.arange(7) < lengths[:, None])
    for row, one, length in zip(read, x, lengths.tolist(), strict=True):
        around = F.pad(one[:length].T, (kernel // 2, (kernel - 1) // 2))
        torch.testing.assert_close(row[:length], one[:length] + F.gelu(theirs(around)).T)


def test_positions_begin_with_the_variance_of_fairseq() -> None:
    torch.manual_seed(0)
    weight = PositionConvolution(64, kernel=16, groups=4, activation=nn.GELU()).weight
    assert weight.var().item() == pytest.approx(4 / (16 * 64), rel=0.05)


def test_spans_lie_within_each_row() -> None:
    """As many as the share asks for, on average; none where there is no room; no two begin in one place."""
    torch.manual_seed(0)
    available = torch.tensor([40, 25, 3, 2, 0])
    drawn = torch.stack([spans(40, available, 0.2, 3, 0) for _ in range(400)])
    assert not (drawn & (torch.arange(40) >= available[:, None])).any()
    starts = drawn & ~F.pad(drawn, (1, 0))[..., :-1]
    lengths = drawn.sum(-1)[starts.sum(-1) == 1]
    assert lengths.min() == 3
    single = torch.stack([spans(40, available, 0.21, 1, 0).sum(1) for _ in range(400)]).double()
    torch.testing.assert_close(single.mean(0), 0.21 * available.double(), atol=0.1, rtol=0)
    assert {*single[:, 0].tolist()} == {8.0, 9.0}
    assert spans(40, available, 0.01, 3, 2).sum(1).clamp(max=1).tolist() == [1, 1, 1, 0, 0]


def masks(**changes: Any) -> Any:
    keys: dict[str, Any] = {"time_share": 0.0, "time_length": 2, "time_least": 0}
    return partial(SpanMasks, **{**keys, **{key.replace("time", "feature"): v for key, v in keys.items()}, **changes})


def test_masked_tokens_are_one_vector_and_masked_features_zero() -> None:
    x, lengths = torch.randn(3, 20, 8), torch.tensor([20, 10, 5])
    made = masks(time_share=0.3)(8)
    hidden = (made(x, lengths) == made.vector).all(-1)
    assert hidden.any(1).all()
    assert made(x, lengths).masked_fill(hidden[..., None], 0.0).shape == x.shape
    torch.manual_seed(1)
    changed = made(x, lengths)
    rest = ~(changed == made.vector).all(-1)
    assert changed[rest].equal(x[rest])
    featured = masks(feature_share=0.25)(8)(x, lengths)
    assert ((featured == 0).all(1).sum(1) >= 1).all()
    assert made.eval()(x, lengths) is x


def test_masks_in_a_stem_are_for_training() -> None:
    tokenizer = audio(stem=waveform_stem(masks=masks(time_share=0.5)))
    batch = audio_batch([128, 90])
    first, second = (tokenizer.train(mode)(batch["audio"], batch.lengths["audio"], False) for mode in (True, False))
    assert not first.content.equal(second.content)
    assert first.lengths.equal(second.lengths)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"spectrogram": log_mel()}, ["stem=waveform reads samples, not 6 bins", "modality/spectrogram=samples"]),
        ({"stem": waveform_stem(kernels=[4])}, ["stem.kernels=[4] must have a number above 0 for each of the 2"]),
        ({"stem": waveform_stem(strides=[2, 0])}, ["stem.strides=[2, 0] must have a number above 0"]),
        ({"stem": waveform_stem(position_groups=5)}, ["stem.position_groups=5 does not divide the width 24"]),
        ({"stem": waveform_stem(dropout=1.0)}, ["stem.dropout=1.0 must lie in [0, 1)"]),
        ({"stem": waveform_stem(masks=masks(time_share=1.0))}, ["stem.masks.time_share=1.0 must lie in [0, 1)"]),
        ({"augment": sound_augment(mel_masks=1)}, ["augment.mel_masks=1 changes frequencies"]),
        ({"augment": sound_augment(equalise_db=3.0)}, ["augment.equalise_db=3.0 changes frequencies"]),
    ],
)
def test_what_does_not_fit_samples(changes: dict[str, Any], words: list[str]) -> None:
    with pytest.raises(InvalidValue) as caught:
        audio(**{"stem": STEMS["waveform"], **changes})
    assert all(word in str(caught.value) for word in words), caught.value


def test_samples_are_drawn_as_a_curve() -> None:
    pyplot = pytest.importorskip("matplotlib.figure")
    axes = pyplot.Figure().subplots()
    batch = audio_batch([128, 40])
    audio(stem=STEMS["waveform"]).draw(axes, {"waveform": batch["audio"]["waveform"][1]}, 40)
    seconds, values = axes.lines[0].get_data()
    assert seconds[-1] == pytest.approx(40 / 800)
    assert values.tolist() == batch["audio"]["waveform"][1, :40].tolist()
