"""Augmentation of sound in training, on the device, a whole batch at once.

Axes: B clips, S samples, T frames, M mel bins.
"""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from mmtx.errors import InvalidValue, check_at_least


class SoundAugment(nn.Module):
    """Speed perturbation, noise and SpecAugment; each may be left out.

    Args:
        speeds: each clip is played at one of these, which changes tempo, pitch and formants (Ko et al. 2015,
            Interspeech); ``[]``: at its own.
        noise_snr_db: white noise is added at a signal-to-noise ratio between these two, in dB; None: no noise.
        equalise_db: imitates other microphones: a clip's log-mel bins are raised or lowered by a line with a bend in
            the middle, whose three heights lie within this many dB of 0.
        time_masks: number of masked stretches of time (Park et al. 2019, arXiv 1904.08779).
        time_share: the longest, as a share of the clip.
        mel_masks: number of masked bands of frequency.
        mel_bins: the widest, in mel bins.
    """

    def __init__(
        self,
        *,
        speeds: list[float],
        noise_snr_db: list[float] | None,
        equalise_db: float,
        time_masks: int,
        time_share: float,
        mel_masks: int,
        mel_bins: int,
    ) -> None:
        super().__init__()
        if any(not 0.2 <= speed <= 5 for speed in speeds):
            raise InvalidValue("augment.speeds", speeds, "must lie in 0.2..5")
        if noise_snr_db is not None and (len(noise_snr_db) != 2 or noise_snr_db[0] > noise_snr_db[1]):
            raise InvalidValue("augment.noise_snr_db", noise_snr_db, "must be two ratios, the smaller first")
        if not 0 <= time_share <= 1:
            raise InvalidValue("augment.time_share", time_share, "must lie in [0, 1]")
        counts = {"time_masks": time_masks, "mel_masks": mel_masks, "mel_bins": mel_bins}
        for key, value in {"equalise_db": equalise_db, **counts}.items():
            check_at_least(f"augment.{key}", value, 0)
        self.speeds, self.noise_snr_db, self.equalise_db = speeds, noise_snr_db, equalise_db
        self.time_masks, self.time_share, self.mel_masks, self.mel_bins = time_masks, time_share, mel_masks, mel_bins

    @property
    def slowest(self) -> float:
        """The slowest speed, to a whole per cent as all are."""
        return min([100, *(round(100 * speed) for speed in self.speeds)]) / 100

    def waveform(
        self, waveform: Float[Tensor, "B S"], lengths: Int[Tensor, " B"]
    ) -> tuple[Float[Tensor, "B S2"], Int[Tensor, " B"]]:
        """Clips with perturbed speeds and added noise, and their new lengths."""
        if self.speeds:
            waveform, lengths = self._play(waveform, lengths)
        if self.noise_snr_db is not None:
            low, high = self.noise_snr_db
            ratio_db = low + (high - low) * torch.rand(len(waveform), 1, device=waveform.device)
            power = waveform.square().sum(1, keepdim=True) / lengths.clamp(min=1)[:, None]
            waveform = waveform + torch.randn_like(waveform) * (power * 10 ** (-ratio_db / 10)).sqrt()
        return waveform, lengths

    def features(
        self, features: Float[Tensor, "B T M"], num_frames: Int[Tensor, " B"], decibel: float
    ) -> Float[Tensor, "B T M"]:
        """Log-mel bins raised and lowered; then stretches and bands of each clip set to its mean.

        Args:
            features: zero behind the end of a clip.
            num_frames: of each clip.
            decibel: one decibel in the units of the features.
        """
        count, longest, n_mels = features.shape
        device = features.device
        real = (torch.arange(longest, device=device) < num_frames[:, None])[..., None]
        if self.equalise_db:
            heights = (2 * torch.rand(count, 1, 3, device=device) - 1) * self.equalise_db * decibel
            curve = nn.functional.interpolate(heights, size=n_mels, mode="linear", align_corners=True)
            features = features + curve * real
        masked = torch.zeros(count, longest, n_mels, dtype=torch.bool, device=device)
        for _ in range(self.time_masks):
            masked |= _stretches(longest, num_frames, num_frames * self.time_share)[:, :, None]
        bins = torch.full((count,), n_mels, device=device)
        for _ in range(self.mel_masks):
            masked |= _stretches(n_mels, bins, bins.clamp(max=self.mel_bins).float())[:, None, :]
        mean = features.sum((1, 2), keepdim=True) / (num_frames.clamp(min=1) * n_mels)[:, None, None]
        return torch.where(masked & real, mean, features)

    def _play(
        self, waveform: Float[Tensor, "B S"], lengths: Int[Tensor, " B"]
    ) -> tuple[Float[Tensor, "B S2"], Int[Tensor, " B"]]:
        from torchaudio.functional import resample

        chosen = torch.randint(len(self.speeds), (len(waveform),))  # on the host, which loops over the speeds
        longest = -(-waveform.shape[1] * 100 // round(100 * self.slowest)) + 1
        out, new_lengths = waveform.new_zeros(len(waveform), longest), lengths.clone()
        for choice, speed in enumerate(self.speeds):
            index = (chosen == choice).nonzero()[:, 0].to(waveform.device, non_blocking=True)
            percent = round(100 * speed)
            if not len(index):
                continue
            played = resample(waveform[index], percent, 100)
            out[index, : played.shape[1]] = played[:, :longest]
            new_lengths[index] = (lengths[index] * 100 + percent - 1) // percent
        return out[:, : max(1, int(new_lengths.max()))] if waveform.device.type == "cpu" else out, new_lengths


def _stretches(size: int, available: Int[Tensor, " B"], longest: Float[Tensor, " B"]) -> Bool[Tensor, "B size"]:
    """One random stretch within the first `available` columns of each row, its length uniform up to `longest`."""
    device = available.device
    length = (torch.rand(len(available), device=device) * (longest.floor() + 1)).long()
    start = (torch.rand(len(available), device=device) * (available - length + 1).clamp(min=1)).long()
    index = torch.arange(size, device=device)
    return (index >= start[:, None]) & (index < (start + length)[:, None])
