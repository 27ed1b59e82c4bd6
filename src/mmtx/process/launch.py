"""Which rank this process is, and what has started it: the one answer that everything else reads."""

import os
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass

from mmtx.errors import InvalidValue, UserError

TORCHRUN = {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "", "MASTER_PORT": ""}
"""All that a rank needs to know, and what each variable is where there is one process. torchrun sets them, and so does
a run on several devices for the ranks that it starts itself."""

NUM_RANKS = {"torchrun": "WORLD_SIZE", "srun": "SLURM_STEP_NUM_TASKS"}
"""The variable that holds it, by launcher."""

MAKES_RANKS = {"torchrun": "WORLD_SIZE", "srun": "SLURM_STEP_ID"}
"""The variable without which a process is no rank of the launcher."""

OF_A_RANK = re.compile(
    r"(LOCAL_|GROUP_|ROLE_|NODE_)?RANK|(LOCAL_|GROUP_|ROLE_)?WORLD_SIZE|ROLE_NAME|MASTER_(ADDR|PORT)|TORCHELASTIC_.*"
    r"|SLURM_(PROCID|LOCALID|NODEID|NTASKS|NPROCS|NTASKS_PER_NODE|STEPID|STEP_.*)"
)
"""Variables by which a process, or a library in it, takes itself for a rank."""

LAST_STEP = 2**32 - 16
"""SLURM numbers the steps of a job from 0; its batch script and its interactive shell have numbers above this."""

NODES = ("SLURM_STEP_NODELIST", "SLURM_JOB_NODELIST", "SLURM_NODELIST")

FIRST_PORT = 15_000
"""Ranks that srun has started find the same port without a word to each other: it follows from the job's number."""


@dataclass(frozen=True)
class Launch:
    """The place of this process among the ranks of its run.

    Attributes:
        by: what has started the ranks, ``torchrun`` or ``srun``; None: this process is the whole run, or the parent of
            its ranks.
        rank: among all.
        local_rank: on this machine.
        num_ranks: of all machines.
        address: of the machine of rank 0.
        port: where rank 0 waits for the others.
    """

    by: str | None = None
    rank: int = 0
    local_rank: int = 0
    num_ranks: int = 1
    address: str = "127.0.0.1"
    port: int = 0

    @property
    def is_main(self) -> bool:
        """Whether this is rank 0, or the only process."""
        return self.rank == 0

    def check_alone(self) -> None:
        """Raises UserError where a launcher has started several processes of what is one."""
        if self.by is not None:
            raise UserError(
                f"{NUM_RANKS[self.by]}={self.num_ranks} is in the environment, as {self.by} sets it, and a sweep is "
                f"one process, which starts the ranks of its jobs; start it without {self.by}, or unset "
                f"{MAKES_RANKS[self.by]} if nothing has started ranks"
            )

    def check(self, num_devices: int, num_nodes: int) -> None:
        """Raises UserError where a config is of another number of ranks than have been started. Variables that look
        like those of a rank, and are not, are named on standard error."""
        if self.by is None and num_nodes > 1:
            needed = "needs a launcher that starts the ranks of all machines, torchrun or srun, and there is none"
            raise InvalidValue("trainer.num_nodes", num_nodes, needed, "1")
        if self.by is not None and self.num_ranks != num_devices * num_nodes:
            variable, wanted = NUM_RANKS[self.by], num_devices * num_nodes
            raise UserError(
                f"{variable}={self.num_ranks} is in the environment, as {self.by} sets it, and the config is of "
                f"{wanted} (trainer.devices={num_devices} on trainer.num_nodes={num_nodes}); make it as many, or "
                f"unset {MAKES_RANKS[self.by]} if nothing has started ranks"
            )
        if self.by is not None and self.is_main:  # who is alone waits for half an hour
            meet = f"{self.num_ranks} ranks of {self.by} meet at {self.address}:{self.port}"
            print(f"mmtx: {meet}, as the environment has it", file=sys.stderr, flush=True)
        stray = _left_over() if self.by is None else None
        if stray:
            print(f"mmtx: {stray}", file=sys.stderr, flush=True)


def launch() -> Launch:
    """The launch that the environment declares. All variables of a launcher together make a rank. Single ones are left
    over from elsewhere, as in the pod of a cluster or in the batch script of a SLURM job, and change nothing."""
    return _by_torchrun(os.environ) or _by_srun(os.environ) or Launch()


def requeued() -> bool:
    """Whether SLURM has started this job before."""
    return bool(_number(os.environ, "SLURM_RESTART_COUNT"))


def environment_of_none() -> dict[str, str]:
    """This process's environment without what makes a rank."""
    return {key: value for key, value in os.environ.items() if not OF_A_RANK.fullmatch(key)}


def _left_over() -> str | None:
    """One line about some of torchrun's variables where others are missing; None: there are none."""
    found = [key for key, alone in TORCHRUN.items() if alone and os.environ.get(key, alone) not in ("", alone)]
    missing = [key for key in TORCHRUN if not os.environ.get(key)]
    if not found or not missing:
        return None
    values = " ".join(f"{key}={os.environ[key]}" for key in found)
    return f"{values} in the environment is ignored: a launcher of ranks also sets {', '.join(missing)}"


def _by_torchrun(environment: Mapping[str, str]) -> Launch | None:
    rank, local, size, port = (_number(environment, key) for key in ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_PORT"))
    address = environment.get("MASTER_ADDR")
    if rank is None or local is None or size is None or port is None or not address:
        return None
    return Launch("torchrun", rank, local, size, address, port) if size > 1 and local <= rank < size else None


def _by_srun(environment: Mapping[str, str]) -> Launch | None:
    step, job = _number(environment, "SLURM_STEP_ID"), _number(environment, "SLURM_JOB_ID")
    rank, local = _number(environment, "SLURM_PROCID"), _number(environment, "SLURM_LOCALID")
    size = _number(environment, NUM_RANKS["srun"]) or _number(environment, "SLURM_NTASKS")
    if step is None or step > LAST_STEP or job is None or rank is None or local is None or size is None:
        return None
    nodes = next((environment[key] for key in NODES if environment.get(key)), Launch.address)
    address = environment.get("MASTER_ADDR") or _first(nodes)
    port = _number(environment, "MASTER_PORT") or FIRST_PORT + job % 10_000
    return Launch("srun", rank, local, size, address, port) if size > 1 and local <= rank < size else None


def _first(nodes: str) -> str:
    """``gpu[07-09,12],cpu1`` -> ``gpu07``."""
    return re.sub(r"\[(\d+)[^]]*]", r"\1", nodes).split(",")[0]


def _number(environment: Mapping[str, str], key: str) -> int | None:
    text = environment.get(key, "")
    return int(text) if text.isascii() and text.isdigit() else None
