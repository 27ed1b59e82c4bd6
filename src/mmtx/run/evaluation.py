"""``mmtx evaluate``: a saved model on any split of any data, with names left out or another set."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mmtx.compose import with_overrides
from mmtx.errors import InvalidValue, UserError
from mmtx.evaluate import evaluate_learner
from mmtx.experiment import construct_source, data_module
from mmtx.run.directory import newest_checkpoint
from mmtx.run.loading import load, read_checkpoint
from mmtx.run.metrics import finite
from mmtx.run.subset import load_set

DEFAULTS: dict[str, Any] = {"split": "test", "checkpoint": None, "drop": None, "modality": None}
"""The options of the command."""


def evaluate_run(place: str, options: Mapping[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    """The metrics of a run or checkpoint.

    Args:
        place: the run or the checkpoint.
        options: those of `DEFAULTS`.
        overrides: of the run's config.

    Raises:
        UserError: an option is none, the data has no such split, or the model cannot be what is asked of it.
    """
    split = options["split"]
    if split not in ("train", "val", "test"):
        raise InvalidValue("split", split, "is none of train, val, test")
    if options["checkpoint"] is not None:
        place = str(Path(place) / "checkpoints" / f"{options['checkpoint']}.ckpt")
    file = newest_checkpoint(place)
    # whose code may run is for the user to say, and not for a checkpoint
    config = with_overrides({**read_checkpoint(file)["mmtx"]["config"], "plugins": []}, overrides)
    source = construct_source(config)
    if options["modality"] is None:
        learner = load(file, config["plugins"])
    else:
        learner, fresh = load_set(file, _names("modality", options["modality"]), source.specs, config["plugins"])
        if fresh:
            print(f"mmtx: new to this checkpoint, and as they start: {', '.join(fresh)}", file=sys.stderr)
    data = data_module(config, source, list(learner.specs))
    metrics = evaluate_learner(learner, data, split, _names("drop", options["drop"] or []))
    if metrics is None:
        raise UserError(f"the data has no split '{split}'; choose split=val or split=train")
    return finite(metrics)


def _names(key: str, value: object) -> list[str]:
    if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
        raise InvalidValue(key, value, "is not a list of names", f"{key}=[image,text]")
    return value
