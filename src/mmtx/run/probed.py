"""``mmtx evaluate RUN probe=LABEL``: what can be read off the features of a run."""

from pathlib import Path
from typing import Any

from mmtx.config.options import options_for
from mmtx.config.schema import Config
from mmtx.experiment import data_module
from mmtx.learner import Learner
from mmtx.probe import check_label, probe_features
from mmtx.run.checkpoint_content import read_checkpoint
from mmtx.run.fitted_source import source_for
from mmtx.run.measured_data import not_augmented


def probed(learner: Learner, file: Path, config: Config, label: Any, probing: Any, split: str) -> dict[str, float]:
    """The metrics of `probe_features`, by their whole names.

    Args:
        learner: on the device to compute on.
        file: its checkpoint.
        config: of its run, with the data.
        label: name of the classes in the data.
        probing: ``{option: value}`` of `probe_features`; None: by default.
        split: of the data.

    Raises:
        UserError: the data has no such classes, or an option cannot be.
    """
    options = options_for(probe_features, probing, "probing")
    config = {**config, "data": not_augmented(config["data"])}  # the training part is read once, as it is
    source = source_for(read_checkpoint(file), config)
    name = check_label(label, learner, dict(source.specs))
    data = data_module(config, source, [*learner.model.names, name])
    found = probe_features(learner, data, split, name, **options)
    return {f"{split}/{metric}": value for metric, value in found.items()}
