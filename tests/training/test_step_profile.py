"""Traces of a few steps: which, what is written of them, and that they change nothing."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import lightning.pytorch as pl
import pytest
import torch
from test_throughput import made, rows_of

from mmtx.training.step_profile import StepProfile

MODULE = SimpleNamespace(device=torch.device("cpu"))


def rank(step: int, is_main: bool = True) -> Mock:
    """The part of a trainer that is looked at."""
    return Mock(spec=pl.Trainer, global_step=step, is_global_zero=is_main)


def trace_of(run: Path) -> list[dict[str, Any]]:
    with gzip.open(run / "profile" / "trace.json.gz", "rt") as file:
        events: list[dict[str, Any]] = json.load(file)["traceEvents"]
    return events


def marks(run: Path) -> list[str]:
    """The steps of a trace, in their order."""
    steps = [event for event in trace_of(run) if event["name"].startswith("ProfilerStep")]
    return [event["name"] for event in sorted(steps, key=lambda event: event["ts"])]


def train(profile: StepProfile, steps: int, *, before: int = 0, validate_after: int | None = None) -> None:
    """Steps without a model."""
    trainer, module = rank(before), MODULE
    hooks: Any = profile
    for _ in range(steps):
        hooks.on_train_batch_start(trainer, module)
        torch.ones(3) @ torch.ones(3)
        trainer.global_step += 1
        hooks.on_train_batch_end(trainer, module)
        if trainer.global_step == validate_after:
            hooks.on_validation_start(trainer, module)
    hooks.on_train_end(trainer, module)


def test_three_steps_are_traced_and_all_are_as_ever(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["trainer.max_steps=9", "trainer.val_every_steps=9", "log_every_steps=1"]
    traced = rows_of(made(*words, "trainer.profile=true"), tmp_path / "traced")
    assert [path.name for path in sorted((tmp_path / "traced" / "profile").iterdir())] == ["table.txt", "trace.json.gz"]
    assert len(marks(tmp_path / "traced")) == 3
    assert {"aten::addmm", "aten::mm"} <= {event["name"] for event in trace_of(tmp_path / "traced")}
    table = (tmp_path / "traced" / "profile" / "table.txt").read_text()
    assert table.startswith("steps 6 to 8\n") and "aten::addmm" in table
    assert "by time of the host\n" in table and "by memory\n" in table and "of the device" not in table
    folder = tmp_path / "traced" / "profile"
    assert f"profile of steps 6 to 8: {folder}/table.txt  {folder}/trace.json.gz\n" in capsys.readouterr().out
    plain = rows_of(made(*words), tmp_path / "plain")
    assert not (tmp_path / "plain" / "profile").exists()
    assert [row["train/loss"] for row in traced] == [row["train/loss"] for row in plain]


def test_a_run_keeps_its_profile(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Also where it goes on; one that goes on and has none gets one."""
    train(StepProfile(tmp_path), 12, before=100)
    assert "profile of steps 106 to 108" in capsys.readouterr().out
    train(StepProfile(tmp_path), 12, before=112)
    assert capsys.readouterr().out == ""
    assert (tmp_path / "profile" / "table.txt").read_text().startswith("steps 106 to 108\n")


def test_an_evaluation_ends_it(tmp_path: Path) -> None:
    train(StepProfile(tmp_path), 12, validate_after=6)
    assert (tmp_path / "profile" / "table.txt").read_text().startswith("step 6\n")
    assert len(marks(tmp_path)) == 2, "the second has begun"


def test_too_few_steps_left_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    train(StepProfile(tmp_path), 5)
    assert capsys.readouterr().out == "no profile: only 5 steps were left, and the first 5 warm up\n"
    train(StepProfile(tmp_path), 7)
    assert (tmp_path / "profile" / "table.txt").read_text().startswith("steps 6 to 7\n")


def test_a_run_that_fails_leaves_the_tracer_to_the_next(tmp_path: Path) -> None:
    profile: Any = StepProfile(tmp_path / "failed")
    trainer, module = rank(0), MODULE
    for _ in range(5):
        profile.on_train_batch_end(trainer, module)
    profile.on_train_batch_start(trainer, module)
    profile.on_exception(trainer, module, KeyboardInterrupt())
    assert not (tmp_path / "failed").exists()
    (tmp_path / "next").mkdir()
    train(StepProfile(tmp_path / "next"), 8)
    assert len(marks(tmp_path / "next")) == 3


def test_other_ranks_trace_nothing(tmp_path: Path) -> None:
    profile: Any = StepProfile(tmp_path)
    trainer, module = rank(5, is_main=False), MODULE
    for _ in range(9):
        profile.on_train_batch_start(trainer, module)
        profile.on_train_batch_end(trainer, module)
    profile.on_train_end(trainer, module)
    assert not list(tmp_path.iterdir())
