"""One line with the progress of the run."""

import shutil
import sys
import time
from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.callbacks import Callback
from tqdm import tqdm

SHOWN = ("accuracy", "exact_match", "perplexity", "wer", "return", "success_rate")
SECONDS_BETWEEN_LINES = 10.0
WIDTH = 80
"""Of a plain line, and of a bar where the terminal does not tell its width."""
BAR = "{n_fmt}/{total_fmt} {elapsed}<{remaining}{postfix}"


class Progress(Callback):
    """A line with loss, metric and speed, as much as fits; where the output is no terminal, a plain line every few
    seconds and after every validation."""

    def __init__(self) -> None:
        self._bar: tqdm | None = None
        self._last_line = 0.0

    def on_train_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        if trainer.is_global_zero and sys.stderr.isatty():
            counted = {"total": pl_module.total_steps, "initial": trainer.global_step}
            self._bar = tqdm(**counted, unit="step", bar_format=BAR, dynamic_ncols=True)
        self._last_line = time.monotonic()

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: Any, *_: Any) -> None:
        if not trainer.is_global_zero:
            return
        if self._bar is not None:
            self._bar.update(1)
            if trainer.global_step % pl_module.log_every_steps == 0:
                width = shutil.get_terminal_size((WIDTH, 24)).columns - _width_without_postfix(self._bar)
                self._bar.set_postfix_str(summary(pl_module.metrics, width), refresh=False)
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
        step = f"step {trainer.global_step}/{pl_module.total_steps}  "
        print(f"{step}{summary(pl_module.metrics, WIDTH - len(step), at)}", flush=True)

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None


def _width_without_postfix(bar: tqdm) -> int:
    """Columns that step and times take, and what tqdm puts before the rest."""
    counted = {key: value for key, value in bar.format_dict.items() if key not in ("postfix", "ncols")}
    return len(tqdm.format_meter(**counted)) + len(", ")


def summary(metrics: dict[str, float], width: int, at: int | None = None) -> str:
    """Losses, the validation's metrics, and speed, in one line: those of them that fit the width, from the first on.

    Args:
        metrics: the newest value of each.
        width: in columns.
        at: the step of the training loss, if it is another.
    """
    of = "" if at is None else f" (step {at})"
    parts = [f"loss {metrics['train/loss']:.4g}{of}"] if "train/loss" in metrics else []
    for name, value in metrics.items():
        stage, *_, metric = name.split("/")
        if stage == "val" and (name == "val/loss" or metric in SHOWN):
            parts.append(f"{name} {value:.4g}")
    if "train/tokens_per_second" in metrics:
        parts.append(f"{metrics['train/tokens_per_second']:,.0f} tokens/s")
    if "train/mfu" in metrics:
        parts.append(f"{metrics['train/mfu']:.0%} mfu")
    line = parts[0] if parts else ""
    for part in parts[1:]:
        if len(line) + 2 + len(part) > width:
            break
        line = f"{line}  {part}"
    return line
