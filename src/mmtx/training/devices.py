"""Devices that a run computes on, and which rank this process is."""

from typing import Literal

import torch
from lightning.pytorch.plugins.environments import ClusterEnvironment
from lightning.pytorch.utilities import rank_zero_only

from mmtx.errors import InvalidValue
from mmtx.process.launch import Launch

Accelerator = Literal["auto", "cpu", "gpu", "cuda"]


def device_type(accelerator: Accelerator) -> str:
    """As torch names it: ``cpu`` or ``cuda``."""
    if accelerator != "auto":
        return {"gpu": "cuda"}.get(accelerator, accelerator)
    return "cuda" if torch.cuda.is_available() else "cpu"


def count_devices(accelerator: Accelerator, devices: int | Literal["auto"]) -> int:
    """How many devices of this machine are used.

    Raises:
        InvalidValue: it lacks the accelerator, or so many devices of it.
    """
    kind = device_type(accelerator)
    available = torch.cuda.device_count() if kind == "cuda" else None
    if available == 0:
        raise InvalidValue("accelerator", accelerator, "finds no GPU", "cpu")
    if isinstance(devices, int):
        if available is not None and devices > available:
            raise InvalidValue("devices", devices, "is more than there are", str(available))
        return devices
    return available or 1


class LaunchedRanks(ClusterEnvironment):
    """The ranks as mmtx knows them, for Lightning, which would else look for launchers by itself and find wrong ones.

    Args:
        launch: the place of this process.
        num_devices: ranks of each machine.
    """

    def __init__(self, launch: Launch, num_devices: int) -> None:
        super().__init__()
        self._launch, self._num_devices = launch, num_devices
        self.set_global_rank(launch.rank)

    @property
    def creates_processes_externally(self) -> bool:
        return True

    @property
    def main_address(self) -> str:
        return self._launch.address

    @property
    def main_port(self) -> int:
        return self._launch.port

    @staticmethod
    def detect() -> bool:
        return False

    def world_size(self) -> int:
        return self._launch.num_ranks

    def set_world_size(self, size: int) -> None:
        """Does nothing: the size is known."""

    def global_rank(self) -> int:
        return self._launch.rank

    def set_global_rank(self, rank: int) -> None:
        vars(rank_zero_only)["rank"] = self._launch.rank  # Lightning has read it from the environment by itself

    def local_rank(self) -> int:
        return self._launch.local_rank

    def node_rank(self) -> int:
        return self._launch.rank // self._num_devices
