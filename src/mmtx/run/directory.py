"""The run directory: the files of a run, and how they are written."""

import json
import os
import platform
import shlex
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import yaml

from mmtx.config.migrations import FORMAT
from mmtx.config.redaction import literal, redacted
from mmtx.errors import UserError
from mmtx.hub.address import is_address
from mmtx.hub.model_files import DESCRIPTION
from mmtx.run.lock import lock


class RunDirectory:
    """Names of the files of a run, and how they are written.

    Args:
        path: made if it is not there.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path).expanduser().absolute()
        self.config = self.path / "config.yaml"
        self.environment = self.path / "environment.json"
        self.status = self.path / "status.json"
        self.metrics_log = self.path / "metrics.jsonl"
        self.metrics = self.path / "metrics.json"
        self.directions = self.path / "directions.json"
        self.checkpoints = self.path / "checkpoints"
        self.samples = self.path / "samples"
        self.last = self.checkpoints / "last.ckpt"
        self.best = self.checkpoints / "best.ckpt"
        self.reference = self.checkpoints / "reference.ckpt"
        self._is_locked = False

    def create(self) -> None:
        """Raises UserError if the directory cannot be made, or already holds a run."""
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            self.checkpoints.mkdir(exist_ok=True)
            self.samples.mkdir(exist_ok=True)
        except OSError as error:
            raise UserError(f"run_dir={self.path} cannot be made: {error.strerror}; choose another run_dir") from None
        if self.has_begun:
            again = f"`mmtx resume {shlex.quote(str(self.path))}` goes on with it"
            way = "it is finished" if self.state() == "finished" else again
            raise UserError(f"run_dir={self.path} already holds a run: {way}; for another, choose another run_dir")

    @contextmanager
    def lock(self, *, wait: bool = False) -> Iterator[None]:
        """Holds the run for this process, which the kernel releases however the process ends. May be nested.

        Args:
            wait: for the process that has it, such as one whose launcher was killed and which is still saving.

        Raises:
            UserError: another process has it.
        """
        if self._is_locked:
            yield
            return
        try:
            file = (self.path / ".lock").open("a+")
        except OSError as error:
            raise UserError(f"{self.path} cannot be written: {error.strerror}") from None
        os.register_at_fork(after_in_child=file.close)  # a worker that outlives a killed run does not hold it
        with file:
            try:
                lock(file, wait=wait)
            except BlockingIOError:
                file.seek(0)
                raise UserError(f"{self.path} is in use by {file.read().strip() or 'another process'}") from None
            file.truncate(0)
            file.write(f"pid {os.getpid()} on {platform.node()} since {datetime.now():%Y-%m-%d %H:%M:%S}\n")
            file.flush()
            self._is_locked = True
            try:
                yield
            finally:
                self._is_locked = False

    def step_files(self) -> list[Path]:
        """Checkpoints by step, the newest first."""
        return sorted(self.checkpoints.glob("step-*.ckpt"), reverse=True)

    def note_checkpoint(self, step: int) -> None:
        """Remembers, outside the folder of checkpoints, that there was one."""
        self.write_json(self.path / ".checkpointed", {"step": step})

    @property
    def checkpointed(self) -> int | None:
        """The step of the newest checkpoint that the run has ever written."""
        file = self.path / ".checkpointed"
        return int(json.loads(file.read_text())["step"]) if file.exists() else None

    @property
    def has_begun(self) -> bool:
        """Whether what is known before the first step was written. Without it, a status is why a job did not begin."""
        return self.status.exists() and self.environment.exists()

    def write_config(self, config: dict[str, Any]) -> None:
        """What repeats the run, without its secrets."""
        stored = {"format": FORMAT, **redacted(literal(config))}
        dumper: Any = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
        self.config.write_text(yaml.dump(stored, Dumper=dumper, sort_keys=False, allow_unicode=True), encoding="utf-8")

    def write_json(self, file: Path, content: dict[str, Any]) -> None:
        """Whole or not at all: a reader never sees half a file."""
        partial = file.with_name(f".{file.name}.{os.getpid()}.{threading.get_ident()}")
        text = json.dumps(redacted(content), indent=2, ensure_ascii=False) + "\n"
        partial.write_text(text, encoding="utf-8", errors="backslashreplace")  # which JSON reads as what it was
        os.replace(partial, file)

    def note(self, key: str, counts: Mapping[str, int]) -> None:
        """Adds counts to what is known of the run: ``num_samples`` of each split, ``num_parameters`` of each role."""
        known = json.loads(self.environment.read_text(encoding="utf-8")) if self.environment.is_file() else {}
        self.write_json(self.environment, {**known, key: dict(counts)})

    def state(self) -> str | None:
        """The last state that was set; None: there was never any."""
        return str(json.loads(self.status.read_text())["state"]) if self.status.exists() else None

    def set_status(self, state: str, error: str | None = None) -> None:
        """`state` is running, finished, failed, interrupted or pruned."""
        now = time.time()
        known = json.loads(self.status.read_text()) if self.status.exists() else {"started": now}
        known |= {"state": state, "updated": now, "ended": None if state == "running" else now, "error": error}
        known["pid"] = os.getpid()
        self.write_json(self.status, known)


def is_run(place: Path | str) -> bool:
    """Whether a place is a run, checkpoint or model folder of mmtx, rather than a model of a public family."""
    path = path_of(place)
    return (
        path.suffix == ".ckpt" or path.name == DESCRIPTION or (path / "checkpoints").is_dir() or is_model_folder(path)
    )


def is_model_folder(place: Path | str) -> bool:
    """Whether a place is what ``mmtx export --format mmtx`` writes."""
    return (path_of(place) / DESCRIPTION).is_file()


def path_of(place: Path | str) -> Path:
    """The path of a place, downloaded where it is an address on a hub. Raises UserError as `local` does."""
    if not is_address(place):
        return Path(place).expanduser()
    from mmtx.interop.hub_model import local  # brings torch with it

    return local(place)


def newest_checkpoint(place: Path | str) -> Path:
    """The checkpoint meant by a run directory or a file; of a model folder, its description.

    Raises:
        UserError: there is none.
    """
    path = path_of(place)
    if path.is_file():
        return path
    if is_model_folder(path):
        return path / DESCRIPTION
    if not path.exists():
        raise UserError(f"{place} does not exist; give a run directory or a checkpoint file")
    run = RunDirectory(path)
    for file in (run.last, *run.step_files(), run.best):
        if file.is_file():
            return file
    if (path / "config.json").is_file():
        again = shlex.join(["mmtx", "import", str(place), "RUN"])
        raise UserError(f"{place} is no run; if it is a public model, `{again}` makes one of it")
    raise UserError(f"{place} holds no checkpoint (looked for checkpoints/last.ckpt and best.ckpt)")


def fresh_directory(name: str) -> Path:
    """``runs/<name>/<date_time>``, with a number behind it if there is one already."""
    base = Path("runs") / name / datetime.now().strftime("%Y-%m-%d_%H-%M-%S")
    path, number = base, 2
    while path.exists():
        path, number = base.with_name(f"{base.name}_{number}"), number + 1
    return path
