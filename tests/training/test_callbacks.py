"""Lightning's own callbacks and a user's in small runs: they work as they are, or the check refuses them."""

import json
import re
import sys
from pathlib import Path

import lightning.pytorch as pl
import pytest
import torch
from lightning.pytorch import callbacks as stock
from lightning.pytorch.callbacks import Callback
from run_cli import TINY

from mmtx.config.compose import compose
from mmtx.errors import ConfigErrors
from mmtx.experiment import assemble
from mmtx.run.directory import RunDirectory
from mmtx.run.job import execute, prepare
from mmtx.training import callbacks
from mmtx.training.published_row import publish

SMALL = ["experiment=spell_digits", *TINY, "logger=[]", "callbacks=[]", "trainer.val_every_steps=2"]
STOCK = "lightning.pytorch.callbacks"
SEEN = []
"""What `Own` saw, by step."""


class Own(Callback):
    """A callback as users write them: reads metrics, logs one of its own, and ends the run."""

    def on_validation_end(self, trainer, pl_module):
        SEEN.append((trainer.global_step, {name: value.item() for name, value in trainer.callback_metrics.items()}))

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        pl_module.log("own/double", 2.0 * batch_idx)
        trainer.should_stop = trainer.should_stop or trainer.global_step == 3


class Full:
    """A logger whose disk is full."""

    def log_metrics(self, metrics, step):
        raise OSError(28, "No space left on device")


def added(name, target, **keys):
    return [f"+callbacks.{name}._target_={target}", *(f"+callbacks.{name}.{key}={v}" for key, v in keys.items())]


def train(folder, *overrides):
    """Rows of the log of a run in this process, and its final metrics."""
    experiment, run = assemble(compose([*SMALL, *overrides])), RunDirectory(folder)
    prepare(experiment.config, run)
    assert execute(experiment, run) == 0
    rows = [json.loads(line) for line in run.metrics_log.read_text().splitlines()]
    return rows, json.loads(run.metrics.read_text())


def validated(rows):
    return {row["step"]: row["val/loss"] for row in rows if "val/loss" in row}


def test_lightnings_early_stopping_stops_and_the_test_follows(tmp_path):
    """No loss falls by 100, so that two validations after the first are all there are."""
    stop = added("stop", f"{STOCK}.EarlyStopping", monitor="val/loss", patience=2, min_delta=100.0)
    rows, metrics = train(tmp_path, *stop, "trainer.max_steps=20")
    assert list(validated(rows)) == [2, 4, 6] and "test/loss" in metrics


def test_lightnings_monitors_log_into_the_record(tmp_path):
    rates = added("rates", f"{STOCK}.LearningRateMonitor", logging_interval="step")
    rows, _ = train(tmp_path, *rates, "trainer.max_steps=4", "optim.warmup_steps=3")
    first = "lr-AdamW/pg1"
    own = {row["step"]: row["train/lr"] for row in rows if "train/lr" in row}
    assert {row["step"] + 1: row[first] for row in rows if first in row} == pytest.approx(own)


def test_lightnings_device_stats_are_logged(tmp_path):
    pytest.importorskip("psutil", reason="Lightning reads a CPU by psutil")
    rows, _ = train(tmp_path, *added("stats", f"{STOCK}.DeviceStatsMonitor"), "trainer.max_steps=2")
    assert any(name.startswith("DeviceStatsMonitor") and value >= 0 for row in rows for name, value in row.items())


def test_lightnings_timer_ends_a_run(tmp_path):
    timer = added("timer", f"{STOCK}.Timer", duration="{seconds: 0}", interval="step")
    rows, metrics = train(tmp_path, *timer, "trainer.max_steps=20")
    assert max(row["step"] for row in rows) < 3 and "test/loss" in metrics


def test_a_users_callback_reads_metrics_and_ends_the_run(tmp_path):
    SEEN.clear()
    rows, _ = train(tmp_path, f"plugins=[{__name__}]", *added("own", f"{__name__}.Own"), "trainer.max_steps=20")
    assert [step for step, _ in SEEN] == list(validated(rows)) == [2, 3]
    for step, metrics in SEEN:
        assert metrics["val/loss"] == validated(rows)[step]
        assert metrics["train/loss"] == next(r["train/loss"] for r in rows if r["step"] == step and "train/loss" in r)
    assert [row["own/double"] for row in rows if "own/double" in row] == [0.0, 2.0, 4.0]


REFUSED = {
    "StochasticWeightAveraging": ({"swa_lrs": 0.1}, "optim.ema_decay"),
    "GradientAccumulationScheduler": ({"scheduling": "{0: 2}"}, "trainer.accumulate_grad_batches"),
    "ModelCheckpoint": ({}, "checkpoint.every_steps"),
    "OnExceptionCheckpoint": ({"dirpath": "."}, "checkpoint.every_steps"),
    "BackboneFinetuning": ({}, "freeze"),
    "LearningRateFinder": ({}, "mmtx tune lr"),
    "BatchSizeFinder": ({}, "mmtx tune batch_size"),
    "RichProgressBar": ({}, "callbacks=[progress]"),
}


def test_the_page_names_all_that_is_refused():
    page = (Path(__file__).parents[2] / "docs" / "tools.md").read_text()
    named = set(re.findall(r"`(\w+)`", page.partition("| refused |")[2].partition("## ")[0]))
    kinds = {getattr(stock, name, None) for name in named}
    for kind in callbacks.REFUSED:
        assert any(isinstance(each, type) and issubclass(each, kind) for each in kinds) or kind is stock.ProgressBar


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_work_is_refused_with_the_reason(name):
    keys, hint = REFUSED[name]
    with pytest.raises(ConfigErrors, match=f"1 problem(.|\n)*callbacks.x._target_={name}") as caught:
        assemble(compose([*SMALL, *added("x", f"{STOCK}.{name}", **keys)]))
    assert hint in str(caught.value)


@pytest.mark.parametrize(
    ("keys", "problem"),
    [
        ({"monitor": "val/los"}, "callbacks.x.monitor=val/los"),
        ({"monitor": "test/loss"}, "callbacks.x.monitor=test/loss"),
        ({"monitor": "val/loss", "mode": "max"}, "callbacks.x.mode=max contradicts"),
        ({"monitor": "val/loss", "mode": "upwards"}, "callbacks.x: `mode` can be"),
    ],
)
def test_a_metric_that_is_not_there_is_refused(keys, problem):
    with pytest.raises(ConfigErrors, match=f"1 problem(.|\n)*{problem}"):
        assemble(compose([*SMALL, *added("x", f"{STOCK}.EarlyStopping", **keys)]))


def test_what_is_no_callback_is_refused():
    with pytest.raises(ConfigErrors, match="1 problem(.|\n)*callbacks.x._target_=Linear is no callback"):
        assemble(compose([*SMALL, *added("x", "torch.nn.Linear", in_features=1, out_features=1)]))


def test_a_monitor_of_a_cpu_needs_psutil(monkeypatch):
    monkeypatch.setitem(sys.modules, "psutil", None)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr("mmtx.training.callbacks.find_spec", lambda name: None)
    with pytest.raises(ConfigErrors, match="needs psutil"):
        assemble(compose([*SMALL, *added("x", f"{STOCK}.DeviceStatsMonitor")]))


def test_a_logger_that_fails_is_left_out(capsys):
    trainer = pl.Trainer(logger=False, accelerator="cpu", enable_checkpointing=False)
    trainer.loggers = [Full()]
    publish(trainer, {"val/loss": 0.1})
    assert trainer.loggers == [] and trainer.callback_metrics["val/loss"].item() == 0.1
    assert capsys.readouterr().err.count("No space left on device") == 1
