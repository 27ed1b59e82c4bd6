"""Sound: log-mel spectrograms, stems, what happens in training, and the tokenizer that joins them."""

from __future__ import annotations

import math
import os
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from builders import STEMS, audio, audio_batch, audio_spec, log_mel, sound_augment
from contracts import check_tokenizer
from torch import Tensor

from mmtx.batch import Field, Spec
from mmtx.errors import InvalidValue
from mmtx.modalities.audio import Audio
from mmtx.modalities.log_mel import LogMel
from mmtx.modalities.spectrogram_stem import Convolution, Patches

RATE = 16_000


def whisper_mel(**changes: Any) -> LogMel:
    keys: dict[str, Any] = {"sample_rate_hz": RATE, "n_fft": 400, "hop_length": 160, "n_mels": 80}
    return log_mel(**{**keys, **changes})


def made(spec: Spec | None = None, **changes: Any) -> Audio:
    torch.manual_seed(0)
    return audio(spec or audio_spec(), dim=6, **changes)


def clips(lengths: list[int], seed: int = 0) -> tuple[Tensor, Tensor]:
    """Noise of many loudnesses with a tone, and garbage where nothing is."""
    generator = torch.Generator().manual_seed(seed)
    waveform = torch.randn(len(lengths), max(lengths), generator=generator)
    waveform *= 10 ** torch.linspace(-4, -0.5, len(lengths))[:, None]
    waveform += 0.1 * (torch.arange(max(lengths)) * 0.2).sin()
    return waveform, torch.tensor(lengths)


def assert_as_whisper(spectrogram: LogMel, waveform: Tensor, lengths: Tensor) -> None:
    """Clip by clip, each alone over there."""
    log_mel_spectrogram = pytest.importorskip("whisper.audio").log_mel_spectrogram
    features, num_frames = spectrogram(waveform, lengths), spectrogram.num_frames(lengths).tolist()
    for row, clip, length, count in zip(features, waveform, lengths.tolist(), num_frames, strict=True):
        expected = log_mel_spectrogram(clip[:length].clone(), n_mels=spectrogram.n_mels).T
        assert count == len(expected)
        # each is within 2e-5 of a spectrogram in float64: rounding, in bins far below the loudest
        torch.testing.assert_close(row[:count], expected, atol=3e-5, rtol=0)
        assert not row[count:].any()


@pytest.mark.parametrize("n_mels", [80, 128])
def test_log_mel_is_whispers(n_mels: int) -> None:
    """Of a ragged batch with garbage behind each end, loud clips beside quiet ones."""
    lengths = [401, 402, 559, 560, 561, 800, 1000, 4321, 15_999, 16_000, 16_001, 33_333, 50_000]
    assert_as_whisper(whisper_mel(n_mels=n_mels), *clips(lengths))


@pytest.mark.parametrize("n_mels", [80, 128])
def test_log_mel_is_whispers_for_speech(n_mels: int) -> None:
    folder = Path(os.environ.get("MMTX_DATA", "/nowhere")) / "fsdd"
    files = sorted(folder.rglob("*.wav"))[::97][:12]
    if not files:
        pytest.skip(f"no spoken digits: set MMTX_DATA to a folder that has fsdd/*.wav; looked into {folder}")
    import soundfile

    words = [torch.from_numpy(soundfile.read(file, dtype="float32")[0]).repeat_interleave(2) for file in files]
    lengths = torch.tensor([len(word) for word in words])
    waveform = torch.nn.utils.rnn.pad_sequence(words, batch_first=True)
    assert_as_whisper(whisper_mel(n_mels=n_mels), waveform, lengths)


def test_mel_filters_are_torchaudios() -> None:
    """Power before the logarithm, of another rate and window than Whisper's."""
    from torchaudio.transforms import MelSpectrogram

    ours = log_mel(sample_rate_hz=8000, n_fft=256, hop_length=80, n_mels=40, dynamic_range=None, mean=0.0, std=1.0)
    theirs = MelSpectrogram(8000, 256, hop_length=80, n_mels=40, power=2.0, norm="slaney", mel_scale="slaney")
    waveform = torch.randn(2, 4000, generator=torch.Generator().manual_seed(0))
    power = 10 ** ours(waveform, torch.tensor([4000, 4000])).transpose(1, 2)
    torch.testing.assert_close(power, theirs(waveform)[..., :-1], atol=1e-6, rtol=1e-4)


def test_dynamic_range_is_that_of_each_clip() -> None:
    """Loud clips do not hide what is in quiet ones, and without a limit nothing is cut."""
    waveform, lengths = clips([400, 400])
    waveform[1] *= 1e4
    raw = log_mel(dynamic_range=None, mean=0.0, std=1.0)(waveform, lengths)
    cut = log_mel(dynamic_range=1.0, mean=1.0, std=3.0)(waveform, lengths)
    expected = (raw.maximum(raw.amax((1, 2), keepdim=True) - 1.0) - 1.0) / 3.0
    torch.testing.assert_close(cut, expected)
    depth = raw.amax((1, 2)) - raw.amin((1, 2))
    assert (depth > 1.0).all(), "there is something to cut in both"


def test_centred_bins_have_no_mean_over_their_own_clip() -> None:
    """So that a microphone, which raises a bin by the same everywhere, changes nothing."""
    waveform, lengths = clips([400, 160])
    plain, centred = (log_mel(dynamic_range=None, centre=c, mean=0.0)(waveform, lengths) for c in (False, True))
    for row, raw, count in zip(centred, plain, (50, 20), strict=True):
        torch.testing.assert_close(row[:count], raw[:count] - raw[:count].mean(0), atol=1e-5, rtol=1e-5)
        assert not row[count:].any()


@pytest.mark.parametrize("length", [1, 2, 7, 8, 9, 16, 17, 31])
def test_clips_shorter_than_a_window(length: int) -> None:
    """Mirrored again and again: a signal of its period, at least one frame."""
    spectrogram = log_mel(dynamic_range=None, mean=0.0, std=1.0)
    waveform = torch.randn(1, length, generator=torch.Generator().manual_seed(0))
    features = spectrogram(waveform, torch.tensor([length]))
    assert features.shape == (1, max(1, length // 8), 6)
    assert features.isfinite().all()
    there_and_back = torch.cat([waveform[0], waveform[0, 1:-1].flip(0)])
    around = there_and_back[torch.arange(-16, length + 16) % len(there_and_back)]
    frames = around.unfold(0, 32, 8)[: features.shape[1]] * torch.hann_window(32)
    expected = (spectrogram._filters @ torch.fft.rfft(frames).abs().square().T).clamp(min=1e-10).log10().T
    torch.testing.assert_close(features[0], expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("garbage", [math.nan, math.inf, 1e30])
@pytest.mark.parametrize("centre", [False, True])
def test_what_stands_behind_the_end_is_not_read(garbage: float, centre: bool) -> None:
    waveform, lengths = clips([400, 123, 1, 0, 8])
    spectrogram = log_mel(centre=centre)
    expected = spectrogram(waveform, lengths)
    waveform[torch.arange(400)[None] >= lengths[:, None]] = garbage
    features = spectrogram(waveform, lengths)
    assert features.isfinite().all()
    torch.testing.assert_close(features, expected)


def test_a_clip_does_not_depend_on_how_many_are_transformed_together() -> None:
    """On a CPU a large batch is cut; longer than `SAMPLES_AT_ONCE`, a clip is transformed alone."""
    waveform, lengths = clips([90_000, 170_000, 3000])
    together = whisper_mel()(waveform, lengths)
    for row, clip, length in zip(together, waveform, lengths, strict=True):
        alone = whisper_mel()(clip[None, :length], length[None])[0]
        torch.testing.assert_close(row[: len(alone)], alone)


def test_the_spectrogram_stays_in_float32() -> None:
    """Where the model is cast and where autocast is on: its range does not fit a shorter type."""
    waveform, lengths = clips([400, 160])
    expected = log_mel()(waveform, lengths)
    with torch.autocast("cpu", torch.bfloat16):
        features = log_mel().bfloat16()(waveform, lengths)
    assert features.dtype == torch.float32
    assert features.equal(expected)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sample_rate_hz": 0}, "sample_rate_hz=0 must be at least 1"),
        ({"hop_length": 0}, "hop_length=0 must be at least 1"),
        ({"n_mels": 0}, "n_mels=0 must be at least 1"),
        ({"n_fft": 33}, "n_fft=33 must be even and at least 2"),
        ({"std": 0.0}, "std=0.0 must be above 0"),
        ({"n_mels": 40}, r"n_mels=40 leaves \d+ bins between the frequencies of n_fft=32"),
    ],
)
def test_spectrograms_refuse_what_cannot_work(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidValue, match=message):
        log_mel(**changes)


@pytest.mark.parametrize("pad_to_seconds", [None, 0.2])
@pytest.mark.parametrize("stem", STEMS)
def test_contract(stem: str, pad_to_seconds: float | None) -> None:
    check_tokenizer(made(stem=STEMS[stem], pad_to_seconds=pad_to_seconds))


@pytest.mark.parametrize("max_length", [1, 2, 9])
def test_contract_of_very_short_clips(max_length: int) -> None:
    for stem in STEMS.values():
        check_tokenizer(made(audio_spec(max_length), stem=stem))


@pytest.mark.parametrize("stem", STEMS)
def test_a_clip_among_others_equals_the_clip_alone(stem: str) -> None:
    tokenizer = made(stem=STEMS[stem])
    lengths = [128, 100, 57, 8, 3]
    batch = audio_batch(lengths)
    together = tokenizer(batch["audio"], batch.lengths["audio"], False)
    for index, length in enumerate(lengths):
        alone = tokenizer(
            {"waveform": batch["audio"]["waveform"][index : index + 1, :length]}, torch.tensor([length]), True
        )
        count = alone.content.shape[1]
        assert together.lengths[index] == count == tokenizer.num_tokens(torch.tensor([length])).item()
        torch.testing.assert_close(together.content[index, :count], alone.content[0], atol=1e-5, rtol=1e-5)
        assert together.coordinates[:count].equal(alone.coordinates)


def test_slices_equal_a_linear_map_of_the_frames() -> None:
    stem = Patches(6, 5, frames=3, mels=None)
    frames = torch.randn(2, 7, 6)
    tokens = stem(frames, torch.tensor([7, 7]))
    assert tokens.shape == (2, 3, 5)
    assert stem.extent(7) == (3,)
    torch.testing.assert_close(tokens[:, 1], stem.projection(frames[:, 3:6].flatten(1)))
    last = torch.cat([frames[:, 6:], torch.zeros(2, 2, 6)], dim=1)
    torch.testing.assert_close(tokens[:, 2], stem.projection(last.flatten(1)), msg="the last is filled up with zeros")


def test_patches_equal_a_convolution_in_order_of_time() -> None:
    stem = Patches(6, 5, frames=2, mels=3)
    frames = torch.randn(2, 4, 6)
    weight = stem.projection.weight.view(5, 1, 2, 3)
    expected = torch.nn.functional.conv2d(frames[:, None], weight, stem.projection.bias, stride=(2, 3))
    torch.testing.assert_close(stem(frames, torch.tensor([4, 4])), expected.flatten(2).transpose(1, 2))
    tokenizer = made(stem=STEMS["patches"])
    batch = audio_batch([32])
    assert tokenizer(batch["audio"], batch.lengths["audio"], True).coordinates.tolist() == [
        [0, 0],
        [0, 1],
        [1, 0],
        [1, 1],
    ]


def test_silence_that_is_heard() -> None:
    """With `pad_to_seconds` every clip is as if it were recorded with silence after it."""
    tokenizer = made(pad_to_seconds=0.2)
    batch = audio_batch([128, 40, 0])
    batch["audio"]["waveform"][1, 40:] = 7.0
    tokens = tokenizer(batch["audio"], batch.lengths["audio"], False)
    silent = torch.zeros(1, 160)
    silent[0, :40] = batch["audio"]["waveform"][1, :40]
    recorded = made(audio_spec(160))({"waveform": silent}, torch.tensor([160]), True)
    torch.testing.assert_close(tokens.content[1:2], recorded.content)
    assert tokens.lengths.tolist() == [10, 10, 0]
    assert tokenizer.max_tokens == 10


def test_a_clip_is_one_item() -> None:
    batch = audio_batch([128, 40])
    tokens = made()(batch["audio"], batch.lengths["audio"], False)
    assert tokens.num_items == 1
    assert not tokens.time.any()
    assert tokens.coordinates[:, 0].tolist() == list(range(8))


@pytest.mark.parametrize(
    ("spec", "changes", "words"),
    [
        (audio_spec(sample_rate_hz=1600), {}, ["spectrogram.sample_rate_hz=800", "1600 Hz", "data.sample_rate_hz=800"]),
        (audio_spec(800), {"pad_to_seconds": 0.9}, ["pad_to_seconds=0.9", "less than the data's 1 s"]),
        (audio_spec(sample_rate_hz=None), {}, ["must declare sample_rate_hz"]),
        (Spec({"waveform": Field((9,), torch.float32)}, sample_rate_hz=800), {}, ["must be ragged"]),
        (Spec({"ids": Field((3,), torch.long)}), {}, ["'audio' reads the field 'waveform'; the data offers ids"]),
        (audio_spec(), {"stem": partial(Patches, frames=0, mels=None)}, ["stem.frames=0 must be at least 1"]),
        (audio_spec(), {"stem": partial(Patches, frames=1, mels=4)}, ["stem.mels=4 does not divide n_mels=6"]),
    ],
)
def test_what_cannot_work_is_refused(spec: Spec, changes: dict[str, Any], words: list[str]) -> None:
    with pytest.raises(ValueError) as refused:
        made(spec, **changes)
    assert all(word in str(refused.value) for word in words), refused.value


EVERYTHING: dict[str, Any] = {
    "speeds": [0.8, 1.25],
    "noise_snr_db": [0.0, 20.0],
    "equalise_db": 6.0,
    "time_masks": 2,
    "mel_masks": 1,
}


@pytest.mark.parametrize("pad_to_seconds", [None, 0.2])
def test_augmentation_is_for_training_and_follows_the_seed(pad_to_seconds: float | None) -> None:
    augmented = made(augment=sound_augment(**EVERYTHING), pad_to_seconds=pad_to_seconds)
    plain = made(pad_to_seconds=pad_to_seconds)
    batch = audio_batch([128, 90, 0, 40])
    waveform = batch["audio"]["waveform"].clone()

    def content(tokenizer: Audio, seed: int) -> Tensor:
        torch.manual_seed(seed)
        return tokenizer(batch["audio"], batch.lengths["audio"], False).content

    assert content(augmented.eval(), 1).equal(content(plain.eval(), 2))
    augmented.train()
    assert content(augmented, 1).equal(content(augmented, 1))
    first, second = content(augmented, 1), content(augmented, 2)
    assert first.shape != second.shape or not torch.allclose(first, second)
    assert batch["audio"]["waveform"].equal(waveform), "the batch itself stays as it is"


@pytest.mark.parametrize("switch", [{key: value} for key, value in EVERYTHING.items()], ids=lambda s: next(iter(s)))
def test_each_augmentation_alone_changes_what_is_heard(switch: dict[str, Any]) -> None:
    torch.manual_seed(0)
    batch = audio_batch([128] * 8)
    augmented, plain = made(augment=sound_augment(**switch)).train(), made().train()
    augmented_content, expected = (t(batch["audio"], batch.lengths["audio"], True).content for t in (augmented, plain))
    assert augmented_content.isfinite().all()
    assert augmented_content.shape != expected.shape or not torch.allclose(augmented_content, expected)


@pytest.mark.parametrize("pad_to_seconds", [None, 0.2])
@pytest.mark.parametrize("speeds", [[0.2], [0.905], [0.5, 2.0], [0.333, 5.0]], ids=str)
def test_training_keeps_what_the_tokenizer_promises(speeds: list[float], pad_to_seconds: float | None) -> None:
    """No more tokens than `max_tokens`, no place outside `extent`, however slowly clips are played."""
    for max_length in range(120, 136):
        augment = sound_augment(**{**EVERYTHING, "speeds": speeds})
        tokenizer = made(audio_spec(max_length), augment=augment, pad_to_seconds=pad_to_seconds).train()
        batch = audio_batch([max_length, max_length - 1, 0, 1, 60])
        tokens = tokenizer(batch["audio"], batch.lengths["audio"], False)
        assert tokens.content.isfinite().all()
        assert (tokens.lengths > 0).tolist() == [True, True, False, True, True]
        real = tokens.coordinates[: int(tokens.lengths.max())]
        assert len(real) <= tokenizer.max_tokens
        assert (tokens.coordinates < torch.tensor(tokenizer.extent)).all()


@pytest.mark.parametrize("pad_to_seconds", [None, 0.2])
def test_nobody_in_a_batch_of_training(pad_to_seconds: float | None) -> None:
    tokenizer = made(augment=sound_augment(**EVERYTHING), pad_to_seconds=pad_to_seconds).train()
    tokens = tokenizer({"waveform": torch.zeros(2, 1)}, torch.tensor([0, 0]), False)
    tokens.content.sum().backward()
    assert tokens.content.isfinite().all()
    assert tokens.lengths.tolist() == [0, 0]
    assert all(parameter.grad is not None for parameter in tokenizer.parameters())


def test_training_promises_no_full_batch_where_speeds_differ() -> None:
    torch.manual_seed(0)
    tokenizer = made(augment=sound_augment(speeds=[0.5, 1.0, 2.0])).train()
    batch = audio_batch([128] * 20)
    tokens = tokenizer(batch["audio"], batch.lengths["audio"], True)
    assert not tokens.full
    assert set(tokens.lengths.tolist()) == {4, 8, 16}
    assert tokenizer.eval()(batch["audio"], batch.lengths["audio"], True).full


@pytest.mark.parametrize("speed", [0.5, 0.9, 1.1, 2.0])
def test_speed_changes_length_and_pitch_together(speed: float) -> None:
    """A tone of 100 Hz, and silence, in clips of two lengths."""
    lengths = torch.tensor([1600, 801])
    tone = (2 * math.pi * 100 * torch.arange(1600) / 800).sin().expand(2, -1)
    tone = tone * (torch.arange(1600)[None] < lengths[:, None])
    played, new_lengths = sound_augment(speeds=[speed]).waveform(tone, lengths)
    assert new_lengths.tolist() == [math.ceil(round(length / speed, 6)) for length in (1600, 801)]
    assert new_lengths.max() <= played.shape[1]
    for clip, length in zip(played, new_lengths.tolist(), strict=True):
        spectrum = torch.fft.rfft(clip[:length] * torch.hann_window(length)).abs()
        peak_hz = spectrum.argmax().item() * 800 / length
        assert peak_hz == pytest.approx(100 * speed, abs=800 / length)
        assert clip[: length - 20].square().mean().item() == pytest.approx(0.5, rel=0.06)


def test_each_clip_has_a_speed_of_its_own() -> None:
    torch.manual_seed(0)
    tone = (torch.arange(800) * 0.3).sin().expand(300, -1)
    _, lengths = sound_augment(speeds=[0.8, 1.0, 1.25]).waveform(tone, torch.full((300,), 800))
    counts = [int((lengths == length).sum()) for length in (1000, 800, 640)]
    assert sum(counts) == 300
    assert min(counts) > 70


def test_noise_has_the_ratio_that_is_asked() -> None:
    """Of each clip's own power, whatever its length and loudness; uniform between the two."""
    torch.manual_seed(0)
    count = 200
    lengths = torch.full((count,), 4000)
    lengths[::2] = 1000
    waveform = torch.randn(count, 4000) * torch.linspace(0.01, 1, count)[:, None]
    real = torch.arange(4000)[None] < lengths[:, None]
    waveform = waveform * real
    noisy, unchanged = sound_augment(noise_snr_db=[5.0, 15.0]).waveform(waveform, lengths)
    assert unchanged.equal(lengths)
    noise = ((noisy - waveform) * real).square().sum(1)
    ratio_db = 10 * (waveform.square().sum(1) / noise).log10()
    assert ratio_db.min() > 4.0
    assert ratio_db.max() < 16.0
    assert ratio_db.mean().item() == pytest.approx(10.0, abs=0.7)
    assert ratio_db.std().item() == pytest.approx(10 / math.sqrt(12), abs=0.5)


def stretches_of(row: Tensor) -> list[int]:
    """Lengths of the stretches of True."""
    return [len(part) for part in "".join("x" if value else " " for value in row.tolist()).split()]


def test_masks_are_within_the_clip_and_no_longer_than_asked() -> None:
    """One of each, a thousand times: every length up to the longest occurs, and every place."""
    torch.manual_seed(0)
    num_frames = torch.tensor([23, 9, 1, 0]).repeat(300)
    features = torch.randn(1200, 23, 6) + 5
    real = torch.arange(23)[None] < num_frames[:, None]
    features = features * real[..., None]
    mean = features.sum((1, 2)) / (num_frames.clamp(min=1) * 6)
    time = sound_augment(time_masks=1, time_share=0.3).features(features, num_frames, 0.025)
    mel = sound_augment(mel_masks=1, mel_bins=2).features(features, num_frames, 0.025)
    for masked in (time, mel):
        changed = masked != features
        assert not changed[~real].any(), "nothing behind the end changes"
        expected = torch.where(changed, mean[:, None, None], features)
        torch.testing.assert_close(masked, expected, msg="what is masked is the mean of the clip")
    in_time = (time != features).all(2)
    assert ((time != features).any(2) == in_time).all(), "a stretch takes all bins"
    widths = {frames: {sum(stretches_of(row)) for row in in_time[num_frames == frames]} for frames in (23, 9, 1, 0)}
    assert widths == {23: set(range(7)), 9: set(range(3)), 1: {0}, 0: {0}}
    assert all(len(stretches_of(row)) <= 1 for row in in_time)
    assert in_time[num_frames == 23].any(0).all(), "every frame may be masked, the last one too"
    in_mel = (mel != features).any(1)
    assert {sum(row.tolist()) for row in in_mel[num_frames == 23]} == {0, 1, 2}
    assert in_mel.any(0).all()


@pytest.mark.parametrize("masks", [{"time_masks": 1, "time_share": 1.0}, {"mel_masks": 1, "mel_bins": 99}], ids=str)
def test_masks_may_be_as_wide_as_the_clip(masks: dict[str, Any]) -> None:
    torch.manual_seed(0)
    features = torch.randn(400, 3, 6)
    masked = sound_augment(**masks).features(features, torch.full((400,), 3), 0.025)
    changed = (masked != features).flatten(1).float().mean(1)
    assert changed.max() == 1.0
    assert changed.min() == 0.0


def test_another_microphone_raises_bins_by_a_bent_line() -> None:
    """The same all along a clip, within the given decibels, with a bend in the middle; another for each clip."""
    torch.manual_seed(0)
    features = torch.zeros(500, 4, 7)
    num_frames = torch.full((500,), 3)
    curve = sound_augment(equalise_db=10.0).features(features, num_frames, decibel=0.025) / 0.025
    assert not curve[:, 3].any()
    assert curve[:, 0].equal(curve[:, 2])
    heights = curve[:, 0]
    assert heights.abs().max() <= 10.0
    assert heights.abs().max() > 9.0
    for low, middle, high in ((0, 1, 2), (1, 2, 3), (3, 4, 5), (4, 5, 6)):
        torch.testing.assert_close(heights[:, middle], (heights[:, low] + heights[:, high]) / 2, atol=1e-4, rtol=1e-4)
    assert heights[:, 0].std() > 4.0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"speeds": [1.0, 0.1]}, r"augment.speeds=\[1.0, 0.1\] must lie in 0.2..5"),
        ({"speeds": [6.0]}, r"augment.speeds=\[6.0\] must lie in 0.2..5"),
        ({"noise_snr_db": [20.0, 10.0]}, r"augment.noise_snr_db=\[20.0, 10.0\] must be two ratios, the smaller first"),
        ({"noise_snr_db": [20.0]}, r"augment.noise_snr_db=\[20.0\] must be two ratios, the smaller first"),
        ({"time_share": 1.1}, r"augment.time_share=1.1 must lie in \[0, 1\]"),
        ({"time_masks": -1}, "augment.time_masks=-1 must be at least 0"),
        ({"mel_masks": -1}, "augment.mel_masks=-1 must be at least 0"),
        ({"mel_bins": -1}, "augment.mel_bins=-1 must be at least 0"),
        ({"equalise_db": -1.0}, "augment.equalise_db=-1.0 must be at least 0"),
    ],
)
def test_augmentations_refuse_what_cannot_work(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidValue, match=message):
        sound_augment(**changes)


def test_whispers_stem_halves_the_frames() -> None:
    stem = Convolution(6, 5)
    assert stem(torch.randn(1, 7, 6), torch.tensor([7])).shape == (1, 4, 5)
    assert stem.num_tokens(torch.tensor([0, 1, 2, 3, 7])).tolist() == [0, 1, 1, 2, 4]
