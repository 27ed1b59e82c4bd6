"""A loader whose time is taken."""

import time
from collections.abc import Callable, Iterator
from typing import Any


class TimedLoader:
    """Tells how long each batch was waited for, by the clock of the host.

    Args:
        loader: of the batches, with a length.
        waited: is given the seconds.
    """

    def __init__(self, loader: Any, waited: Callable[[float], None]) -> None:
        self._loader, self._waited = loader, waited

    def __len__(self) -> int:
        return len(self._loader)

    def __iter__(self) -> Iterator[Any]:
        batches = iter(self._loader)
        while True:
            began = time.perf_counter()
            try:
                batch = next(batches)
            except StopIteration:
                return
            self._waited(time.perf_counter() - began)
            yield batch
