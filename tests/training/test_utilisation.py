"""The share of the peak that a run uses, and its memory."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from test_model_flops import LENGTH, ROWS, TEXTS, counted, of_texts
from test_throughput import made, rows_of

from mmtx.training.progress import summary
from mmtx.training.utilisation import Utilisation, measured_peak

CPU, GPU = torch.device("cpu"), torch.device("cuda")
SPEED = {"train/tokens/text": 2.0 * ROWS * LENGTH, "train/tokens_per_second": 6.0 * ROWS * LENGTH}
"""Of two ranks that take three steps in a second."""


def test_utilisation_is_needed_operations_over_possible_ones() -> None:
    learner, tokens, predictions = of_texts(), [ROWS * LENGTH], ROWS * (LENGTH - 1)
    used = Utilisation(learner, peak_tflops=0.5)
    used.start(CPU, torch.float32)
    with used.watching(torch.tensor([float(predictions)])):
        learner(TEXTS)["next_token"].loss_sum.backward()
    metrics = used.metrics(SPEED, tokens, lambda values: 2 * values, lambda value: [value, value])
    of_a_step = counted(of_texts(), TEXTS, tokens, predictions)[0]
    assert metrics == {"train/mfu": pytest.approx(3 * of_a_step / 0.5e12)}


def test_without_a_peak_a_cpu_has_none() -> None:
    used = Utilisation(of_texts(), peak_tflops=None)
    used.start(CPU, torch.float32)
    with used.watching(torch.ones(1)):
        pass
    assert used.metrics(SPEED, [1], lambda values: values, lambda value: [value]) == {}


def test_memory_is_the_peak_since_the_last_row_where_it_is_highest(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a GPU that is made up, whose peak is measured."""
    resets: list[torch.device] = []
    monkeypatch.setattr("torch.cuda.max_memory_allocated", lambda device: 3 * 2**30)
    monkeypatch.setattr("torch.cuda.reset_peak_memory_stats", resets.append)
    monkeypatch.setattr("mmtx.training.utilisation.measured_peak", lambda device, dtype: 1e12)
    used = Utilisation(of_texts(), peak_tflops=None)
    used.start(GPU, torch.bfloat16)
    with used.watching(torch.ones(1)):
        pass
    metrics = used.metrics(SPEED, [1], lambda values: values, lambda value: [value, value + 1.5])
    assert metrics["train/memory_gib"] == 4.5 and metrics["train/mfu"] > 0
    assert resets == [GPU, GPU]


def test_a_measured_peak_is_a_speed_and_leaves_generators_alone() -> None:
    state = torch.get_rng_state()
    assert 0 < measured_peak(CPU, torch.float32, size=64, times=2) < math.inf
    assert torch.get_rng_state().equal(state)


def test_rows_have_it_padded_and_packed(tmp_path: Path) -> None:
    """As many operations per token, of a step of two micro-batches."""
    found = []
    for packing in ("false", "true"):
        words = ["trainer.max_steps=1", "trainer.accumulate_grad_batches=2", f"loader.packing={packing}"]
        (row,) = rows_of(made(*words, "trainer.peak_tflops=1"), tmp_path / packing)
        assert 0 < row["train/data_wait"] < 1 and "train/memory_gib" not in row
        found.append(row["train/mfu"] / row["train/tokens_per_second"])
    assert found[0] > 0 and found[1] == pytest.approx(found[0])


def test_the_line_of_progress_has_it_where_it_fits() -> None:
    metrics = {"train/loss": 1.0, "train/mfu": 0.384}
    assert summary(metrics, 15) == "loss 1  38% mfu"
    assert summary(metrics, 14) == summary({"train/loss": 1.0}, 14) == "loss 1"
