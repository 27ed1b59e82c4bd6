"""The trained model that every function of this room generates with."""

from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass

import torch

from mmtx.batch import Batch
from mmtx.data.base import Source
from mmtx.errors import check_within
from mmtx.learner import Learner
from mmtx.run.checkpoint_content import read_checkpoint
from mmtx.run.directory import newest_checkpoint
from mmtx.run.fitted_source import source_for
from mmtx.run.named_plugins import named_plugins

LARGEST_SEED = 2**64 - 1  # torch's own limit


@dataclass(frozen=True)
class Trained:
    """A trained model, and the options that hold for whatever it generates.

    Args:
        path: run directory or checkpoint.
        learner: its model with its objectives, in eval mode.
        seed: the same seed gives the same text on the same device, or episodes; it is that of the first episode
        cache: keep keys and values of earlier tokens; the result is the same without, only slower
        plugins: packages whose classes the run may name, besides mmtx and those that were named when it began
    """

    path: str
    learner: Learner
    _: KW_ONLY
    seed: int = 0
    cache: bool = True
    plugins: Sequence[str] = ()

    def __post_init__(self) -> None:
        check_within("seed", self.seed, 0, LARGEST_SEED)

    def sent(self, batch: Batch) -> Batch:
        """A batch, on the device that the model is on."""
        return batch.to(self._place, non_blocking=True)

    def generator(self) -> torch.Generator:
        """Seeded, on the device that the model is on: a GPU draws other numbers than a CPU."""
        return torch.Generator(self._place).manual_seed(self.seed)

    def source(self) -> Source:
        """The data of the run, with what it has learned from them."""
        checkpoint = read_checkpoint(newest_checkpoint(self.path))
        plugins = list(self.plugins or named_plugins(self.path))
        return source_for(checkpoint, {**checkpoint["mmtx"]["config"], "plugins": plugins})

    @property
    def _place(self) -> torch.device:
        return next(self.learner.parameters()).device
