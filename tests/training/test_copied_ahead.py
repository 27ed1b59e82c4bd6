"""Batches that are copied while the step before them computes. A list of events stands for the streams of a GPU."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch

from mmtx.batch import Batch
from mmtx.errors import UserError
from mmtx.process.stopping import Interrupted
from mmtx.training.copied_ahead import CopiedAhead


class Loader:
    """Batches whose only sample has their number; an error in the place of one."""

    def __init__(self, length: int, bad: int | None = None, error: BaseException | None = None) -> None:
        self.length, self.bad, self.error, self.events = length, bad, error, list[str]()

    def __len__(self) -> int:
        return self.length

    def __iter__(self) -> Iterator[list[Batch]]:
        for number in range(self.length):
            if number == self.bad and self.error is not None:
                raise self.error
            yield [Batch({}, {"x": torch.ones(1, dtype=torch.long)}, {}, torch.tensor([number]))]

    def copy(self, batches: list[Batch]) -> Callable[[], list[Batch]]:
        (number,) = numbers(batches)
        self.events.append(f"copy {number}")

        def arrival() -> list[Batch]:
            self.events.append(f"wait {number}")
            return batches

        return arrival


def numbers(batches: list[Batch]) -> list[int]:
    return [int(i) for batch in batches if batch.ids is not None for i in batch.ids]


def steps(loader: Loader) -> None:
    for batches in CopiedAhead(loader, loader.copy):
        loader.events.append(f"step {numbers(batches)[0]}")


def test_the_next_batch_is_on_its_way_before_a_step_begins() -> None:
    loader = Loader(3)
    steps(loader)
    assert loader.events == [
        *("copy 0", "wait 0", "copy 1", "step 0"),
        *("wait 1", "copy 2", "step 1"),
        *("wait 2", "step 2"),
    ]
    assert len(CopiedAhead(loader, loader.copy)) == 3


@pytest.mark.parametrize("error", [UserError("sample 7"), RuntimeError("DataLoader worker"), Interrupted(15)])
@pytest.mark.parametrize("bad", [0, 2])
def test_an_error_comes_behind_the_step_before_it(error: BaseException, bad: int) -> None:
    loader = Loader(4, bad, error)
    with pytest.raises(type(error)) as raised:
        steps(loader)
    assert raised.value is error
    assert [event for event in loader.events if "step" in event] == [f"step {i}" for i in range(bad)]


def test_no_batches_are_no_steps() -> None:
    loader: Any = Loader(0)
    steps(loader)
    assert loader.events == []
