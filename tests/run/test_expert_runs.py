"""Runs with experts: stopped and resumed, on two ranks, by shards, and begun with a dense model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from test_resume import SHARDED, TWO_RANKS, WORDS, assert_same_run, final_state, learnt, play

from mmtx.config.compose import compose
from mmtx.experiment import assemble
from mmtx.learner import Learner
from mmtx.run.checkpoint_content import load
from mmtx.run.fitted_source import fitted_state_for
from mmtx.run.init_from import Report, initialise_from

EXPERTS = [
    *(*WORDS, "backbone/mlp=experts_swiglu", "backbone.mlp.num_experts=4", "objective=[classify,next_token,experts]"),
    *("backbone.mlp.router.bias_rate=0.01", "optim=muon", "optim.ema_decay=0.9"),
]
"""Balanced by biases and by losses; an average; Muon for the matrices of experts."""
RANKS = [word for word in EXPERTS if word != "optim=muon"]
"""Muon needs whole matrices."""


def played(folder: Path, *cases: dict[str, Any], codes: list[int]) -> None:
    done = play([{"cwd": str(folder), **case} for case in cases])
    assert [each["code"] for each in done] == codes, [each["output"] for each in done]


def biases(run: Path) -> dict[str, torch.Tensor]:
    return {name: value for name, value in final_state(run).items() if name.endswith("router.bias")}


@pytest.mark.slow
def test_stopped_and_resumed_is_the_same_run(tmp_path: Path) -> None:
    whole = {"words": [*EXPERTS, "run_dir=whole"]}
    stopped = {"words": [*EXPERTS, "run_dir=run"], "at": "step.before_update", "nth": 8}
    played(tmp_path, whole, stopped, {"words": ["resume", "run"]}, codes=[0, -9, 0])
    assert_same_run(tmp_path / "run", tmp_path / "whole")
    state = biases(tmp_path / "run")
    assert len(state) == 2 and all(value.any() for value in state.values()), "of the weights, and of their average"


@pytest.mark.slow
def test_two_ranks_are_one(tmp_path: Path) -> None:
    """Without dropout, which differs by rank: the same losses, loads and biases, whatever holds the weights."""
    alone = [*RANKS, "backbone.dropout=0", "trainer.accelerator=cpu"]
    shards = [*RANKS, *SHARDED, "loader.packing=true"]
    cases = [
        {"words": [*alone, "run_dir=one"]},
        {"words": [*alone, *TWO_RANKS, "run_dir=ddp"]},
        {"words": [*shards, "run_dir=fsdp2"]},
        {"words": [*shards, "run_dir=run"], "at": "step.after_backward", "nth": 8},
        {"words": ["resume", "run"]},
    ]
    played(tmp_path, *cases, codes=[0, 0, 0, 1, 0])
    assert_same_run(tmp_path / "run", tmp_path / "fsdp2")
    for name in ("ddp", "fsdp2"):
        for row, expected in zip(learnt(tmp_path / name), learnt(tmp_path / "one"), strict=True):
            assert row == pytest.approx(expected, rel=1e-3, abs=1e-4), name
        torch.testing.assert_close(biases(tmp_path / name), biases(tmp_path / "one"))


def begun_with(place: Path, *words: str) -> tuple[Learner, Report]:
    config = compose([*WORDS[1:], "backbone.dropout=0", f"init_from={place}", *words])
    learner = assemble(config, fitted_state_for(config)).learner
    return learner, initialise_from(learner, str(place), [], config)


@pytest.mark.slow
def test_a_dense_model_is_upcycled(tmp_path: Path) -> None:
    """Each expert begins as its feed-forward, so that outputs stay as long as weights of experts sum to 1."""
    few = ["trainer.max_steps=2", "trainer.val_every_steps=2"]
    played(tmp_path, {"words": [*WORDS, *few, "run_dir=dense"]}, codes=[0])
    dense = load(tmp_path / "dense").eval()
    learner, report = begun_with(tmp_path / "dense", "backbone/mlp=experts", "backbone.mlp.expansion=4.0")
    half = "model.backbone.blocks.0.mlp"
    assert report.upcycled == [f"{half}.{part}.{key}" for part in ("up", "down") for key in ("weight", "bias")]
    assert report.new == [f"{half}.router.weight"] and not report.left
    assert f"upcycled: {half}.up.weight" in str(report)
    batch = next(iter(assemble(compose(WORDS[1:])).data.eval_loaders("val", rank=0, num_ranks=1)[""]))[0]
    torch.testing.assert_close(learner.model.eval()(batch).hidden, dense.model(batch).hidden)
    _, narrow = begun_with(tmp_path / "dense", "backbone/mlp=experts")
    assert {f"{half}.up.weight", f"{half}.down.weight"} <= {*narrow.new}, "experts of another width"
