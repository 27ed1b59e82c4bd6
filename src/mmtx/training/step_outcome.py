"""The half of the LightningModule that finds out whether a step counts."""

import sys
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mmtx.batch import Batch
from mmtx.data.loaders import DataModule
from mmtx.data.skipped_samples import count_skipped
from mmtx.learner import Learner
from mmtx.training.loop_place import place_loop
from mmtx.training.nonfinite import NotFinite, OpenStep, Watch
from mmtx.training.validation import ValidatedModule


class JudgedModule(ValidatedModule):
    """Leaves out steps whose loss or gradients are not finite, without a wait in each.

    The device decides it, and the host reads it when the gradients of the next step are on their way: `finish_step`.
    Until then a step is open. Whoever needs a finished one calls it: a validation, a checkpoint, a row of the log.

    Args:
        learner: model and objectives.
        data: loaders.
        seed: of what is random.
        max_skips: steps in a row that may be left out.

    Attributes:
        watch: losses, and steps that were left out.
        skipped_samples: that could not be read.
        scheduler: of the learning rate.
    """

    scheduler: torch.optim.lr_scheduler.LambdaLR

    def __init__(self, *, learner: Learner, data: DataModule, seed: int, max_skips: int) -> None:
        super().__init__(learner=learner, data=data, seed=seed)
        self.watch, self.skipped_samples = Watch(max_skips), 0
        self._open: OpenStep | None = None

    def on_validation_start(self) -> None:
        self.finish_step()

    def _judged(self, losses: Tensor, grad_norm: Tensor | None, batches: list[Batch]) -> OpenStep:
        """The numbers by which a step counts or does not, on their way to the host."""
        norm = losses.new_zeros(()) if grad_norm is None else grad_norm
        values = torch.stack([losses.sum(), norm.to(losses), count_skipped(batches)[0].to(losses)])
        return OpenStep(self.global_step + 1, self.begin_to_agree(values), losses, batches)

    def finish_step(self, together: bool = True) -> bool:
        """Waits for the numbers of the newest step, if they have not been read yet; then schedule and average follow.
        Whether the step counts.

        Args:
            together: all ranks do so, and report what is not finite together.

        Raises:
            NotFinite: loss or gradients are not finite, once too often. Everything is then of the step before.
        """
        step, self._open = self._open, None
        if step is None:
            return True
        loss, norm, skipped = self.agreement(step.host_copy)
        if step.counts:
            self._warn(self.watch.good(loss / self.trainer.world_size, step.number))
            if self.average is not None:
                self.average.update(self.learner)
            self.throughput.count(step.batches)
        else:
            self._leave_out(step, loss, norm, together)
        self.scheduler.step()
        self.skipped_samples += int(skipped)
        return step.counts

    def _leave_out(self, step: OpenStep, loss: float, norm: float, together: bool) -> None:
        folder, num_ranks = Path(self.trainer.default_root_dir) / "not_finite", self.trainer.world_size
        samples = step.keep(folder, self.global_rank)
        ids = sorted(i for of_rank in (self.gather(samples) if together else [samples]) for i in of_rank)
        found = f"loss {loss / num_ranks:.4g}, grad_norm {norm / num_ranks:.4g}; samples {ids}, saved in {folder}"
        try:
            self._warn(self.watch.bad(found, step.number))
        except NotFinite:
            place_loop(self.trainer, step.number - 1)
            raise

    def _warn(self, text: str | None) -> None:
        if text and self.trainer.is_global_zero:
            print(f"mmtx: warning: {text}", file=sys.stderr, flush=True)

    def progress(self) -> dict[str, Any]:
        """What a checkpoint keeps of this object."""
        counted = {"watch": self.watch.state_dict(), "skipped_samples": self.skipped_samples}
        ended = {"stopped": self.trainer.should_stop}
        return {"metrics": dict(self.metrics), "validated": self.validated, **counted, **ended}

    def set_progress(self, state: dict[str, Any]) -> None:
        self.metrics, self.validated = dict(state["metrics"]), state["validated"]
        self.trainer.should_stop = state.get("stopped", False)
        self.watch.load_state_dict(state["watch"])
        self.skipped_samples = state["skipped_samples"]
