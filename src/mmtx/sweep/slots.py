"""The devices of this machine as slots, each of which runs one job at a time."""

import os
import re
import signal
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mmtx.errors import InvalidValue, check_at_least
from mmtx.process.child_processes import ChildProcesses
from mmtx.process.cores import VARIABLE, cores
from mmtx.process.launch import environment_of_none
from mmtx.sweep.engine import Demand, Engine

GRACE_SECONDS = 60.0
"""Time that jobs have to save when their launcher has died."""


@dataclass(frozen=True)
class Slot:
    """A place for one job.

    Attributes:
        device: for display.
        environment: makes a process see this device alone.
    """

    device: str
    environment: dict[str, str]


class Slots(Engine):
    """One job on each slot.

    Args:
        devices: ``auto``: the GPUs, or one slot for each core where there are none or no job wants one; ``cpu:N``; or
            a list of GPUs, counted as CUDA_VISIBLE_DEVICES shows them.
        devices_per_job: of these; None: as many as the jobs have ranks.
        jobs_per_device: small jobs may share one.
        demand: of the jobs.
    """

    def __init__(
        self, *, devices: str | list[int], devices_per_job: int | None, jobs_per_device: int, demand: Demand
    ) -> None:
        check_at_least("devices_per_job", devices_per_job, 1)
        check_at_least("jobs_per_device", jobs_per_device, 1)
        if devices_per_job is not None and devices_per_job < demand.devices_per_job:
            needed = f"is less than trainer.devices={demand.devices_per_job}"
            raise InvalidValue("devices_per_job", devices_per_job, needed)
        self.slots = make_slots(devices, devices_per_job or demand.devices_per_job, jobs_per_device, demand)
        self._free = list(self.slots)
        self._taken: dict[str, Slot] = {}
        self._children = ChildProcesses(grace_s=GRACE_SECONDS)

    def has_room(self) -> bool:
        return bool(self._free)

    def start(self, name: str, command: Sequence[str], log: Path) -> str:
        slot = self._free[0]
        self._children.start(name, command, environment_of_none() | slot.environment, log)
        self._taken[name] = self._free.pop(0)
        return slot.device

    def wait(self, seconds: float) -> list[tuple[str, int]]:
        ended = self._children.wait(seconds)
        for name, _ in ended:
            self._free.append(self._taken.pop(name))
        return ended

    def wake(self) -> None:
        self._children.wake()

    def stop(self, name: str) -> None:
        self._children.signal(name, signal.SIGTERM)

    def kill(self, name: str) -> None:
        self._children.kill(name)


def make_slots(devices: str | list[int], per_job: int, jobs_per_device: int, demand: Demand) -> list[Slot]:
    """The slots, ordered so that neighbours have different devices.

    Raises:
        InvalidValue: there are no such devices, or too few for one job.
    """
    kind, names = _devices(devices, per_job, demand, cores())
    groups = [names[i : i + per_job] for i in range(0, len(names) - per_job + 1, per_job)]
    if not groups:
        raise InvalidValue("devices", devices, f"are {len(names)}, and a job needs {per_job}")
    share = str(max(1, cores() * per_job // (len(names) * jobs_per_device)))
    threads = str(max(1, cores() // (len(names) * jobs_per_device)))
    slots = []
    for group in groups * jobs_per_device:
        # a number of threads that the user has set is kept; a job on the CPU sees no GPU
        environment = {"OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS") or threads, VARIABLE: share}
        environment["CUDA_VISIBLE_DEVICES"] = ",".join(group) if kind == "cuda" else ""
        slots.append(Slot(f"{kind}:{','.join(group)}", environment))
    return slots


def _devices(devices: str | list[int], per_job: int, demand: Demand, num_cores: int) -> tuple[str, list[str]]:
    """``cuda`` or ``cpu``, and the names of the devices."""
    if devices == "auto":
        gpus = [] if demand.on_cpu else visible_gpus()
        return (
            ("cuda", gpus) if gpus else ("cpu", _numbers(max(1, min(num_cores // per_job, demand.num_jobs)) * per_job))
        )
    if isinstance(devices, str):
        match = re.fullmatch(r"cpu:([1-9][0-9]*)", devices)
        if not match:
            raise InvalidValue("devices", devices, "is none of auto, cpu:N, [0,1,...]")
        return "cpu", _numbers(int(match[1]))
    gpus = visible_gpus()
    for device in devices:
        if not 0 <= device < len(gpus):
            visible = f"0 to {len(gpus) - 1}" if gpus else "no GPU"
            raise InvalidValue("devices", devices, f"names {device}, and there is {visible}; or devices=cpu:N")
    return "cuda", [gpus[device] for device in devices]


def _numbers(count: int) -> list[str]:
    return [str(number) for number in range(count)]


def visible_gpus() -> list[str]:
    """The entry of CUDA_VISIBLE_DEVICES for each GPU that this process sees."""
    import torch

    count = torch.cuda.device_count()
    mask = [entry.strip() for entry in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if entry.strip()]
    return mask[:count] if mask else [str(i) for i in range(count)]
