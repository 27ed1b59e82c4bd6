"""Audio: tokens of a spectrogram, or of the samples themselves."""

from collections.abc import Callable, Mapping
from contextlib import nullcontext
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from mmtx.batch import Spec
from mmtx.errors import InvalidValue, UserError
from mmtx.modalities.base import Tokenizer, required_field
from mmtx.modalities.capabilities import Panel
from mmtx.modalities.drawing import draw_spectrogram
from mmtx.modalities.log_mel import LogMel
from mmtx.modalities.samples import Samples
from mmtx.modalities.sound_augment import SoundAugment
from mmtx.modalities.spectrogram_stem import Patches, Stem
from mmtx.tokens import Tokens


class Audio(Tokenizer):
    """A clip of any length as one item: its log-mel spectrogram, or its samples, cut into tokens.

    Reads the ragged field ``waveform``, ``(samples,)``, mono float32 in -1..1; or, where a batch has spectrograms,
    ``frames``, ``(frames, mels)``, whose lengths are then in frames.

    Args:
        spectrogram: of waveforms at its own rate, which the data must have; `Samples` leaves them as they are.
        stem: ``stem(n_mels, dim)``, from frames to tokens.
        augment: of sound in training.
        pad_to_seconds: pad every clip with silence that counts as real (Whisper: 30), so that all have as many frames;
            None: clips keep their length.
    """

    panel = Panel(width=4.2, most=4)

    column_kind = "sound"
    numbered, is_scaled = "frames", False

    def __init__(
        self,
        *,
        spec: Spec,
        dim: int,
        clock: str | None,
        spectrogram: LogMel | Samples,
        stem: Callable[[int, int], Stem],
        augment: SoundAugment,
        pad_to_seconds: float | None,
    ) -> None:
        super().__init__(spec=spec, dim=dim, clock=clock)
        required_field(spec, "waveform", "audio")
        rate = spectrogram.sample_rate_hz
        longest = longest_at(spec, rate)
        spectrogram.check(augment)
        self.padded_length = padded_length(pad_to_seconds, rate, longest)
        self.spectrogram, self.augment, self.stem = spectrogram, augment, stem(spectrogram.n_mels, dim)
        tokens = self.num_tokens(torch.arange(1, longest + 1))
        self.length_of_two_tokens = min(int((tokens < 2).sum()) + 1, longest)
        longest = self.padded_length or int(longest / augment.slowest) + 1
        self.max_frames = int(spectrogram.num_frames(torch.tensor([longest])))

    @property
    def extent(self) -> tuple[int, ...]:
        return self.stem.extent(self.max_frames)

    @property
    def max_tokens(self) -> int:
        return int(self.stem.num_tokens(torch.tensor([self.max_frames])))

    def num_tokens(self, lengths: Int[Tensor, " B"]) -> Int[Tensor, " B"]:
        if self.padded_length is not None:
            lengths = torch.where(lengths > 0, self.padded_length, 0)
        return self.stem.num_tokens(self.spectrogram.num_frames(lengths))

    def forward(self, fields: dict[str, Tensor], lengths: Int[Tensor, " B"], full: bool) -> Tokens:
        foreseen = "frames" in fields or not self.training or not self.augment.speeds or self.padded_length is not None
        frames, num_frames = self._frames(fields, lengths, augments=self.training)
        content = self.stem(frames.to(next(self.stem.parameters()).dtype), num_frames)
        extent = self.stem.extent(frames.shape[1])
        axes = [torch.arange(size, device=content.device) for size in extent]
        coordinates = torch.cartesian_prod(*axes).view(-1, len(axes))
        return Tokens(
            content=content,
            coordinates=coordinates,
            time=coordinates.new_zeros(1, coordinates.shape[0]),
            lengths=self.stem.num_tokens(num_frames),
            num_items=1,
            full=full and foreseen,
            foreseen=foreseen,
        )

    @property
    def numbers_per_token(self) -> int:
        """Numbers of a patch of the spectrogram; 0 where tokens are no patches, or clips change their length."""
        is_cut = not self.augment.speeds
        return self.stem.numbers_per_token if isinstance(self.stem, Patches) and is_cut else 0

    def numbers(self, fields: Mapping[str, Tensor], lengths: Int[Tensor, " B"]) -> Float[Tensor, "B n k"]:
        """Of the spectrogram, patch after patch in time."""
        assert isinstance(self.stem, Patches)
        return self.stem.patches(self._frames(fields, lengths, augments=False)[0])

    def fields_of(self, numbers: Float[Tensor, "B n k"]) -> dict[str, Tensor]:
        assert isinstance(self.stem, Patches)
        return {"frames": self.stem.joined(numbers)}

    def draw(self, axes: Any, fields: Mapping[str, Tensor], length: int) -> None:
        """A spectrogram over seconds, made here unless it is given; where there is none, the stem's samples."""
        if "frames" in fields:
            mel = fields["frames"][:length].cpu()
        else:
            lengths = torch.tensor([length], device=fields["waveform"].device)
            count = max(int(self.spectrogram.num_frames(lengths)), 1)
            mel = self.spectrogram(fields["waveform"][None], lengths)[0, :count].cpu()
        seconds = len(mel) * self.spectrogram.hop_length / self.spectrogram.sample_rate_hz
        if mel.shape[1] > 1:
            draw_spectrogram(axes, mel, seconds)
        else:
            axes.set_xlabel("seconds")
            axes.plot(torch.linspace(0, seconds, len(mel)).numpy(), mel[:, 0].numpy(), linewidth=0.6)

    def _frames(
        self, fields: Mapping[str, Tensor], lengths: Int[Tensor, " B"], augments: bool
    ) -> tuple[Float[Tensor, "B T M"], Int[Tensor, " B"]]:
        if "frames" in fields and not augments:
            return fields["frames"], self._given_frames(fields["frames"], lengths)
        # augmentation is in float32, as the spectrogram is, whatever the network is
        with torch.autocast(lengths.device.type, enabled=False) if augments else nullcontext():
            if "frames" in fields:
                frames, num_frames = fields["frames"], self._given_frames(fields["frames"], lengths)
            else:
                waveform, longer = self._waveform(fields["waveform"], lengths, augments)
                frames, num_frames = self.spectrogram(waveform, longer), self.spectrogram.num_frames(longer)
            if augments:
                frames = self.augment.features(frames, num_frames, decibel=self.spectrogram.decibel)
            return frames, num_frames

    def _given_frames(self, frames: Float[Tensor, "B T M"], lengths: Int[Tensor, " B"]) -> Int[Tensor, " B"]:
        """How many each clip has: its length, or where clips are padded, all."""
        return lengths if self.padded_length is None else torch.where(lengths > 0, frames.shape[1], 0)

    def _waveform(
        self, waveform: Float[Tensor, "B S"], lengths: Int[Tensor, " B"], augments: bool
    ) -> tuple[Float[Tensor, "B S2"], Int[Tensor, " B"]]:
        if self.padded_length is not None and waveform.shape[1] > self.padded_length:
            rate = self.spectrogram.sample_rate_hz
            lengths_s = f"{waveform.shape[1] / rate:g} s, and the model takes {self.padded_length / rate:g} s at once"
            raise UserError(f"a sample has {lengths_s}: cut it, or lower data.max_seconds")
        if augments:
            beyond = torch.arange(waveform.shape[1], device=waveform.device) >= lengths[:, None]
            waveform = waveform.masked_fill(beyond, 0.0)
            waveform, lengths = self.augment.waveform(waveform, lengths)
        if self.padded_length is None:
            return (self._of_two_tokens(waveform) if torch.compiler.is_exporting() else waveform), lengths
        beyond = torch.arange(waveform.shape[1], device=waveform.device) >= lengths[:, None]
        waveform = F.pad(waveform.masked_fill(beyond, 0.0), (0, self.padded_length - waveform.shape[1]))
        return waveform, torch.where(lengths > 0, self.padded_length, 0)

    def _of_two_tokens(self, waveform: Float[Tensor, "B S"]) -> Float[Tensor, "B S2"]:
        """Waveforms long enough for two tokens, by more behind the ends of clips, which is not read. A program is
        recorded for sizes that are not 1, and a single frame or token would be one."""
        longest = waveform.shape[1]
        index = torch.arange(torch.sym_max(longest, self.length_of_two_tokens), device=waveform.device)
        return waveform.index_select(1, index.clamp(max=longest - 1))


def longest_at(spec: Spec, rate_hz: int) -> int:
    """Samples of the longest waveform of data. Raises InvalidValue unless they have the rate of a spectrogram."""
    longest = spec.fields["waveform"].max_length
    if longest is None or spec.sample_rate_hz is None:
        raise ValueError("the data's field 'waveform' must be ragged, and its spec must declare sample_rate_hz")
    if spec.sample_rate_hz != rate_hz:
        problem = f"is not the data's {spec.sample_rate_hz} Hz; change it, or let the data be resampled"
        resampled = f"data.sample_rate_hz={rate_hz} data.resample=true"
        raise InvalidValue("spectrogram.sample_rate_hz", rate_hz, problem, resampled)
    return longest


def padded_length(seconds: float | None, rate_hz: int, longest: int) -> int | None:
    """Samples to which clips are padded. Raises InvalidValue where the longest of the data has more."""
    length = None if seconds is None else round(seconds * rate_hz)
    if length is not None and length < longest:
        raise InvalidValue("pad_to_seconds", seconds, f"is less than the data's {longest / rate_hz:g} s")
    return length
