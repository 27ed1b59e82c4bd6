"""What the ranks of a run do together: sum and gather values, and agree on requests to stop or to save."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from enum import IntEnum
from typing import Any

import lightning.pytorch as pl
import torch
from torch import Tensor

from mmtx.process.device_copies import HostCopy, sent
from mmtx.process.stopping import SIGNALS, Interrupted, Obey, obeyed, requested


class Request(IntEnum):
    """Made by any rank (`AgreeingModule.requests`); all ranks know of it together, a step later."""

    TERMINATE = signal.SIGTERM
    INTERRUPT = signal.SIGINT
    HANG_UP = getattr(signal, "SIGHUP", 1)  # Windows has neither, and nobody sends them there
    REQUEUE = getattr(signal, "SIGUSR1", 10)
    SAVE = 1000
    SAVING_FAILED = 1001


class AgreeingModule(pl.LightningModule):
    """A LightningModule whose ranks stop and save together.

    Attributes:
        requests: of this rank.
        agreed: requests of all ranks when they last agreed.
    """

    def __init__(self) -> None:
        super().__init__()
        self.requests: set[Request] = set()
        self.agreed: set[Request] = set()

    def begin_to_agree(self, values: Tensor | None = None) -> HostCopy:
        """`values` summed over ranks, together with the requests of each, for `agreement`; all ranks have to call
        this. Does not wait for the device."""
        if number := requested():
            self.requests.add(Request(number))
        values = torch.zeros(0, device=self.device) if values is None else values
        flags = torch.tensor([request in self.requests for request in Request], dtype=torch.double)
        return HostCopy(self.sum_over_ranks(torch.cat([values.double(), sent(flags, values.device)])))

    def agreement(self, host_copy: HostCopy) -> list[float]:
        """The values that the ranks have begun to agree on; waits for them. The requests are in `agreed`."""
        numbers = host_copy.numbers()
        values, counts = numbers[: -len(Request)], numbers[-len(Request) :]
        self.agreed = {request for request, count in zip(Request, counts, strict=True) if count}
        return values

    def stop_if_requested(self) -> None:
        """Stops all ranks together if any of them was requested to; all have to call this.

        Raises:
            Interrupted: one was.
        """
        self.agreement(self.begin_to_agree())
        self.stop_if_agreed()

    def stop_if_agreed(self) -> None:
        """Raises `Interrupted` if any rank was requested to stop when they last agreed."""
        for number in SIGNALS:
            if Request(number) in self.agreed:
                raise Interrupted(number)

    @contextmanager
    def cut_short(self) -> Iterator[None]:
        """Within, a request to stop ends what this rank does by itself, at the next item of a loop. The ranks then stop
        together where they next agree."""
        with suppress(Interrupted), obeyed(Obey.AT_CHECKS):
            yield

    def gather(self, value: Any) -> list[Any]:
        """The values of all ranks, in their order; all ranks have to call this."""
        values = [value] * self.trainer.world_size
        if self.trainer.world_size > 1:
            torch.distributed.all_gather_object(values, value)
        return values

    def sum_over_ranks(self, values: Tensor) -> Tensor:
        """All ranks have to call this. Lightning's own sum waits for the device, at a barrier before it."""
        if self.trainer.world_size > 1:
            values = values.to(self.device, copy=True)
            torch.distributed.all_reduce(values)
        return values
