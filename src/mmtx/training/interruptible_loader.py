"""A loader that a request to stop interrupts."""

from collections.abc import Iterator
from typing import Any

from mmtx.process.stopping import Interrupted, Obey, obeyed, track


class InterruptibleLoader:
    """Gives up waiting for a batch, or making it, when this process is requested to stop.

    Args:
        loader: of the batches, with a length.
        what: its batches are for, where progress is to be shown: ``testing, batch``.
        at_the_end: a step that comes instead of those that are given up, so that all ranks come to where they agree on
            stopping; None: `Interrupted` is raised.
    """

    def __init__(self, loader: Any, what: str | None = None, at_the_end: list[Any] | None = None) -> None:
        self._loader, self._what, self._at_the_end = loader, what, at_the_end

    def __len__(self) -> int:
        return len(self._loader)

    def __iter__(self) -> Iterator[Any]:
        batches = self._batches()
        return batches if self._what is None else track(batches, self._what, len(self))

    def _batches(self) -> Iterator[Any]:
        batches = iter(self._loader)
        while True:
            try:
                with obeyed(Obey.AT_ONCE):
                    batch = next(batches)
            except StopIteration:
                return
            except Interrupted:
                if self._at_the_end is None:
                    raise
                yield self._at_the_end
                return
            yield batch
