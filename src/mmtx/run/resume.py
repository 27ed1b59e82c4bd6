"""``mmtx resume``: a run goes on from its newest valid checkpoint, or is refused with the reason."""

import json
import re
import shlex
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import Any

from mmtx.config.migrations import moved
from mmtx.config.overrides import read_all
from mmtx.config.stored import read_config
from mmtx.errors import UserError
from mmtx.experiment import assemble
from mmtx.process.launch import launch
from mmtx.run.begun_with import check_files
from mmtx.run.checkpoint_content import Checkpoint, contents, verify_all
from mmtx.run.checkpoint_file import CheckpointError
from mmtx.run.directory import RunDirectory
from mmtx.run.fit import keep_global_batch
from mmtx.run.fitted_source import fitted_state_for
from mmtx.run.job import begin, start

FREE = (
    *("backbone.compile", "callbacks", "checkpoint", "loader.max_bad_share", "loader.num_workers"),
    *("loader.on_bad_sample", "logger", "plugins", "run_dir", "trainer.accelerator", "trainer.data_timeout_s"),
    *("trainer.devices", "trainer.max_skips", "trainer.nonfinite", "trainer.num_nodes", "trainer.peak_tflops"),
    *("trainer.profile", "trainer.strategy"),
)
"""What may differ from the checkpoint's config: how a run is run, not what it computes."""

PLACE = re.compile(r"data\.(?!names\.)(.+\.)?(path|((val|test)_)?(source|target))")
"""Where data lie, which may differ too: their fingerprint shows whether they are the same."""


def resume(run_dir: Path, overrides: Sequence[str] = ()) -> int:
    """Continues a run from its newest valid checkpoint.

    Args:
        run_dir: of the run; nothing else is needed.
        overrides: of `FREE` keys.

    Returns:
        The exit code of the run.

    Raises:
        UserError: there is no run, it is in use, its config or data have changed, or it has no valid checkpoint left.
    """
    run = RunDirectory(run_dir)
    if not run.path.is_dir():
        raise UserError(f"{run_dir} is {'no folder' if run.path.exists() else 'not there'}; name a run or a sweep")
    if not run.config.is_file():
        raise UserError(f"{run_dir} holds no run, and no sweep: there is neither config.yaml nor sweep.json in it")
    for override in read_all(overrides):
        if not _is_free(override.key_or_group):
            text, new = str(override.input_line), moved(override.key_or_group)
            if new is not None:
                raise UserError(f"{text} has moved; write {new}={override.get_value_element_as_str()}")
            reason = f"{text} would be another run; a run that goes on may change where data lie, {', '.join(FREE)}"
            typed = shlex.join(["mmtx", "train", "--config", str(run.config), f"init_from={run.path}", text])
            raise UserError(f"{reason}. A new run from its weights: {typed}")
    if run.state() == "finished":
        print(f"{run.path} is finished; nothing is left to do")
        return 0
    with run.lock() if launch().is_main else nullcontext():
        return _resume(run, overrides)


def _resume(run: RunDirectory, overrides: Sequence[str]) -> int:
    if run.state() == "running" and launch().is_main:
        run.set_status("interrupted", "its process was killed")
    config = read_config(run.config, overrides)
    file = find_checkpoint(run)
    checkpoint = Checkpoint.read(file) if file is not None else None
    if checkpoint is None:
        check_files(run)
    experiment = assemble(config, fitted_state_for(config, checkpoint))
    launch().check(experiment.training.num_devices, experiment.training.num_nodes)
    if checkpoint is None:
        print("the run never saved a checkpoint; it starts from the beginning", flush=True)
    else:
        saved = checkpoint.content["mmtx"]
        found = [*differences(saved, contents(experiment))]
        if found:
            lines = "\n".join(["", *(f"  - {line}" for line in found)])
            raise UserError(f"{checkpoint.path} belongs to another experiment; start a new run, or put back:{lines}")
        keep_global_batch(experiment, saved["samples_per_step"])
        print(f"continues from step {saved['step']} of {experiment.total_steps}", flush=True)
    if not run.has_begun:
        return begin(experiment, run)
    if overrides:
        run.write_config(config)
    return start(experiment, run, checkpoint)


def find_checkpoint(run: RunDirectory) -> Path | None:
    """The newest valid checkpoint; None if there never was any. Those that are not valid are named.

    Raises:
        CheckpointError: there were checkpoints, and none is valid.
    """
    for leftover in run.checkpoints.glob(".*.partial"):
        leftover.unlink(missing_ok=True)
    bad, seen = [], set()
    for file in [*run.step_files(), run.last, run.best]:
        if not file.is_file() or file.stat().st_ino in seen:
            continue
        seen.add(file.stat().st_ino)
        try:
            verify_all(file)
        except CheckpointError as error:
            print(f"mmtx: warning: {error}; looking for the one before", file=sys.stderr, flush=True)
            bad.append(file)
            continue
        for broken in bad:
            with suppress(FileNotFoundError):  # another rank was quicker
                broken.replace(broken.with_name(f"{broken.name}.invalid"))
        return file
    if bad or run.checkpointed is not None:
        raise CheckpointError(
            f"{run.path} saved step {run.checkpointed}, and no checkpoint in it is valid now; a run never starts again "
            f"from the beginning by itself: put a checkpoint back, or start a new run"
        )
    return None


def differences(saved: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[str]:
    """Every difference that makes what a checkpoint holds another experiment, one line each."""
    for part, title in (("config", ""), ("specs", "data "), ("fingerprint", "data ")):
        mine, theirs = _flat(saved[part]), _flat(now[part])
        for key in sorted({*mine, *theirs}):
            if mine.get(key) != theirs.get(key) and not (part == "config" and _is_free(key)):
                yield f"{title}{key}: checkpoint {_short(mine.get(key))}, now {_short(theirs.get(key))}"


def _is_free(key: str) -> bool:
    return PLACE.fullmatch(key) is not None or any(key == free or key.startswith(f"{free}.") for free in FREE)


def _flat(node: Any, path: str = "") -> dict[str, Any]:
    if isinstance(node, Mapping) and node:
        return {
            key: value
            for name, child in node.items()
            for key, value in _flat(child, f"{path}.{name}" if path else str(name)).items()
        }
    return {path: json.dumps(node, sort_keys=True, default=str, ensure_ascii=False)}


def _short(value: str | None) -> str:
    return "nothing" if value is None else value if len(value) < 60 else f"{value[:57]}…"
