"""The line of a run's progress."""

from __future__ import annotations

import io
import re
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import lightning.pytorch as pl
import pytest

from mmtx.training.progress import Progress, summary

METRICS = {
    "train/loss": 1.2345,
    "val/loss": 1.042,
    "val/accuracy": 0.678,
    "val/text/wer": 0.5,
    "val/text/perplexity": 9.5,
}
METRICS |= {"train/tokens_per_second": 12345.0}
WHOLE = "loss 1.234  val/loss 1.042  val/accuracy 0.678  val/text/wer 0.5  val/text/perplexity 9.5  12,345 tokens/s"


@pytest.mark.parametrize(
    ("width", "shown"),
    [(200, WHOLE), (len(WHOLE), WHOLE), (len(WHOLE) - 1, WHOLE[:-17]), (30, WHOLE[:26]), (5, WHOLE[:10])],
)
def test_what_fits_is_shown_from_the_first_on(width: int, shown: str) -> None:
    assert summary(METRICS, width) == shown


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("columns", [80, 120])
def test_it_fits_a_terminal(columns: int, monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setattr("sys.stderr", terminal)
    monkeypatch.setattr("tqdm.std._screen_shape_wrapper", lambda: lambda file: (columns, 24))
    progress, module = Progress(), SimpleNamespace(total_steps=100_000, log_every_steps=1, metrics=METRICS)
    trainer: Any = Mock(spec=pl.Trainer, is_global_zero=True, global_step=99_000)
    progress.on_train_start(trainer, module)
    for trainer.global_step in range(99_001, 99_010):
        progress.on_train_batch_end(trainer, module)
    assert progress._bar is not None
    progress._bar.refresh()
    lines = re.split(r"[\r\n]", terminal.getvalue())
    assert max(map(len, lines)) <= columns
    assert re.search(r"99009/100000 \d\d:\d\d<\d\d:\d\d, loss 1.234  val/loss 1.042", terminal.getvalue())
    assert ("val/text/wer" in terminal.getvalue()) == (columns == 120)
    progress._close()


def test_so_does_a_plain_line(capsys: pytest.CaptureFixture[str]) -> None:
    module = SimpleNamespace(total_steps=600, logged=580, metrics=METRICS)
    Progress()._print(Mock(spec=pl.Trainer, global_step=583), module)
    line = capsys.readouterr().out.rstrip("\n")
    assert line == "step 583/600  loss 1.234 (step 580)  val/loss 1.042  val/accuracy 0.678"
