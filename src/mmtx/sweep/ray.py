"""Jobs on a Ray cluster, or on a Ray that is started here."""

import logging
import signal
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mmtx.errors import InvalidValue, UserError
from mmtx.sweep.engine import Demand, Engine
from mmtx.sweep.remote import RemoteJob

POLL_SECONDS = 0.5


class Ray(Engine):
    """As many jobs as the cluster has room for.

    Args:
        address: of a running cluster, or ``auto``; None: one is started on this machine for the sweep.
        num_gpus: of a job; None: as many as trainer.devices, or 0 if all jobs are on the CPU.
        num_cpus: of a job.
        demand: of the jobs.
    """

    def __init__(self, *, address: str | None, num_gpus: float | None, num_cpus: float, demand: Demand) -> None:
        try:
            import ray
        except ImportError:
            raise UserError("hydra/launcher=ray needs ray: pip install 'mmtx[cluster]'") from None
        self._ray = ray
        if not ray.is_initialized():
            ray.init(address=address, log_to_driver=False, include_dashboard=False, logging_level=logging.WARNING)
        self._needs = {"GPU": (0 if demand.on_cpu else demand.devices_per_job) if num_gpus is None else num_gpus}
        self._needs["CPU"] = num_cpus
        total = ray.cluster_resources()
        for kind, need in self._needs.items():
            if need > total.get(kind, 0):
                raise InvalidValue(
                    f"num_{kind.lower()}s", need, f"is more than the {total.get(kind, 0):g} of the cluster"
                )
        options = {"num_cpus": num_cpus, "num_gpus": self._needs["GPU"], "max_concurrency": 2}
        self._remote = ray.remote(RemoteJob).options(**options)  # one thread waits, the other signals
        self._jobs: dict[str, tuple[Any, Any]] = {}
        self._woken = False

    def has_room(self) -> bool:
        total = self._ray.cluster_resources()
        return all((len(self._jobs) + 1) * need <= total.get(kind, 0) for kind, need in self._needs.items())

    def start(self, name: str, command: Sequence[str], log: Path) -> str:
        actor: Any = self._remote.remote(command, log)
        self._jobs[name] = (actor, actor.run.remote())
        return "ray"

    def wait(self, seconds: float) -> list[tuple[str, int]]:
        deadline = time.monotonic() + seconds
        while True:
            left = min(POLL_SECONDS, max(0.0, deadline - time.monotonic()))
            done, _ = self._ray.wait([result for _, result in self._jobs.values()], num_returns=1, timeout=left)
            if done or self._woken or time.monotonic() > deadline:
                self._woken = False
                names = [name for name, (_, result) in self._jobs.items() if result in done]
                return [(name, self._exit_code(*self._jobs.pop(name))) for name in names]

    def wake(self) -> None:
        self._woken = True

    def stop(self, name: str) -> None:
        self._jobs[name][0].signal.remote(signal.SIGTERM)

    def kill(self, name: str) -> None:
        self._jobs[name][0].signal.remote(signal.SIGKILL)

    def _exit_code(self, actor: Any, result: Any) -> int:
        try:
            code = int(self._ray.get(result))
        except self._ray.exceptions.RayError:  # the actor or its machine was lost
            return -signal.SIGKILL
        self._ray.kill(actor)  # frees its resources
        return code
