"""W&B as a view of the run: it may be missing, slow or broken, and the run goes on all the same."""

from __future__ import annotations

import os
import shlex
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from lightning.pytorch.loggers import Logger
from torch import Tensor

from mmtx.objectives.base import Example
from mmtx.process.stopping import Interrupted
from mmtx.run.record import RunRecord, read_run
from mmtx.run.wandb.common import by_step, exit_code, mark, settle_environment
from mmtx.run.wandb.identity import AGENT, agent_run_id, identity, project_name, remember
from mmtx.run.wandb.server import reachable, why_offline

INIT_SECONDS = 10.0
START_SECONDS = 30.0
LOG_SECONDS = 10.0
FINISH_SECONDS = 20.0
LEAVE_SECONDS = 3.0
"""For what is left to be written where there is no network to send it by."""
UPLOAD_BYTES_PER_SECOND = 1e6


class WandbLog(Logger):
    """Logs to Weights & Biases; offline, with one line that says so, where there is no key or no network.

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
        if not self._broken:
            self._guard("start", self._start, START_SECONDS)

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        self._guard("log", lambda: self._run.log({**metrics, "step": step}), LOG_SECONDS)

    def log_hyperparams(self, *args: Any, **kwargs: Any) -> None:
        """The whole config is given at the start."""

    def log_samples(
        self,
        name: str,
        examples: Sequence[Example],
        picture: Path | None,
        sounds: Sequence[tuple[Tensor, int]] | None,
        step: int,
    ) -> None:
        def log() -> None:
            import wandb

            columns: list[str | int] = ["truth", "predicted", "right"]
            rows: list[list[Any]] = [[e.truth, e.predicted, e.right] for e in examples]
            if sounds is not None:
                columns.insert(0, "sound")
                for row, (waveform, rate) in zip(rows, sounds, strict=True):
                    row.insert(0, wandb.Audio(waveform.numpy(), sample_rate=rate) if len(waveform) else None)
            shown: dict[str, Any] = {f"samples/{name}": wandb.Table(columns, rows), "step": step}
            if picture is not None:
                shown[f"samples/{name}_picture"] = wandb.Image(str(picture))
            self._run.log(shown)

        self._guard("log samples", log, LOG_SECONDS)

    def log_pictures(self, pictures: Mapping[str, Path], step: int) -> None:
        """Picture files by name; animations move."""

        def log() -> None:
            import wandb

            self._run.log({**{f"samples/{name}": _shown(wandb, file) for name, file in pictures.items()}, "step": step})

        self._guard("log pictures", log, LOG_SECONDS)

    def finish(self, error: BaseException | None) -> None:
        """Marks how the run ended, by tag, summary and exit code, and sends what is left.

        Args:
            error: what ended it; None: it is done.
        """
        if self._broken or self._run is None:
            return
        state = self._end(error)
        online = not self._run.offline
        sent = online and reachable()
        self._guard("mark the end", lambda: mark(self._run, state), LOG_SECONDS)
        files = [self._run_dir / "checkpoints" / f"{name}.ckpt" for name in self._checkpoints]
        self._guard("keep checkpoints", lambda: self._keep([file for file in files if file.is_file()]), LOG_SECONDS)
        size = sum(file.stat().st_size for file in files if file.is_file())
        seconds = LEAVE_SECONDS if online and not sent else FINISH_SECONDS + size / UPLOAD_BYTES_PER_SECOND
        self._guard("finish", lambda: self._run.finish(exit_code=exit_code(state)), seconds)
        if sent and not self._broken:
            self._guard("note that it is uploaded", lambda: self._uploaded(state), LOG_SECONDS)
        elif online:
            _leave()

    def _start(self) -> None:
        refused = settle_environment()
        record = read_run(self._run_dir)
        if "WANDB_SWEEP_ID" in os.environ and agent_run_id(record) is None:
            for name in AGENT:
                os.environ.pop(name, None)
        mode = self._mode or os.environ.get("WANDB_MODE")
        why = "; ".join(refused) or (why_offline() if mode is None else None)
        self._run = self._init(record, "offline" if why else mode or "online")
        remember(self._run_dir, id=self._run.id, project=self._run.project, entity=self._run.entity or None)
        if self._run.offline:
            upload = f"`mmtx sync {shlex.quote(str(self._run_dir))}` uploads the run"
            _say(f"{f'{why}; ' if why else ''}logging offline; {upload}")

    def _init(self, record: RunRecord, mode: str) -> Any:
        import wandb

        settings = wandb.Settings(
            init_timeout=INIT_SECONDS,
            login_timeout=INIT_SECONDS,
            finish_timeout_raises=False,
            silent=True,
            console="off",
        )
        named = identity(record, self._tags)
        own = {"id": named["id"], "resume": "allow", "project": project_name(self._project), "entity": self._entity}
        if agent_run_id(record):
            own = {}  # W&B takes all of it from the agent, and would warn
        run = wandb.init(
            mode=mode,  # type: ignore[arg-type]
            settings=settings,
            dir=str(self._run_dir),
            config=self._config,
            name=named["name"],
            group=named["group"],
            job_type=named["job_type"],
            tags=named["tags"],
            **own,
        )
        by_step(run)
        return run

    def _end(self, error: BaseException | None) -> str:
        if error is None:
            return "finished"
        if not isinstance(error, (Interrupted, KeyboardInterrupt, SystemExit)):
            return "failed"
        return "pruned" if read_run(self._run_dir).state == "pruned" else "interrupted"

    def _keep(self, files: Sequence[Path]) -> None:
        for file in files:
            self._run.log_artifact(str(file), name=f"{self._run.id}-{file.stem}", type="model", aliases=[file.stem])

    def _uploaded(self, state: str) -> None:
        remember(self._run_dir, uploaded={"rows": len(read_run(self._run_dir).rows), "state": state})

    def _guard(self, what: str, call: Callable[[], None], seconds: float) -> None:
        """Runs a call in a thread, so that a call which hangs cannot hold up the run."""
        if self._broken or (self._run is None and what != "start"):
            return
        failure = within(call, seconds)
        if failure is not None:
            self._broken = True
            _say(
                f"W&B failed to {what} ({failure}); going on without it; metrics.jsonl has everything, "
                f"and `mmtx sync {shlex.quote(str(self._run_dir))}` uploads it"
            )


def _shown(wandb: Any, file: Path) -> Any:
    return wandb.Video(str(file), format="gif") if file.suffix == ".gif" else wandb.Image(str(file))


def within(call: Callable[[], None], seconds: float) -> str | None:
    """Runs a call in a thread of its own. Gives None, or why it did not end well in that time."""
    failure: list[BaseException] = []

    def target() -> None:
        try:
            call()
        except BaseException as error:  # W&B raises many kinds; none may end a run
            failure.append(error)

    thread = threading.Thread(target=target, daemon=True, name="wandb")
    thread.start()
    thread.join(seconds)
    if thread.is_alive():
        return f"no answer in {seconds:.0f} s"
    return _line(failure[0]) if failure else None


def _leave() -> None:
    """Lets go of W&B's process, for which the end of ours would wait."""
    import wandb

    within(lambda: wandb.teardown(exit_code=1), 1.0)


def _line(error: BaseException) -> str:
    return (" ".join(str(error).split()) or type(error).__name__)[:200]


def _say(text: str) -> None:
    print(f"wandb: {text}", file=sys.stderr, flush=True)
