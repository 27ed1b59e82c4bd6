"""Scalings of rotary frequencies, by which a model reads texts longer than those of its training.

Operations and their order are those of `transformers`: one rounding apart, a frequency turns a pair at position 100,000
by 0.01.
"""

import math
from abc import ABC, abstractmethod
from typing import Literal, get_args

import torch
from jaxtyping import Float, Int
from torch import Tensor

from mmtx.errors import InvalidValue, check_at_least

HalfPrecision = Literal["float16", "bfloat16"]
HALF_PRECISION: tuple[HalfPrecision, ...] = get_args(HalfPrecision)


class RotaryScaling(ABC):
    """A scaling of rotary frequencies.

    Attributes:
        magnitude: cosines and sines are multiplied by it.
        least_pairs: fewest pairs that an axis may turn.
    """

    magnitude = 1.0
    least_pairs = 1

    @abstractmethod
    def frequencies(self, base: float, share: int, positions: Int[Tensor, "#B N"]) -> Float[Tensor, " share"]:
        """Radians per position of each pair, of a share of ``2 * share`` of the width, on the device of `positions`."""


class LinearScaling(RotaryScaling):
    """Positions divided by a factor (Chen et al. 2023, arXiv 2306.15595).

    Args:
        factor: by which texts are longer than those of the training.
    """

    def __init__(self, *, factor: float) -> None:
        check_at_least("factor", factor, 1)
        self.factor = factor

    def frequencies(self, base: float, share: int, positions: Int[Tensor, "#B N"]) -> Float[Tensor, " share"]:
        return _unscaled(base, share, positions.device) / self.factor


class DynamicNTK(RotaryScaling):
    """A base that grows with the longest text of a batch, once that is longer than `trained_length`.

    "Dynamic NTK" has no paper of its own; formula 20 of arXiv 2309.00071 with ``s = factor · L / L₀ - (factor - 1)``.
    The longest position is read where it is, on the device. A cache keeps keys as they were turned when they came, so
    texts beyond `trained_length` are written as `transformers` writes them, and not as without a cache.

    Args:
        factor: how fast the base grows.
        trained_length: longest text of the training, L₀.
    """

    least_pairs = 2  # the formula divides by all but one

    def __init__(self, *, factor: float, trained_length: int) -> None:
        check_at_least("factor", factor, 1)
        check_at_least("trained_length", trained_length, 1)
        self.factor, self.trained_length = factor, trained_length

    def frequencies(self, base: float, share: int, positions: Int[Tensor, "#B N"]) -> Float[Tensor, " share"]:
        length = positions.max() + 1
        stretch = self.factor * length / self.trained_length - (self.factor - 1)
        stretch = torch.where(length > self.trained_length, stretch, 1.0)
        return _unscaled(base * stretch ** (2 * share / (2 * share - 2)), share, positions.device)


class YaRN(RotaryScaling):
    """Slow frequencies divided by a factor, fast ones kept, a ramp between (Peng et al. 2023, arXiv 2309.00071).

    Args:
        factor: by which texts are longer than those of the training, s.
        trained_length: longest text of the training, L₀.
        beta_fast: pairs that turn more often within L₀ are kept.
        beta_slow: pairs that turn less often within L₀ are divided by `factor`.
        truncate: the ramp begins and ends at whole pairs.
        attention_factor: by which cosines and sines are multiplied; None: ``0.1 ln s + 1``, as in section 3.4.
    """

    def __init__(
        self,
        *,
        factor: float,
        trained_length: int,
        beta_fast: float,
        beta_slow: float,
        truncate: bool,
        attention_factor: float | None,
    ) -> None:
        check_at_least("factor", factor, 1)
        check_at_least("trained_length", trained_length, 1)
        if not 0 < beta_slow <= beta_fast:
            raise InvalidValue("beta_slow", beta_slow, f"must be above 0 and at most beta_fast={beta_fast}")
        self.factor, self.trained_length, self.truncate = factor, trained_length, truncate
        self.beta_fast, self.beta_slow = beta_fast, beta_slow
        self.magnitude = yarn_magnitude(factor) if attention_factor is None else attention_factor

    def frequencies(self, base: float, share: int, positions: Int[Tensor, "#B N"]) -> Float[Tensor, " share"]:
        device = positions.device
        periods = _powers(base, share, device)
        low, high = self._bounds(base, share)
        pair = torch.arange(share, dtype=torch.float32, device=device)
        kept = 1 - ((pair - low) / (high - low)).clamp(0, 1)
        return 1.0 / (self.factor * periods) * (1 - kept) + 1.0 / periods * kept

    def _bounds(self, base: float, share: int) -> tuple[float, float]:
        """The pairs between which the ramp lies."""
        low, high = (self._pair_that_turns(times, base, share) for times in (self.beta_fast, self.beta_slow))
        if self.truncate:
            low, high = float(math.floor(low)), float(math.ceil(high))
        low, high = max(low, 0.0), min(high, 2.0 * share - 1)
        return low, high if high != low else high + 0.001

    def _pair_that_turns(self, times: float, base: float, share: int) -> float:
        """Number of the pair that turns so many times within `trained_length`."""
        return 2 * share * math.log(self.trained_length / (times * 2 * math.pi)) / (2 * math.log(base))


class Llama3(RotaryScaling):
    """Long wavelengths divided by a factor, short ones kept, a blend between (Llama 3.1, arXiv 2407.21783).

    Args:
        factor: by which wavelengths longer than ``trained_length / low_freq_factor`` are stretched.
        low_freq_factor: see there.
        high_freq_factor: wavelengths shorter than ``trained_length / high_freq_factor`` stay.
        trained_length: longest text of the training.
    """

    def __init__(self, *, factor: float, low_freq_factor: float, high_freq_factor: float, trained_length: int) -> None:
        check_at_least("factor", factor, 1)
        check_at_least("trained_length", trained_length, 1)
        if not 0 < low_freq_factor < high_freq_factor:
            problem = f"must be above 0 and below high_freq_factor={high_freq_factor}"
            raise InvalidValue("low_freq_factor", low_freq_factor, problem)
        self.factor, self.trained_length = factor, trained_length
        self.low, self.high = low_freq_factor, high_freq_factor

    def frequencies(self, base: float, share: int, positions: Int[Tensor, "#B N"]) -> Float[Tensor, " share"]:
        kept = _unscaled(base, share, positions.device)
        wavelength = 2 * math.pi / kept
        is_long = wavelength > self.trained_length / self.low
        is_short = wavelength < self.trained_length / self.high
        share_kept = (self.trained_length / wavelength - self.low) / (self.high - self.low)
        blended = (1 - share_kept) * kept / self.factor + share_kept * kept
        return torch.where(is_long, kept / self.factor, torch.where(is_short, kept, blended))


class RoundedFrequencies(RotaryScaling):
    """Frequencies as half precision rounds them, for models whose training had them so (ESM-2).

    Args:
        dtype: of half precision.
    """

    def __init__(self, *, dtype: HalfPrecision) -> None:
        self.dtype = getattr(torch, dtype)

    def frequencies(self, base: float, share: int, positions: Int[Tensor, "#B N"]) -> Float[Tensor, " share"]:
        return _unscaled(base, share, positions.device).to(self.dtype).float()


def yarn_magnitude(factor: float, weight: float = 1.0) -> float:
    """``0.1 · weight · ln(factor) + 1`` (arXiv 2309.00071, formula 22)."""
    return 0.1 * weight * math.log(factor) + 1.0


def _powers(base: float | Float[Tensor, ""], share: int, device: torch.device) -> Float[Tensor, " share"]:
    return base ** (torch.arange(share, device=device, dtype=torch.float32) / share)


def _unscaled(base: float | Float[Tensor, ""], share: int, device: torch.device) -> Float[Tensor, " share"]:
    return 1.0 / _powers(base, share, device)
