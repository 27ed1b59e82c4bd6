"""Where a loaded model computes, and in which precision."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from learners import batch_of_samples, made_learner

from mmtx.errors import InvalidValue
from mmtx.learner import Learner
from mmtx.run.computing import computing
from mmtx.training import devices

HALF = [("bf16-mixed", torch.float32), ("bf16-true", torch.bfloat16)]


def scores_of(learner: Learner) -> Any:
    objective: Any = learner.objective("next_token")
    batch = batch_of_samples(0, 1, 2)
    with torch.inference_mode():
        return objective.head.logits(learner.model, learner.model(batch).tokens("text"))


@pytest.mark.parametrize(("precision", "weights"), HALF)
def test_half_precision_is_close_and_generates(precision: Any, weights: torch.dtype) -> None:
    """bfloat16 has 8 bits: scores are right to about a hundredth of the largest."""
    learner = made_learner("next_token").eval()
    exact = scores_of(learner)
    with computing(learner, precision=precision, device="cpu"):
        near = scores_of(learner)
        objective: Any = learner.objective("next_token")
        text = objective.generate(learner.model, batch_of_samples(0), torch.Generator(), max_new_tokens=5)
    assert near.dtype == torch.bfloat16 and isinstance(text, str)
    assert {parameter.dtype for parameter in learner.parameters()} == {weights}
    assert 0 < (near - exact).abs().max() < 0.03 * exact.abs().max()


def test_by_itself_a_cpu_computes_in_float32_and_a_gpu_as_the_run_did(monkeypatch: pytest.MonkeyPatch) -> None:
    learner = made_learner("next_token").eval()
    learner.config = {"trainer": {"precision": "bf16-mixed"}}
    exact = scores_of(learner)
    with computing(learner, device="cpu"):
        assert scores_of(learner).equal(exact)
    chosen: list[tuple[str, str]] = []

    def noted(precision: str, device: str) -> Any:
        chosen.append((precision, device))
        raise StopIteration

    monkeypatch.setattr("mmtx.run.computing.precision_plugin", noted)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(RuntimeError, match="StopIteration"), computing(learner):
        pass
    assert chosen == [("bf16-mixed", "cuda")]


@pytest.mark.parametrize("device", ["cuda", "gpu"])
def test_a_gpu_that_is_not_there(device: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    with pytest.raises(InvalidValue, match=f"^device={device} finds no GPU; nearest: cpu$"):
        devices.chosen_device(device)
    assert devices.chosen_device("cpu") == "cpu"


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed", "bf16-true"])
def test_a_gpu_writes_the_same_with_the_same_seed(precision: Any) -> None:
    learner = made_learner("next_token").eval()
    objective: Any = learner.objective("next_token")
    with computing(learner, precision=precision):
        batch = batch_of_samples(0).to("cuda")
        written = [
            objective.generate(learner.model, batch, torch.Generator("cuda").manual_seed(1), max_new_tokens=9)
            for _ in range(2)
        ]
    assert written[0] == written[1]
