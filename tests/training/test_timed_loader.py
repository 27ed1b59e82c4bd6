"""The time that batches are waited for."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from mmtx.training.timed_loader import TimedLoader


class Slow:
    """Takes its time for each batch, and fails at the end."""

    def __len__(self) -> int:
        return 3

    def __iter__(self) -> Iterator[int]:
        for batch in range(3):
            time.sleep(0.02)
            yield batch
        raise OSError("no more")


def test_only_waiting_is_counted() -> None:
    waits: list[float] = []
    loader, found = TimedLoader(Slow(), waits.append), []
    with pytest.raises(OSError, match="no more"):
        for batch in loader:
            found.append(batch)
            time.sleep(0.2)
    assert found == [0, 1, 2] and len(loader) == 3
    assert len(waits) == 3 and all(0.02 <= seconds < 0.2 for seconds in waits)


def test_it_ends_with_its_loader() -> None:
    assert list(TimedLoader([1, 2], lambda seconds: None)) == [1, 2]
