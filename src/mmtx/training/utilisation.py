"""How much of what its device can do a run uses, and how much of its memory."""

import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor

from mmtx.learner import Learner
from mmtx.training.model_flops import ModelFlops

SIZES = {torch.float32: 4096}
"""Of matrices whose product keeps a GPU busy, where half of it will not do: 8192 in half precision."""


class Utilisation:
    """Operations that the model needs, over those that the devices could do in that time; and the memory it took.

    Args:
        learner: that is trained.
        peak_tflops: of each device, in 10¹² operations a second; None: measured on a GPU, unknown on a CPU.
    """

    def __init__(self, learner: Learner, peak_tflops: float | None) -> None:
        self._learner = learner
        self._peak = None if peak_tflops is None else peak_tflops * 1e12
        self._flops: ModelFlops | None = None
        self._predictions: Tensor
        self._gpu: torch.device | None = None

    def start(self, device: torch.device, dtype: torch.dtype) -> None:
        """Finds out what the device can do, when the learner is there and in its place.

        Args:
            device: of this rank.
            dtype: that products of matrices are computed in.
        """
        if device.type == "cuda":
            self._gpu = device
            self._peak = self._peak or measured_peak(device, dtype)
            torch.cuda.reset_peak_memory_stats(device)
        if self._peak is not None:
            self._flops = ModelFlops(self._learner)

    def watching(self, predictions: Tensor) -> AbstractContextManager[None]:
        """Within, the passes of the model are counted, of a step with so many predictions for each objective."""
        self._predictions = predictions
        return nullcontext() if self._flops is None else self._flops.watching()

    def metrics(
        self,
        speed: dict[str, float],
        tokens: Sequence[int],
        sum_over_ranks: Callable[[Tensor], Tensor],
        gather: Callable[[Any], list[Any]],
    ) -> dict[str, float]:
        """Of all ranks. All of them have to call this, after a step that was watched.

        Args:
            speed: as `Throughput.metrics` gives it.
            tokens: of the step, real ones of each name, on this rank.
            sum_over_ranks: adds up.
            gather: collects.

        Returns:
            ``train/mfu``, where the peak is known, and ``train/memory_gib``, of a GPU: the peak since the last time, on
            the rank where it is highest.
        """
        found = {}
        if self._flops is not None:
            own = [self._flops.total(tokens, self._predictions.long().tolist()), self._peak]
            flops, peak = sum_over_ranks(torch.tensor(own, dtype=torch.double)).tolist()
            of_step = sum(value for name, value in speed.items() if name.startswith("train/tokens/"))
            found["train/mfu"] = flops / max(of_step, 1) * speed["train/tokens_per_second"] / peak
        if self._gpu is not None:
            found["train/memory_gib"] = max(gather(torch.cuda.max_memory_allocated(self._gpu) / 2**30))
            torch.cuda.reset_peak_memory_stats(self._gpu)
        return found


def measured_peak(device: torch.device, dtype: torch.dtype, size: int | None = None, times: int = 8) -> float:
    """Operations that a device does in a second, where it multiplies two large matrices; the best of three times.

    Args:
        device: to measure.
        dtype: of the matrices.
        size: of the matrices; None: one that keeps a GPU busy.
        times: products at once.
    """
    size = size or SIZES.get(dtype, 8192)
    generator = torch.Generator(device).manual_seed(0)  # that of the run stays as it is
    a, b = (torch.randn(size, size, device=device, generator=generator).to(dtype) for _ in range(2))
    seconds = [_seconds(a, b, times) for _ in range(4)][1:]
    return 2 * size**3 * times / min(seconds)


def _seconds(a: Tensor, b: Tensor, times: int) -> float:
    began = time.perf_counter()
    for _ in range(times):
        product = a @ b
    float(product[0, 0])  # waits until the device has done it
    return time.perf_counter() - began
