"""Losses and gradients that are not finite, and losses that jump."""

import math
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Float32
from torch import Tensor

from mmtx.batch import Batch
from mmtx.errors import UserError
from mmtx.training.host_copy import HostCopy

WINDOW, SIGMAS, LEAST = 128, 6.0, 32
"""A loss is a spike if it is `SIGMAS` standard deviations above the mean of the `WINDOW` before it, of which there have
to be `LEAST`."""


class NotFinite(UserError):
    """A loss or gradient is not finite. Raised on all ranks; the weights are those of the step before."""


@dataclass(frozen=True)
class OpenStep:
    """A step whose numbers the host has not read yet.

    Attributes:
        number: from 1.
        host_copy: loss, norm of the gradients, and samples that could not be read, summed over ranks; then requests.
        losses: what each micro-batch of this rank adds to the loss.
        batches: the micro-batches, which are kept where the numbers are none.
    """

    number: int
    host_copy: HostCopy
    losses: Float[Tensor, " micro_batches"]
    batches: list[Batch]

    @property
    def left_out(self) -> Float32[Tensor, ""]:
        """1 where loss or norm is not finite, else 0; on the device."""
        return (~self.host_copy.values[:2].isfinite().all()).float()

    @property
    def counts(self) -> bool:
        """The same for the host, which waits for it."""
        return all(map(math.isfinite, self.host_copy.numbers()[:2]))

    def keep(self, folder: Path, rank: int) -> list[int]:
        """Saves the micro-batches of this rank to blame. Gives the indices of their samples."""
        losses = self.losses.tolist()
        is_of_others = not math.isfinite(self.host_copy.numbers()[0]) and all(map(math.isfinite, losses))
        return [] if is_of_others else keep_batches(self.batches, losses, folder / f"step{self.number}_rank{rank}.pt")


class Watch:
    """Remembers losses, and counts spikes and skipped steps.

    Args:
        max_skips: steps in a row that may be skipped, as they are not finite; 0: the first one ends the run.
    """

    def __init__(self, max_skips: int) -> None:
        self.max_skips = max_skips
        self.skipped, self.in_a_row, self.spikes = 0, 0, 0
        self._losses: deque[float] = deque(maxlen=WINDOW)

    def good(self, loss: float, step: int) -> str | None:
        """Records a finite loss. Gives a warning if it jumped."""
        self.in_a_row, warning = 0, None
        if len(self._losses) >= LEAST:
            mean = math.fsum(self._losses) / len(self._losses)
            deviation = math.sqrt(math.fsum((old - mean) ** 2 for old in self._losses) / len(self._losses))
            if loss > mean + SIGMAS * deviation and deviation > 0:
                self.spikes += 1
                warning = f"step {step}: the loss jumped to {loss:.4g}, from {mean:.4g} ± {deviation:.2g}"
        self._losses.append(loss)
        return warning

    def bad(self, found: str, step: int) -> str:
        """Counts a step that is skipped. Gives a warning with what was found.

        Raises:
            NotFinite: it was one too many.
        """
        if self.in_a_row >= self.max_skips:
            hint = (
                f"{self.in_a_row} steps before it were skipped (trainer.max_skips={self.max_skips})"
                if self.max_skips
                else "trainer.nonfinite=skip goes on without such steps"
            )
            raise NotFinite(f"not finite at step {step}: {found}; nothing was updated. Look at the data; {hint}")
        self.in_a_row += 1
        self.skipped += 1
        return f"step {step} is skipped, not finite: {found}"

    def counts(self) -> dict[str, float]:
        """What happened so far, as metrics; empty where nothing did."""
        counted = {"train/skipped_steps": self.skipped, "train/loss_spikes": self.spikes}
        return {name: float(count) for name, count in counted.items() if count}

    def state_dict(self) -> dict[str, Any]:
        counts = {"skipped": self.skipped, "in_a_row": self.in_a_row, "spikes": self.spikes}
        return {**counts, "losses": list(self._losses)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.skipped, self.in_a_row, self.spikes = state["skipped"], state["in_a_row"], state["spikes"]
        self._losses = deque(state["losses"], maxlen=WINDOW)


def keep_batches(batches: list[Batch], losses: list[float], file: Path) -> list[int]:
    """Saves the micro-batches whose loss is not finite; all of them if every loss is, since then it is the gradient.
    Gives the indices of their samples."""
    bad = [batch for batch, loss in zip(batches, losses, strict=True) if not math.isfinite(loss)] or batches
    file.parent.mkdir(exist_ok=True)
    torch.save([{"fields": b.fields, "lengths": b.lengths, "ids": b.ids} for b in bad], file)
    return [i for batch in bad if batch.ids is not None for i in batch.ids.tolist() if i >= 0]
