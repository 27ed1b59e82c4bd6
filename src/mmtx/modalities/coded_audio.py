"""Sounds whose codes are learnt: one token per code of some frames of a spectrogram."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from mmtx.batch import Spec
from mmtx.codes.quantiser import Quantiser
from mmtx.codes.sounds import Sounds
from mmtx.errors import check_at_least
from mmtx.modalities.audio import longest_at, padded_length
from mmtx.modalities.base import required_field
from mmtx.modalities.capabilities import Panel
from mmtx.modalities.drawing import draw_spectrogram
from mmtx.modalities.learnt_codes import LearntCodes
from mmtx.modalities.log_mel import LogMel
from mmtx.tokens import Tokens


class CodedAudio(LearntCodes):
    """A sound as a row of codes, one for some frames of its log-mel spectrogram.

    Reads the ragged field ``waveform``, ``(samples,)``, mono float32 in -1..1.

    Args:
        spectrogram: of waveforms at the rate of the data; not centred, which leaves out how loud each frequency is.
        frames: that a code stands for; a last one may have fewer.
        width: features of the convolutions.
        quantiser: chooses the codes.
        pad_to_seconds: pad every clip with silence that counts as real, so that all have as many codes; None: clips
            keep their length.
    """

    panel = Panel(width=4.2, most=4)
    column_kind = "sound"

    def __init__(
        self,
        *,
        spec: Spec,
        dim: int,
        clock: str | None,
        spectrogram: LogMel,
        frames: int,
        width: int,
        quantiser: Quantiser,
        pad_to_seconds: float | None,
    ) -> None:
        required_field(spec, "waveform", "coded_audio")
        rate = spectrogram.sample_rate_hz
        longest = longest_at(spec, rate)
        check_at_least("frames", frames, 1)
        padded = padded_length(pad_to_seconds, rate, longest)
        content = Sounds(spectrogram=spectrogram, longest=padded or longest, is_padded=padded is not None)
        super().__init__(
            spec=spec, dim=dim, clock=clock, content=content, patch=(frames,), width=width, quantiser=quantiser
        )
        self.sounds = content

    def invert(self, tokens: Tokens) -> dict[str, Tensor]:
        """Spectrograms that are decoded from the codes whose tokens are the nearest, and waveforms that have them."""
        frames = super().invert(tokens)["frames"]
        return {"frames": frames, "waveform": self.sounds.waveform(frames)}

    def draw(self, axes: Any, fields: Mapping[str, Tensor], length: int) -> None:
        """A spectrogram over seconds, made here unless it is given."""
        lengths = torch.tensor([length])
        count = max(int(self.sounds.num_numbers(lengths)), 1)
        if "frames" in fields:
            mel = fields["frames"][:count].cpu()
        else:
            mel = self.sounds.numbers({"waveform": fields["waveform"][None].cpu()}, lengths)[0, :, :count].T
        draw_spectrogram(axes, mel, self.sounds.seconds(len(mel)))
