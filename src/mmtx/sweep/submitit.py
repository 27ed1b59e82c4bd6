"""Jobs on a SLURM cluster, or on this machine in the same way, by submitit."""

import os
import signal
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from mmtx.errors import InvalidValue, UserError
from mmtx.sweep.engine import Demand, Engine
from mmtx.sweep.remote import RemoteJob

POLL_SECONDS = 1.0

MOST_REQUEUES = 1000


class Submitit(Engine):
    """Submits jobs up to `max_running`, and waits. SLURM decides when each starts; a job that reaches its time limit
    or is pre-empted saves, is requeued, and continues.

    Args:
        cluster: ``slurm`` or ``local``.
        max_running: jobs that are submitted at the same time; None: all.
        timeout_min: minutes after which a job is requeued.
        gpus_per_node: of a job.
        cpus_per_task: of a job.
        mem_gb: memory of a job; None: the cluster's default.
        parameters: of submitit's executor besides these: ``slurm_partition``, ``slurm_account``, ...
        demand: of the jobs.
    """

    def __init__(
        self,
        *,
        cluster: Literal["slurm", "local"],
        max_running: int | None,
        timeout_min: int,
        gpus_per_node: int,
        cpus_per_task: int,
        mem_gb: float | None,
        parameters: dict[str, Any],
        demand: Demand,
    ) -> None:
        try:
            import submitit
        except ImportError:
            raise UserError("hydra/launcher=submitit_* needs submitit: pip install 'mmtx[cluster]'") from None
        if gpus_per_node and gpus_per_node < demand.devices_per_job:
            needed = f"is less than trainer.devices={demand.devices_per_job}"
            raise InvalidValue("gpus_per_node", gpus_per_node, needed)
        self._max_running = max_running
        os.environ["PYTHONSAFEPATH"] = "1"  # Python does not import from the working directory under submitit either
        try:
            self._executor = submitit.AutoExecutor(
                folder=demand.folder / ".submitit", cluster=cluster, slurm_max_num_timeout=MOST_REQUEUES
            )
        except RuntimeError as error:
            raise UserError(f"hydra/launcher=submitit_{cluster}: {error}") from None
        memory = {} if mem_gb is None else {"mem_gb": mem_gb}
        given = {"timeout_min": timeout_min, "gpus_per_node": gpus_per_node, "cpus_per_task": cpus_per_task, **memory}
        self._executor.update_parameters(name="mmtx", **given, **parameters)
        self._cluster = cluster
        self._jobs: dict[str, Any] = {}
        self._woken = False

    def has_room(self) -> bool:
        return self._max_running is None or len(self._jobs) < self._max_running

    def start(self, name: str, command: Sequence[str], log: Path) -> str:
        job = self._executor.submit(RemoteJob(command, log))
        self._jobs[name] = job
        return f"{self._cluster}:{job.job_id}"

    def wait(self, seconds: float) -> list[tuple[str, int]]:
        deadline = time.monotonic() + max(seconds, POLL_SECONDS)
        while True:
            ended = [(name, _exit_code(job)) for name, job in self._jobs.items() if job.done()]
            for name, _ in ended:
                del self._jobs[name]
            if ended or self._woken or not self._jobs or time.monotonic() > deadline:
                self._woken = False
                return ended
            time.sleep(min(POLL_SECONDS, 0.2))

    def wake(self) -> None:
        self._woken = True

    def stop(self, name: str) -> None:
        self._signal(name, signal.SIGTERM)

    def kill(self, name: str) -> None:
        self._signal(name, signal.SIGKILL)

    def _signal(self, name: str, number: signal.Signals) -> None:
        identity = self._jobs[name].job_id
        if self._cluster == "local":
            os.kill(int(identity), number)  # of the process that forwards it
        elif number == signal.SIGKILL:
            subprocess.run(["scancel", identity], check=False)
        else:
            subprocess.run(["scancel", "--state=PENDING", identity], check=False)  # it has nothing to save
            subprocess.run(["scancel", "--signal=TERM", identity], check=False)


def _exit_code(job: Any) -> int:
    from submitit.core.utils import FailedJobError, UncompletedJobError

    try:
        return int(job.result())
    except (FailedJobError, UncompletedJobError):  # it ended without a result: its machine was lost, or it was killed
        return -signal.SIGKILL
