"""What is learnt from preferences and from roll-outs is the same run when killed and resumed, packed, and on two ranks;
and a part of a mixture."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from run_cli import TINY
from test_resume import assert_same_run, play

from mmtx.config.compose import compose
from mmtx.errors import ConfigErrors
from mmtx.experiment import assemble

PAIRS = ["data=name_pairs", "data.num_val=16", "modality=[text]"]
ROOMS = ["data=key_to_door", "data.num_episodes=60", "data.size=3", "data.room_steps=[2,1,2]", "data.context=3"]
WORDS = [
    *(*TINY[:3], "backbone.dropout=0.0"),
    *("logger=[]", "callbacks=[]", "loader.batch_size=8", "optim.warmup_steps=2", "log_every_steps=1"),
    *("trainer.max_steps=12", "trainer.max_epochs=null", "trainer.val_every_steps=6", "checkpoint.every_steps=4"),
]
PAYS = "objective/reward@objective.policy_gradient.rewards=[occurrences]"
TWICE, ONCE = ["loader.batch_size=4", "trainer.accumulate_grad_batches=2"], "trainer.accumulate_grad_batches=1"
"""Roll-outs are drawn for each micro-batch, so half of a step is one of its two."""
OBJECTIVES = {
    "preference": [*PAIRS, "objective=[preference]", *TWICE],
    "reward_model": [*PAIRS, "objective=[reward_model]", *TWICE],
    "policy_gradient": [*PAIRS, "objective=[policy_gradient]", PAYS, "objective.policy_gradient.beta=0.1", *TWICE],
    "action_by_return": [
        *(*ROOMS, "modality=[state,action]", "objective=[action_by_return]", *TWICE),
        *("objective.action_by_return.val_episodes=4", "objective.action_by_return.test_episodes=4"),
    ],
}


def logged(run: Path, metric: str) -> list[float]:
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [row[metric] for row in rows if metric in row]


@pytest.mark.slow
@pytest.mark.parametrize("objective", OBJECTIVES)
def test_it_is_the_same_run_everywhere(objective: str, tmp_path: Path) -> None:
    words = ["train", *WORDS, *OBJECTIVES[objective]]
    elsewhere = {
        "packed": ["loader.packing=true"],
        "ranks": ["trainer.devices=2", "trainer.accelerator=cpu", ONCE],
    }
    cases = [
        {"words": [*words, "run_dir=whole"]},
        {"words": [*words, "run_dir=killed"], "at": "step.before_update", "nth": 10},
        {"words": ["resume", "killed"]},
        *({"words": [*words, *more, f"run_dir={run}"]} for run, more in elsewhere.items()),
    ]
    done = play([{"cwd": str(tmp_path), **case} for case in cases])
    assert [each["code"] for each in done] == [0, -9, 0, 0, 0], [each["output"] for each in done]
    assert len(logged(tmp_path / "whole", "train/loss")) == 12
    assert_same_run(tmp_path / "killed", tmp_path / "whole")
    for run in elsewhere:
        for metric in ("train/loss", "val/loss"):
            expected = pytest.approx(logged(tmp_path / "whole", metric), rel=1e-4, abs=1e-5)
            assert logged(tmp_path / run, metric) == expected, run


@pytest.mark.slow
def test_each_is_learnt_from_the_part_of_a_mixture_that_has_it(tmp_path: Path) -> None:
    parts = ["data=mixture", "+data@data.parts.names=name_pairs", "+data@data.parts.patients=diabetes"]
    sizes = ["data.parts.names.num_train=40", "data.parts.names.num_val=16"]  # a scale is fitted to all that is there
    words = [*parts, *sizes, *WORDS, "modality=[text,measurements]", PAYS]
    words += ["objective=[preference,policy_gradient,regression]", "run_dir=mixed"]
    (done,) = play([{"cwd": str(tmp_path), "words": ["train", *words]}])
    assert done["code"] == 0, done["output"]
    for metric in ("names/preference/loss", "names/policy_gradient/kl", "patients/loss"):
        assert len(logged(tmp_path / "mixed", f"val/{metric}")) == 2, metric


@pytest.mark.parametrize("objective", ["policy_gradient", "action_by_return"])
def test_roll_outs_need_whole_weights(objective: str) -> None:
    words = [*WORDS, *OBJECTIVES[objective], "trainer.devices=2", "trainer.accelerator=cpu", "trainer.strategy=fsdp2"]
    with pytest.raises(ConfigErrors, match=f"{objective} runs the model for roll-outs, .* so use ddp"):
        assemble(compose(words))
