"""A run whose objective keeps a teacher goes on, bit for bit, where it was stopped: checkpoints have it."""

import pytest
import torch
from test_resume import assert_same_run, final_state, play

WORDS = [
    *("train", "experiment=jepa_digits", "run_dir=whole", "backbone.dim=24", "backbone.num_layers=1"),
    *("backbone.num_heads=2", "backbone.dropout=0.2", "objective.joint_embedding.predictor.dim=16", "logger=[]"),
    *("objective.joint_embedding.decay=0.5", "callbacks=[]", "log_every_steps=1", "optim.warmup_steps=1"),
    *("optim.ema_decay=0.9", "loader.batch_size=8", "trainer.max_steps=6", "trainer.val_every_steps=3"),
    *("trainer.accumulate_grad_batches=2", "checkpoint.every_steps=2", "data.num_train=64", "data.num_val=24"),
]


@pytest.mark.slow
def test_stopped_and_resumed_is_the_same_run(tmp_path):
    done = play(
        [
            {"cwd": str(tmp_path), "words": WORDS},
            {"cwd": str(tmp_path), "words": [*WORDS, "run_dir=run"], "at": "step.before_update", "nth": 5},
            {"cwd": str(tmp_path), "words": ["resume", "run"]},
        ]
    )
    assert [each["code"] for each in done] == [0, -9, 0], [each["output"] for each in done]
    assert_same_run(tmp_path / "run", tmp_path / "whole")
    state = final_state(tmp_path / "run")
    prefix = "/state_dict/learner.objectives.joint_embedding.teacher."
    teacher = {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}
    model = {name: state[f"/state_dict/learner.model.{name}"] for name in teacher}
    assert teacher, "the teacher is in the checkpoint"
    assert any(not torch.equal(value, model[name]) for name, value in teacher.items()), "and is not the model"
