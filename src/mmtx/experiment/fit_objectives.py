"""What objectives fit to the training part of the data, before the first step."""

from collections.abc import Iterator, Sequence

from mmtx.batch import Batch
from mmtx.config.schema import Config
from mmtx.data.base import Source
from mmtx.data.loaders import DataModule
from mmtx.experiment.source import data_module
from mmtx.learner import Learner
from mmtx.objectives.capabilities import Fits
from mmtx.process.stopping import track


def fit_objectives(learner: Learner, config: Config, source: Source) -> None:
    """Lets each objective fit what it needs to. Reads the training part once for each that does; random numbers are
    drawn afterwards as without it, and every rank finds the same."""
    for objective in learner.objectives.values():
        if isinstance(objective, Fits) and objective.fitted_names:
            names = objective.fitted_names
            objective.fit(_batches(data_module(config, source, list(names)), names))


def _batches(data: DataModule, names: Sequence[str]) -> Iterator[Batch]:
    for loader in data.eval_loaders("train", rank=0, num_ranks=1).values():
        for batches in track(loader, "fitting to the data, batch"):
            yield from (batch for batch in batches if all(name in batch for name in names))
