"""W&B as a view of the run: it may be missing, slow or broken, and the run goes on all the same."""

import os
import shlex
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Literal

from lightning.pytorch.loggers import Logger

from mmtx.process.deadline import failure_within
from mmtx.process.stopping import Interrupted
from mmtx.run.run_record import read_run
from mmtx.run.wandb import view
from mmtx.run.wandb.environment import is_reachable, settle_environment, why_offline

START_SECONDS, LOG_SECONDS, FINISH_SECONDS = 30.0, 10.0, 20.0
LEAVE_SECONDS = 3.0  # where there is no network by which to send what is left
UPLOAD_BYTES_PER_SECOND = 1e6
LIMITS = {"init_timeout": 10.0, "login_timeout": 10.0, "finish_timeout_raises": False}


class WandbLog(Logger):
    """Logs to Weights & Biases; offline, with a warning of one line, where there is no key or no network.

    Every call is guarded: the first that fails is reported in one line, and W&B is left alone from then on. Every line
    of metrics.jsonl is one row, with its ``step``, which is the axis of all metrics.

    Args:
        run_dir: where the offline run goes.
        config: the resolved config, shown in W&B.
        project: W&B project.
        entity: W&B user or team; None: the key's own.
        tags: for filtering, beside those of a sweep.
        mode: ``online``, ``offline`` or ``disabled``; None: online if possible.
        checkpoints: which are kept as artifacts: ``best``, ``last``.
    """

    def __init__(
        self,
        *,
        run_dir: Path,
        config: dict[str, Any],
        project: str,
        entity: str | None,
        tags: list[str],
        mode: Literal["online", "offline", "disabled"] | None,
        checkpoints: list[Literal["best", "last"]],
    ) -> None:
        super().__init__()
        self._upload = f"`mmtx sync {shlex.quote(str(run_dir))}`"
        self._run_dir, self._config, self._checkpoints = run_dir, config, checkpoints
        self._project, self._entity, self._tags = project, entity, tags
        self._mode: str | None = mode
        self._run: Any = None
        self._broken = (mode or os.environ.get("WANDB_MODE")) == "disabled"

    @property
    def name(self) -> str:
        return "wandb"

    @property
    def version(self) -> str | None:
        return self._run.id if self._run is not None else None

    def start(self) -> None:
        """Opens the run; to be called once, before the first step."""
        self._guard("start", self._start, START_SECONDS)

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        self._guard("log", lambda: self._run.log({**metrics, "step": step}), LOG_SECONDS)

    def log_hyperparams(self, *args: Any, **kwargs: Any) -> None:
        """The whole config is given at the start."""

    def log_samples(self, files: Iterable[Path]) -> None:
        """Shows files of ``samples/``."""
        self._guard("log samples", lambda: view.log_samples(self._run, files), LOG_SECONDS)

    def finish(self, error: BaseException | None) -> None:
        """Shows how the run ended, by the error that ended it if any, and sends what is left."""
        if self._broken or self._run is None:
            return
        record, online = read_run(self._run_dir), not self._run.offline
        state = "finished" if error is None else "failed"
        if isinstance(error, (Interrupted, KeyboardInterrupt, SystemExit)):
            state = "pruned" if record.state == "pruned" else "interrupted"
        sent = online and is_reachable()
        files = view.checkpoint_files(self._run_dir, self._checkpoints)
        size = sum(part.stat().st_size for file in files for part in view.parts_of(file).values())
        seconds = LEAVE_SECONDS if online and not sent else FINISH_SECONDS + size / UPLOAD_BYTES_PER_SECOND
        self._guard("finish", lambda: view.finish_run(self._run, state, files), seconds)
        if sent and not self._broken:
            view.remember(self._run_dir, uploaded={**view.extent(record), "state": state})
        elif online:
            import wandb

            failure_within(1.0, lambda: wandb.teardown(exit_code=1))  # else the end of this process waits for W&B's

    def _start(self) -> None:
        refused = settle_environment()
        record = read_run(self._run_dir)
        named = {**view.identity(record, self._project, self._entity, self._tags), "resume": "allow"}
        if view.agent_run_id(record):  # W&B takes these from the agent, and would warn
            named = {key: value for key, value in named.items() if key not in ("id", "project", "entity", "resume")}
        else:
            for name in view.AGENT:
                os.environ.pop(name, None)
        mode = self._mode or os.environ.get("WANDB_MODE")
        why = "; ".join(refused) or (why_offline() if mode is None else None)
        mode = "offline" if why else mode or "online"
        self._run = view.open_run(LIMITS, mode=mode, dir=str(self._run_dir), config=self._config, **named)
        view.remember(self._run_dir, id=self._run.id, project=self._run.project, entity=self._run.entity or None)
        if self._run.offline:
            reason = f"{why}; " if why else ""
            print(f"wandb: {reason}logging offline; {self._upload} uploads the run", file=sys.stderr, flush=True)

    def _guard(self, what: str, call: Callable[[], None], seconds: float) -> None:
        """Runs a call in a thread, so that a call which hangs cannot hold up the run."""
        if self._broken or (self._run is None and what != "start"):
            return
        failure = failure_within(seconds, call)
        if failure is not None:
            self._broken = True
            then = f"going on without it; metrics.jsonl has everything, and {self._upload} uploads it"
            print(f"wandb: W&B failed to {what} ({failure}); {then}", file=sys.stderr, flush=True)
