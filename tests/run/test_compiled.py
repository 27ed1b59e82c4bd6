"""A run that is compiled is the eager one: stopped, resumed the other way and back, and on two ranks."""

import pytest
from test_resume import WORDS, assert_same_run, lines, play

TWO_RANKS = ["trainer.devices=2", "trainer.accelerator=cpu", "loader.batch_size=4", "trainer.max_steps=4"]


@pytest.mark.slow
def test_a_run_goes_on_eagerly_and_back(tmp_path):
    """Bit for bit, as `kills` has the operations of a graph computed one by one."""
    cases = [
        {"words": [*WORDS, "run_dir=whole"]},
        {"words": [*WORDS, "backbone.compile=true", "run_dir=run"], "at": "step.before_update", "nth": 5},
        {"words": ["resume", "run", "backbone.compile=false"], "at": "step.before_update", "nth": 5},
        {"words": ["resume", "run", "backbone.compile=true"]},
    ]
    done = play([{"cwd": str(tmp_path), **case} for case in cases])
    assert [each["code"] for each in done] == [0, -9, -9, 0], [each["output"] for each in done]
    assert_same_run(tmp_path / "run", tmp_path / "whole")


@pytest.mark.slow
def test_two_ranks_compile_blocks(tmp_path):
    """The gradients of each are exchanged as without: the same losses."""
    runs = {f"{strategy}_{key}": (strategy, key) for strategy in ("ddp", "fsdp2") for key in ("true", "false")}
    ways = {"ddp": [], "fsdp2": ["optim.ema_decay=null"]}
    cases = [
        {
            "words": [
                *WORDS,
                *TWO_RANKS,
                f"trainer.strategy={way}",
                *ways[way],
                f"backbone.compile={key}",
                f"run_dir={run}",
            ]
        }
        for run, (way, key) in runs.items()
    ]
    done = play([{"cwd": str(tmp_path), **case} for case in cases])
    assert [each["code"] for each in done] == [0] * 4, [each["output"] for each in done]
    for way in ways:
        compiled, eager = (lines(tmp_path / f"{way}_{key}") for key in ("true", "false"))
        assert len(compiled) == len(eager)
        for one, other in zip(compiled, eager, strict=True):
            assert one == pytest.approx(other, rel=1e-4, abs=1e-6)
