"""The callback that writes ``samples/``."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import Callback

from mmtx.batch import Batch
from mmtx.environment import Playable
from mmtx.errors import check_at_least
from mmtx.learner import Learner
from mmtx.objectives.capabilities import Plots, Shows
from mmtx.objectives.shown import show_examples
from mmtx.process.stopping import track
from mmtx.training.lightning_module import MultimodalModule
from mmtx.training.published_row import leave_out
from mmtx.training.samples.attention_shares import draw_attention_shares
from mmtx.training.samples.episodes import show_episodes
from mmtx.training.samples.stock_loggers import log_files
from mmtx.training.sharding import is_sharded

NUM_FILMED = 2


class Samples(Callback):
    """Writes some predictions beside the truth, after the run and every so many validations, and a picture of all those
    of a batch where an objective plots them; of a model that acts, its episodes as well, after the test.

    Predictions are shown as `show_examples` does, unless an objective shows them itself. Loggers get all files.

    Args:
        num_samples: how many.
        every_validations: validations between samples; null: at the end only.
    """

    def __init__(self, *, num_samples: int, every_validations: int | None) -> None:
        check_at_least("num_samples", num_samples, 1)
        check_at_least("every_validations", every_validations, 1)
        self.num_samples, self.every_validations = num_samples, every_validations
        self._validations, self._written = 0, -1

    def setup(self, trainer: pl.Trainer, pl_module: Any, stage: str) -> None:
        pl_module.num_filmed = NUM_FILMED

    def state_dict(self) -> dict[str, int]:
        return {"validations": self._validations}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self._validations = state.get("validations", 0)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        self._validations += 1
        last = trainer.global_step >= pl_module.total_steps
        due = self.every_validations is not None and self._validations % self.every_validations == 0
        if due or last:
            self._write(trainer, pl_module)

    def on_train_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        ended_early = trainer.should_stop and self._written != trainer.global_step
        if ended_early or pl_module.data.source.val() is None:  # or there was no validation to follow
            self._write(trainer, pl_module)

    def on_test_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        with pl_module.cut_short():
            self._show_played(trainer, pl_module)

    def _show_played(self, trainer: pl.Trainer, module: MultimodalModule) -> None:
        for part, played in module.played.items():
            source = module.data.source.parts[part]
            if not played or not isinstance(source, Playable):
                continue
            folder, step = Path(trainer.default_root_dir) / "samples" / part, trainer.global_step
            _log(trainer, show_episodes(folder, step, source, played).values())

    def _write(self, trainer: pl.Trainer, module: MultimodalModule) -> None:
        if not trainer.is_global_zero or is_sharded(trainer):
            return
        self._written = trainer.global_step
        seen, held_out = (module.data.eval_loaders(split, rank=0, num_ranks=1) for split in ("train", "val"))
        with module.cut_short():
            for part, loader in track((seen | held_out).items(), "samples of part"):
                self._write_part(trainer, module, part, next(iter(loader))[0])

    def _write_part(self, trainer: pl.Trainer, module: MultimodalModule, part: str, batch: Batch) -> None:
        real = (batch.ids >= 0).nonzero()[:, 0] if batch.ids is not None else torch.arange(len(batch))
        batch = batch.select(real).to(module.device)
        spread = torch.linspace(0, len(real) - 1, min(self.num_samples, len(real))).round().long()
        learner = module.learner
        was_training = learner.training
        learner.eval()
        with torch.no_grad(), module.averaged(), trainer.precision_plugin.forward_context():
            self._show(trainer, learner, part, batch.select(spread))
            self._plot(trainer, learner, part, batch)
        learner.train(was_training)

    def _show(self, trainer: pl.Trainer, learner: Learner, part: str, batch: Batch) -> None:
        applying = track(learner.applying(batch), "making samples")
        examples = {name: learner.objective(name).examples(learner.model, batch) for name in applying}
        folder = Path(trainer.default_root_dir) / "samples"
        folder.mkdir(exist_ok=True)
        shares = folder / f"{_named(part, 'attention_shares')}_step{trainer.global_step:06d}.png"
        draw_attention_shares(learner.model, batch, shares)
        for name, of_objective in track(examples.items(), "drawing samples"):
            objective, stem = learner.objective(name), folder / f"{_named(part, name)}_step{trainer.global_step:06d}"
            show = objective.show if isinstance(objective, Shows) else show_examples
            if of_objective or isinstance(objective, Shows):
                _log(trainer, show(learner.model, batch, of_objective, stem))

    def _plot(self, trainer: pl.Trainer, learner: Learner, part: str, batch: Batch) -> None:
        for name in learner.applying(batch):
            objective, plot = learner.objective(name), _named(part, f"{name}_plot")
            if isinstance(objective, Plots):
                path = Path(trainer.default_root_dir) / "samples" / f"{plot}_step{trainer.global_step:06d}.png"
                objective.plot(learner.model, batch, path)
                _log(trainer, [path])


def _log(trainer: pl.Trainer, files: Iterable[Path]) -> None:
    for logger in trainer.loggers:
        if hasattr(logger, "log_samples"):
            logger.log_samples(files)
            continue
        try:
            log_files(logger, files, trainer.global_step)
        except Exception as error:  # of whatever kind its server or disk raises
            leave_out(trainer, logger, error)


def _named(part: str, name: str) -> str:
    return f"{part}_{name}" if part else name
