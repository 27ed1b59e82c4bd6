"""From samples to tokens, by the convolutions of wav2vec 2.0 and HuBERT.

Axes: B clips, S samples, T frames of a convolution, C channels, n tokens, D width.
"""

from collections.abc import Callable, Sequence
from typing import TypeVar

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from mmtx.errors import InvalidValue, check_fraction
from mmtx.modalities.position_convolution import PositionConvolution
from mmtx.modalities.span_masks import SpanMasks
from mmtx.modalities.spectrogram_stem import Stem
from mmtx.nn.norms import LayerNorm

Count = TypeVar("Count", int, Tensor)

CONVOLUTION_EPS = 1e-5
"""Added to the variance after a convolution, whatever `norm_eps` is (fairseq and `transformers`)."""


class WaveConvolutions(Stem):
    """Convolutions over the waveform, a linear map, and positions by one more convolution (Baevski et al. 2020, arXiv
    2006.11477, sections 2 and 4.2). A token is real if the convolutions read nothing behind the end of its clip; a clip
    that is too short for one has one all the same, silence after it.

    The first convolution of the smaller public models is normalised over all frames of a clip. Those are the clip's own
    here: padding changes nothing, as it does in `transformers`.

    Args:
        widths: channels of each convolution.
        kernels: samples, or frames, that each reads.
        strides: of each.
        bias: of the convolutions.
        layer_norms: every convolution is normalised over its channels; otherwise only the first, over time.
        activation: after each convolution.
        projection_norm: normalise what the linear map reads.
        norm_eps: of that.
        dropout: after the linear map.
        masks: ``masks(dim)``, of tokens in training; None: none.
        position_kernel: tokens that the convolution of positions reads.
        position_groups: of its features.
    """

    roles = {"convolutions.0.weight": "input"}

    def __init__(
        self,
        n_mels: int,
        dim: int,
        *,
        widths: list[int],
        kernels: list[int],
        strides: list[int],
        bias: bool,
        layer_norms: bool,
        activation: nn.Module,
        projection_norm: bool,
        norm_eps: float,
        dropout: float,
        masks: Callable[[int], SpanMasks] | None,
        position_kernel: int,
        position_groups: int,
    ) -> None:
        super().__init__()
        if n_mels != 1:
            raise InvalidValue("stem", "waveform", f"reads samples, not {n_mels} bins", "modality/spectrogram=samples")
        _check_shapes(widths, kernels, strides)
        check_fraction("stem.dropout", dropout)
        self.kernels, self.strides, self.activation = list(kernels), list(strides), activation
        shapes = zip([1, *widths[:-1]], widths, kernels, strides, strict=True)
        self.convolutions = nn.ModuleList(nn.Conv1d(*shape, bias=bias) for shape in shapes)
        self.clip_norm = None if layer_norms else ClipNorm(widths[0], eps=CONVOLUTION_EPS)
        self.layer_norms = nn.ModuleList(
            LayerNorm(width, eps=CONVOLUTION_EPS, bias=True) for width in widths if layer_norms
        )
        self.norm = LayerNorm(widths[-1], eps=norm_eps, bias=True) if projection_norm else nn.Identity()
        self.projection, self.dropout = nn.Linear(widths[-1], dim), nn.Dropout(dropout)
        self.masks = None if masks is None else masks(dim)
        self.positions = PositionConvolution(dim, kernel=position_kernel, groups=position_groups, activation=activation)

    @property
    def reach(self) -> int:
        """Samples that one token reads."""
        reach = 1
        for kernel, stride in zip(reversed(self.kernels), reversed(self.strides), strict=True):
            reach = (reach - 1) * stride + kernel
        return reach

    def extent(self, num_frames: int) -> tuple[int, ...]:
        return (_convolved(max(num_frames, self.reach), self.kernels, self.strides),)

    def num_tokens(self, num_frames: Int[Tensor, " B"]) -> Int[Tensor, " B"]:
        return self._frames_after(num_frames, len(self.kernels))

    def forward(self, frames: Float[Tensor, "B S M"], num_frames: Int[Tensor, " B"]) -> Float[Tensor, "B n D"]:
        x = F.pad(frames.transpose(1, 2), (0, max(0, self.reach - frames.shape[1])))
        for layer, convolution in enumerate(self.convolutions):
            x = convolution(x)
            if self.clip_norm is not None and layer == 0:
                x = self.clip_norm(x, _real(x.shape[2], self._frames_after(num_frames, 1)))
            if self.layer_norms:
                x = self.layer_norms[layer](x.transpose(1, 2)).transpose(1, 2)
            x = self.activation(x)
        lengths = self.num_tokens(num_frames)
        tokens = self.dropout(self.projection(self.norm(x.transpose(1, 2))))
        if self.masks is not None:
            tokens = self.masks(tokens, lengths)
        return self.positions(tokens, _real(tokens.shape[1], lengths))

    def _frames_after(self, num_samples: Int[Tensor, " B"], count: int) -> Int[Tensor, " B"]:
        """Frames of clips of so many samples after the first convolutions."""
        frames = _convolved(num_samples.clamp(min=self.reach), self.kernels[:count], self.strides[:count])
        return torch.where(num_samples > 0, frames, 0)


class ClipNorm(nn.Module):
    """Each channel normalised over the real frames of its clip (Ulyanov et al. 2016, arXiv 1607.08022), in float32."""

    roles = {"weight": "gain", "bias": "bias"}

    def __init__(self, width: int, *, eps: float) -> None:
        super().__init__()
        self.weight, self.bias, self.eps = nn.Parameter(torch.ones(width)), nn.Parameter(torch.zeros(width)), eps

    def forward(self, x: Float[Tensor, "B C T"], real: Bool[Tensor, "B T"]) -> Float[Tensor, "B C T"]:
        kept, count = real[:, None], real.sum(1).clamp(min=1)[:, None, None]
        centred = x.float() - x.float().masked_fill(~kept, 0.0).sum(2, keepdim=True) / count
        variance = centred.masked_fill(~kept, 0.0).square().sum(2, keepdim=True) / count
        scaled = centred / (variance + self.eps).sqrt()
        return (scaled * self.weight[:, None] + self.bias[:, None]).to(x.dtype)


def _convolved(count: Count, kernels: Sequence[int], strides: Sequence[int]) -> Count:
    """Frames that convolutions make of a number of samples."""
    for kernel, stride in zip(kernels, strides, strict=True):
        count = (count - kernel) // stride + 1
    return count


def _real(size: int, lengths: Int[Tensor, " B"]) -> Bool[Tensor, "B size"]:
    return torch.arange(size, device=lengths.device) < lengths[:, None]


def _check_shapes(widths: Sequence[int], kernels: Sequence[int], strides: Sequence[int]) -> None:
    """Raises InvalidValue unless there is a width, a kernel and a stride, all above 0, for each convolution."""
    for key, sizes in (("widths", widths), ("kernels", kernels), ("strides", strides)):
        if len(sizes) != len(widths) or not sizes or min(sizes) < 1:
            problem = f"must have a number above 0 for each of the {len(widths)} convolutions"
            raise InvalidValue(f"stem.{key}", list(sizes), problem)
