"""Devices that a run computes on, and which rank this process is."""

from typing import Literal

import torch
from lightning.pytorch.plugins.environments import ClusterEnvironment
from lightning.pytorch.utilities import rank_zero_only

from mmtx.errors import InvalidValue
from mmtx.process.launch import Launch

Accelerator = Literal["auto", "cpu", "gpu", "cuda", "mps"]


def device_type(accelerator: Accelerator) -> str:
    """As torch names it: ``cpu``, ``cuda`` or ``mps``."""
    if accelerator != "auto":
        return {"gpu": "cuda"}.get(accelerator, accelerator)
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def chosen_device(device: Accelerator) -> str:
    """The type of the one device to compute on. Raises InvalidValue if this machine has none."""
    kind = device_type(device)
    _check_there("device", device, kind)
    return kind


def count_devices(accelerator: Accelerator, devices: int | Literal["auto"]) -> int:
    """How many devices of this machine are used.

    Raises:
        InvalidValue: it lacks the accelerator, or so many devices of it.
    """
    kind = device_type(accelerator)
    _check_there("accelerator", accelerator, kind)
    if kind == "mps":
        return 1
    available = torch.cuda.device_count() if kind == "cuda" else None
    if isinstance(devices, int):
        if available is not None and devices > available:
            raise InvalidValue("devices", devices, "is more than there are", str(available))
        return devices
    return available or 1


def _check_there(key: str, accelerator: Accelerator, kind: str) -> None:
    if kind == "mps" and not torch.backends.mps.is_available():
        built = "" if torch.backends.mps.is_built() else ": this PyTorch was built without it"
        raise InvalidValue(key, accelerator, f"finds no GPU of Apple's{built}", "cpu")
    if kind == "cuda" and not torch.cuda.device_count():
        raise InvalidValue(key, accelerator, "finds no GPU", "cpu")


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
