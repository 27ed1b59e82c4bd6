"""Runs from public models, and public models from runs."""

from __future__ import annotations

from pathlib import Path

import torch
import yaml

from mmtx.interop.exporting import write_public
from mmtx.learner import Learner
from mmtx.run.directory import RunDirectory
from mmtx.run.environment import describe
from mmtx.run.loading import described, load


def save_as_run(learner: Learner, path: Path | str) -> RunDirectory:
    """A run directory that `load`, ``mmtx evaluate`` and ``mmtx generate`` understand.

    Raises:
        UserError: it cannot be made, or holds a run.
    """
    assert learner.config is not None
    run, config = RunDirectory(path), dict(learner.config)
    run.create()
    run.config.write_text(yaml.safe_dump(config, sort_keys=False, allow_unicode=True), encoding="utf-8")
    run.write_json(run.environment, describe(config["seed"]))
    run.write_json(run.metrics, {})
    state = {f"learner.{key}": value for key, value in learner.state_dict().items()}
    torch.save({"mmtx": {**described(config, learner), "step": 0, "metrics": {}}, "state_dict": state}, run.last)
    run.set_status("finished")
    return run


def to_pretrained(run: Learner | Path | str, path: Path | str) -> None:
    """Writes a run, checkpoint or learner in its public family's own format.

    Raises:
        UserError: it is of no public family, with what stands in the way.
    """
    write_public(run if isinstance(run, Learner) else load(run), path)
