"""W&B as a view of the run: it may be missing, slow or broken, and the run goes on all the same."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import Logger
from torch import Tensor

from mmtx.objectives.base import Example

INIT_SECONDS = 10.0
FINISH_SECONDS = 20.0


class WandbLog(Logger):
    """Logs to Weights & Biases; offline, with one line that says so, where there is no key or no network.

    Every call is guarded: the first that fails is reported in one line, and W&B is left alone from then on.

    Args:
        run_dir: where the offline run goes.
        config: the resolved config, shown in W&B.
        run_name: of the run in W&B.
        project: W&B project.
        entity: W&B user or team; None: the key's own.
        tags: for filtering.
        mode: ``online``, ``offline`` or ``disabled``; None: online if possible.
    """

    def __init__(
        self,
        *,
        run_dir: Path,
        config: dict[str, Any],
        run_name: str,
        project: str,
        entity: str | None,
        tags: list[str],
        mode: str | None,
    ) -> None:
        super().__init__()
        self._settings = {
            "project": project,
            "entity": entity,
            "tags": tags,
            "name": run_name,
            "config": config,
            "dir": str(run_dir),
        }
        self._mode = mode or os.environ.get("WANDB_MODE")
        self._run: Any = None
        self._broken = self._mode == "disabled"

    @property
    def name(self) -> str:
        return "wandb"

    @property
    def version(self) -> str | None:
        return self._run.id if self._run is not None else None

    def start(self) -> None:
        """Opens the run; to be called once, before the first step."""
        if not self._broken:
            self._guard("start", self._start, INIT_SECONDS * 3)

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        self._guard("log", lambda: self._run.log({**metrics, "step": step}, step=step), INIT_SECONDS)

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
            shown: dict[str, Any] = {f"samples/{name}": wandb.Table(columns, rows)}
            if picture is not None:
                shown[f"samples/{name}_picture"] = wandb.Image(str(picture))
            self._run.log(shown, step=step)

        self._guard("log samples", log, INIT_SECONDS)

    def log_pictures(self, pictures: Mapping[str, Path], step: int) -> None:
        """Picture files by name; animations move."""

        def log() -> None:
            import wandb

            self._run.log({f"samples/{name}": _shown(wandb, file) for name, file in pictures.items()}, step=step)

        self._guard("log pictures", log, INIT_SECONDS)

    def finish(self, exit_code: int) -> None:
        self._guard("finish", lambda: self._run.finish(exit_code=exit_code), FINISH_SECONDS)

    def _start(self) -> None:
        os.environ.setdefault("WANDB_SILENT", "true")
        import wandb

        mode = self._mode or ("online" if _has_key() else "offline")
        if mode == "online":
            try:
                self._run = self._init(wandb, "online")
                return
            except Exception as error:
                _say(f"W&B cannot be reached ({_line(error)}); logging offline instead")
                wandb.teardown()
        else:
            why = "" if self._mode else "no API key: "
            _say(f"{why}logging offline; `wandb sync {self._settings['dir']}/wandb/offline-run-*` uploads the run")
        self._run = self._init(wandb, "offline")

    def _init(self, wandb: Any, mode: str) -> Any:
        settings = wandb.Settings(
            init_timeout=INIT_SECONDS,
            login_timeout=INIT_SECONDS,
            finish_timeout=FINISH_SECONDS,
            finish_timeout_raises=False,
            silent=True,
            console="off",
        )
        return wandb.init(mode=mode, settings=settings, **self._settings)

    def _guard(self, what: str, call: Callable[[], None], seconds: float) -> None:
        """Runs a call in a thread, so that a call which hangs cannot hold up the run."""
        if self._broken or (self._run is None and what != "start"):
            return
        failure: list[BaseException] = []

        def target() -> None:
            try:
                call()
            except BaseException as error:  # W&B raises many kinds; none may end a run
                failure.append(error)

        thread = threading.Thread(target=target, daemon=True, name=f"wandb-{what}")
        thread.start()
        thread.join(seconds)
        if thread.is_alive() or failure:
            self._broken = True
            reason = _line(failure[0]) if failure else f"no answer in {seconds:.0f} s"
            _say(f"W&B failed to {what} ({reason}); going on without it; metrics.jsonl has everything")


def _shown(wandb: Any, file: Path) -> Any:
    return wandb.Video(str(file), format="gif") if file.suffix == ".gif" else wandb.Image(str(file))


def _has_key() -> bool:
    """Whether W&B would find an API key, without asking for one."""
    if os.environ.get("WANDB_API_KEY"):
        return True
    import netrc
    from urllib.parse import urlparse

    host = urlparse(os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai")).hostname or ""
    try:
        return netrc.netrc(os.environ.get("NETRC")).authenticators(host) is not None
    except (OSError, netrc.NetrcParseError):
        return False


def _line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:200]


def _say(text: str) -> None:
    print(f"wandb: {text}", file=sys.stderr, flush=True)
