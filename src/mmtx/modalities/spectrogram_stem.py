"""From the frames of a spectrogram to tokens.

Axes: B clips, T frames, M mel bins, n tokens, D width, A coordinates of a token.
"""

from abc import ABC, abstractmethod

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from mmtx.errors import InvalidValue, check_at_least


class Stem(nn.Module, ABC):
    """From frames to tokens. Made by ``stem(n_mels, dim)``; frames behind a clip's end are zero and change no token."""

    @abstractmethod
    def extent(self, num_frames: int) -> tuple[int, ...]:
        """The size of each coordinate axis of so many frames' tokens."""

    @abstractmethod
    def num_tokens(self, num_frames: Int[Tensor, " B"]) -> Int[Tensor, " B"]:
        """Tokens of clips of so many frames."""

    @abstractmethod
    def forward(self, frames: Float[Tensor, "B T M"], num_frames: Int[Tensor, " B"]) -> Float[Tensor, "B n D"]: ...


class Patches(Stem):
    """Patches of the spectrogram through one linear map, in order of time (Gong et al. 2021, arXiv 2104.01778,
    without overlap). The last patch of a clip is padded with zeros.

    Args:
        frames: of a patch.
        mels: bins of a patch; None: all, so that a patch is a slice of time.
    """

    roles = {"projection.weight": "input"}

    def __init__(self, n_mels: int, dim: int, *, frames: int, mels: int | None) -> None:
        super().__init__()
        mels = n_mels if mels is None else mels
        check_at_least("stem.frames", frames, 1)
        if mels < 1 or n_mels % mels:
            raise InvalidValue("stem.mels", mels, f"does not divide n_mels={n_mels}")
        self.frames, self.mels, self.bands = frames, mels, n_mels // mels
        self.numbers_per_token = frames * mels
        self.projection = nn.Linear(self.numbers_per_token, dim)

    def extent(self, num_frames: int) -> tuple[int, ...]:
        slices = (num_frames + self.frames - 1) // self.frames  # of numbers above 0, which ONNX divides as Python does
        return (slices,) if self.bands == 1 else (slices, self.bands)

    def num_tokens(self, num_frames: Int[Tensor, " B"]) -> Int[Tensor, " B"]:
        return (num_frames + self.frames - 1) // self.frames * self.bands

    def forward(self, frames: Float[Tensor, "B T M"], num_frames: Int[Tensor, " B"]) -> Float[Tensor, "B n D"]:
        return self.projection(self.patches(frames))

    def patches(self, frames: Float[Tensor, "B T M"]) -> Float[Tensor, "B n numbers"]:
        """The numbers that each token is made from, frame by frame."""
        whole = self.extent(frames.shape[1])[0] * self.frames
        frames = F.pad(frames, (0, 0, 0, whole - frames.shape[1]))
        cut = frames.unflatten(2, (self.bands, self.mels)).unflatten(1, (-1, self.frames))  # B n frames bands mels
        return cut.transpose(2, 3).flatten(3).flatten(1, 2)

    def joined(self, patches: Float[Tensor, "B n numbers"]) -> Float[Tensor, "B T M"]:
        """The frames of all patches, the last of which may be padded."""
        cut = patches.unflatten(1, (-1, self.bands)).unflatten(3, (self.frames, self.mels))  # B n bands frames mels
        return cut.transpose(2, 3).flatten(3).flatten(1, 2)

    def inverse(self, content: Float[Tensor, "B n D"]) -> Float[Tensor, "B T M"]:
        """Frames whose patches have this content, those nearest to 0 where several have; exact where the linear map
        loses nothing. Those that filled a last patch are there, too."""
        inverse = torch.linalg.pinv(self.projection.weight.double())
        numbers = ((content.double() - self.projection.bias.double()) @ inverse.T).to(content.dtype)
        cut = numbers.unflatten(2, (self.frames, self.mels)).unflatten(1, (-1, self.bands))  # B n bands frames mels
        return cut.transpose(2, 3).flatten(3).flatten(1, 2)


class Convolution(Stem):
    """Whisper's two convolutions over time, the second of stride 2 (Radford et al. 2022, section 2.2)."""

    roles = {"conv1.weight": "input"}

    def __init__(self, n_mels: int, dim: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv1d(n_mels, dim, kernel_size=3, padding=1)
        self.conv2 = nn.Conv1d(dim, dim, kernel_size=3, stride=2, padding=1)

    def extent(self, num_frames: int) -> tuple[int, ...]:
        return ((num_frames + 1) // 2,)

    def num_tokens(self, num_frames: Int[Tensor, " B"]) -> Int[Tensor, " B"]:
        return (num_frames + 1) // 2

    def forward(self, frames: Float[Tensor, "B T M"], num_frames: Int[Tensor, " B"]) -> Float[Tensor, "B n D"]:
        x = F.gelu(self.conv1(frames.transpose(1, 2)))
        beyond = torch.arange(frames.shape[1], device=frames.device) >= num_frames[:, None]
        x = x.masked_fill(beyond[:, None], 0.0)  # as if the clip were alone: zeros follow its end
        return F.gelu(self.conv2(x)).transpose(1, 2)
