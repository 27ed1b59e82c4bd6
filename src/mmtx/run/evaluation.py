"""``mmtx evaluate``: a saved model on any split of any data, with names left out or another set."""

import re
import sys
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from mmtx.config import check
from mmtx.config.options import checked
from mmtx.config.overrides import read_all
from mmtx.config.schema import Config
from mmtx.config.stored import with_overrides
from mmtx.data.base import Source
from mmtx.data.loaders import DataModule
from mmtx.data.places import SPLITS
from mmtx.errors import ConfigErrors, InvalidValue, UserError, nearest
from mmtx.evaluate import evaluate_learner
from mmtx.experiment import data_module
from mmtx.learner import Learner
from mmtx.nn.positions import Learned
from mmtx.predict import lacking
from mmtx.run.bits import bits_in
from mmtx.run.checkpoint_content import load, read_checkpoint
from mmtx.run.computing import COMPUTING, computing
from mmtx.run.directory import newest_checkpoint, path_of
from mmtx.run.fitted_source import source_for
from mmtx.run.judged import judged
from mmtx.run.measured_data import not_augmented, not_divided
from mmtx.run.metrics_log import finite
from mmtx.run.named_plugins import named_plugins
from mmtx.run.probed import probed
from mmtx.run.reference import load_reference
from mmtx.run.reward_judges import give_judges
from mmtx.run.subset import load_set
from mmtx.run.zero_shot import describe_classes

DEFAULTS: dict[str, Any] = {"split": "test", "checkpoint": None, "drop": None, "modality": None}
OF_METRICS: dict[str, Any] = dict.fromkeys(("prompts", "judge", "drawing", "probe", "probing", "bits"))
"""Options that are for metrics alone."""
DEFAULTS |= {key: option.default for key, option in COMPUTING.items()}
"""All options of the command."""

READ = ("data", "loader", "seed", "plugins")
"""Keys of a config that the command reads; the rest is the checkpoint's."""

OF_A_VOCABULARY = re.compile(r"[./](\w+_)?vocabulary\b")
"""Keys of data, of any source or part of it."""


class Opened(NamedTuple):
    """A saved model, and the data that it is evaluated on.

    Attributes:
        file: of the checkpoint.
        config: of its run, with the other data.
        learner: the model with its objectives.
        data: loaders of the data.
        drop: names that all samples are to lack.
    """

    file: Path
    config: Config
    learner: Learner
    data: DataModule
    drop: Sequence[str]


def evaluate_run(path: str, options: Mapping[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    """The metrics of a run or checkpoint.

    Args:
        path: of the run or the checkpoint.
        options: those of `DEFAULTS`.
        overrides: of the run's config.

    Raises:
        UserError: an option cannot be, the data has no such split, or the model does not fit the data.
    """
    opened = open_run(path, options, overrides)
    with computing(opened.learner, **computing_options(options)):
        metrics = evaluate_learner(opened.learner, opened.data, options["split"], opened.drop)
        if metrics is not None and options.get("judge") is not None:
            own = opened.learner, opened.file, opened.config
            metrics |= judged(*own, options["judge"], options["drawing"], options["split"])
        if metrics is not None and options.get("probe") is not None:
            own = opened.learner, opened.file, opened.config
            metrics |= probed(*own, options["probe"], options["probing"], options["split"])
        if metrics is not None and options.get("bits") is not None:
            metrics |= bits_in(opened.learner, opened.data, options["bits"], options["split"])
    if metrics is None:
        raise no_split(options["split"])
    return finite(metrics)


def computing_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """The options of `computing`, checked."""
    return checked({key: options[key] for key in COMPUTING}, COMPUTING)


def no_split(split: str) -> UserError:
    """The error where no sample is in a split."""
    return UserError(f"the data has no split '{split}'; choose split=val or split=train")


def open_run(path: str, options: Mapping[str, Any], overrides: Sequence[str], *, predicts: bool = False) -> Opened:
    """Loads a model and opens its data, or other data.

    Args:
        path, options, overrides: see `evaluate_run`; a command may have more options.
        predicts: whether the data may lack what the objectives predict.

    Raises:
        UserError: as `evaluate_run`.
    """
    split, splits = options["split"], [*SPLITS, *(["all"] if predicts else [])]
    if split not in splits:
        raise InvalidValue("split", split, f"is none of {', '.join(splits)}")
    if options["checkpoint"] is not None:
        path = str(path_of(path) / "checkpoints" / f"{options['checkpoint']}.ckpt")
    file = newest_checkpoint(path)
    checkpoint = read_checkpoint(file)
    config = _config({**checkpoint["mmtx"]["config"], "plugins": named_plugins(file)}, overrides, options)
    if split in ("train", "all"):
        config["data"] = not_augmented(config["data"])
    if split == "all":
        given = {override.key_or_group for override in read_all(overrides)}
        config["data"] = not_divided(config["data"], checkpoint["mmtx"]["config"]["data"], "data", given)
    learner, drop = load(file, config["plugins"]), _names("drop", options["drop"] or [])
    names = learner.model.names if options["modality"] is None else _names("modality", options["modality"])
    predicted = lacking(learner, ())
    needed = [name for name in names if name not in (*predicted, *drop)]
    source = source_for(checkpoint, config, needed if predicts else None)
    if options["modality"] == []:
        raise InvalidValue("modality", [], "is empty; choose at least one name")
    if options["modality"] is not None:
        learner, fresh = load_set(file, names, source.specs, config["plugins"])
        if fresh:
            print(f"mmtx: new to this checkpoint, with fresh weights: {', '.join(fresh)}", file=sys.stderr)
    described: list[str] = []
    if options.get("prompts") is not None:
        described = [describe_classes(learner, source.specs, _names("prompts", options["prompts"]))]
    if "parts" not in checkpoint["mmtx"]["config"]["data"]:  # of a mixture, one part may be evaluated
        _check_names(learner, source, drop, lacking(learner, source.specs) if predicts else described)
    _check_times(learner, source)
    try:
        data = data_module(config, source, list(learner.specs))
    except InvalidValue as error:
        raise error.under("loader") from None
    if learner.uses_reference:
        load_reference(learner, file.with_name("reference.ckpt"), checkpoint["mmtx"].get("reference"))
    give_judges(learner, source.specs)
    return Opened(file, config, learner, data, drop)


def _config(saved: Config, overrides: Sequence[str], options: Collection[str]) -> Config:
    """A run's config with other data."""
    for override in read_all(overrides):
        key, text = override.key_or_group.partition(".")[0], override.input_line
        if key in saved and key not in READ:
            raise UserError(
                f"{text} would be another model; this command takes {', '.join(options)}, data.* and loader.*"
            )
        if OF_A_VOCABULARY.search(override.key_or_group):
            raise UserError(f"{text} would read texts by other ids; the vocabulary is the run's, whatever the data")
        if key not in saved:
            raise UserError(f"unknown key {text}; {nearest(key, [*options, *READ])}")
    config = with_overrides(saved, overrides)
    found = [f.message for f in check.findings(config) if f.path.partition(".")[0] in READ]
    if found:
        raise ConfigErrors(found)
    return config


def _check_names(learner: Learner, source: Source, drop: Sequence[str], predicted: Sequence[str]) -> None:
    """Raises UserError if the data lacks names of the set that are not predicted; names the objectives that it has
    nothing for."""
    known = [*source.specs, *predicted]
    missing = [name for name in learner.model.names if name not in known and name not in drop]
    if missing:
        lacks = f"the set of the run holds {', '.join(missing)}, and this data has {', '.join(source.specs)} only"
        raise UserError(f"{lacks}; to evaluate it without them: drop=[{','.join(missing)}]")
    applying = learner.applying(known)
    for name in learner.objectives:
        if name not in applying:
            needs = ", ".join(learner.objective(name).needs)
            print(f"mmtx: warning: {name} needs {needs}, which this data does not have; not evaluated", file=sys.stderr)
    if not applying:
        raise UserError(f"this data has nothing to predict for any objective; it has {', '.join(source.specs)}")


def _check_times(learner: Learner, source: Source) -> None:
    """Raises UserError if episodes of the data may last longer than the model has learned times of."""
    for name in (name for name in learner.model.names if name in source.specs):
        times = source.specs[name].fields.get("times")
        learned = dict(learner.model.clock_embeddings).get(learner.model.clock_of[name])
        if times is not None and isinstance(learned, Learned) and (times.num_classes or 0) > learned.extent[0]:
            given = f"times below {times.num_classes}, and the model has learned those below {learned.extent[0]}"
            raise UserError(f"{name}: the data declares {given} (data.max_steps)")


def _names(key: str, value: object) -> list[str]:
    if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
        raise InvalidValue(key, value, "is not a list of names", f"{key}=[image,text]")
    if len(set(value)) < len(value):
        raise InvalidValue(key, value, "names something twice")
    return value
