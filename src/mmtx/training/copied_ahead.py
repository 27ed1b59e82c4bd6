"""Batches on their way to the device while the step before them computes."""

from collections.abc import Callable, Iterator
from typing import Any

import torch

from mmtx.batch import Batch
from mmtx.process.stopping import Interrupted

Arrival = Callable[[], list[Batch]]
"""Gives batches of the device, once its next operations are to wait until they are there."""


class CopiedAhead:
    """A loader that begins to copy the next batches before it gives those that it has copied. What getting them raises
    is raised when they are due, behind the step before.

    Args:
        loader: of batches, with a length.
        copy: begins to copy.
    """

    def __init__(self, loader: Any, copy: Callable[[list[Batch]], Arrival]) -> None:
        self._loader, self._copy = loader, copy

    def __len__(self) -> int:
        return len(self._loader)

    def __iter__(self) -> Iterator[list[Batch]]:
        batches = iter(self._loader)
        due = self._begin(batches)
        while due is not None:
            arrived = due()
            due = self._begin(batches)
            yield arrived

    def _begin(self, batches: Iterator[list[Batch]]) -> Arrival | None:
        """None where there are no more."""
        try:
            return self._copy(next(batches))
        except StopIteration:
            return None
        except (Exception, Interrupted) as error:
            return _raising(error)


class SideStream:
    """Copies beside what a device computes.

    Args:
        device: a GPU.
    """

    def __init__(self, device: torch.device) -> None:
        self._device, self._stream = device, torch.cuda.Stream(device)

    def __call__(self, batches: list[Batch]) -> Arrival:
        with torch.cuda.stream(self._stream):
            copied = [_pinned(batch).to(self._device, non_blocking=True) for batch in batches]
            done = torch.cuda.Event()
            done.record(self._stream)

        def arrival() -> list[Batch]:
            computing = torch.cuda.current_stream(self._device)
            computing.wait_event(done)
            return [batch.in_use_on(computing) for batch in copied]

        return arrival


def _pinned(batch: Batch) -> Batch:
    return batch if batch.tensors[0].is_pinned() else batch.pin_memory()


def _raising(error: BaseException) -> Arrival:
    def arrival() -> list[Batch]:
        raise error

    return arrival
