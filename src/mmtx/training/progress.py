"""One line with the progress of the run."""

import sys
import time
from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.callbacks import Callback
from tqdm import tqdm

SHOWN = ("accuracy", "exact_match", "perplexity", "wer", "return", "success_rate", "r2", "mAP")
SECONDS_BETWEEN_LINES = 10.0


class Progress(Callback):
    """A bar with loss, metric and speed; where the output is not a terminal, a plain line every few seconds and after
    every validation."""

    def __init__(self) -> None:
        self._bar: tqdm | None = None
        self._last_line = 0.0

    def on_train_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        if trainer.is_global_zero and sys.stderr.isatty():
            self._bar = tqdm(total=pl_module.total_steps, initial=trainer.global_step, unit="step", dynamic_ncols=True)
        self._last_line = time.monotonic()

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: Any, *_: Any) -> None:
        if not trainer.is_global_zero:
            return
        if self._bar is not None:
            self._bar.update(1)
            if trainer.global_step % pl_module.log_every_steps == 0:
                self._bar.set_postfix_str(summary(pl_module.metrics), refresh=False)
        elif time.monotonic() - self._last_line > SECONDS_BETWEEN_LINES:
            self._print(trainer, pl_module)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        if trainer.is_global_zero and self._bar is None and trainer.state.fn == "fit":
            self._print(trainer, pl_module)

    def on_train_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        self._close()

    def on_exception(self, trainer: pl.Trainer, pl_module: Any, exception: BaseException) -> None:
        self._close()

    def _print(self, trainer: pl.Trainer, pl_module: Any) -> None:
        self._last_line = time.monotonic()
        at = pl_module.logged if pl_module.logged != trainer.global_step else None
        print(f"step {trainer.global_step}/{pl_module.total_steps}  {summary(pl_module.metrics, at)}", flush=True)

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None


def summary(metrics: dict[str, float], at: int | None = None) -> str:
    """Losses, the validation's metrics, and speed, in one line; `at` is the step of the training loss if another."""
    of = "" if at is None else f" (step {at})"
    parts = [f"loss {metrics['train/loss']:.4g}{of}"] if "train/loss" in metrics else []
    for name, value in metrics.items():
        stage, *_, metric = name.split("/")
        if stage == "val" and (name == "val/loss" or metric in SHOWN):
            parts.append(f"{name} {value:.4g}")
    if "train/tokens_per_second" in metrics:
        parts.append(f"{metrics['train/tokens_per_second']:,.0f} tokens/s")
    return "  ".join(parts)
