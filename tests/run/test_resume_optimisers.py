"""Runs of every optimiser, and of stages, go on, bit for bit, where they were stopped."""

import pytest
from test_resume import WORDS, assert_same_run, play


@pytest.mark.parametrize(
    "optim", ["muon", *(pytest.param(name, marks=pytest.mark.slow) for name in ("schedule_free", "stages"))]
)
def test_stopped_and_resumed_is_the_same_run(optim, tmp_path):
    words = [word for word in WORDS if not word.startswith("optim.ema_decay")]
    words += ["optim.stages=[{steps: 7, train: [text]}]"] if optim == "stages" else [f"optim={optim}"]
    words += ["optim.ema_decay=0.9"] if optim == "muon" else []
    done = play(
        [
            {"cwd": str(tmp_path), "words": [*words, "run_dir=whole"]},
            {"cwd": str(tmp_path), "words": [*words, "run_dir=run"], "at": "step.before_update", "nth": 8},
            {"cwd": str(tmp_path), "words": ["resume", "run"]},
        ]
    )
    assert [each["code"] for each in done] == [0, -9, 0], [each["output"] for each in done]
    assert_same_run(tmp_path / "run", tmp_path / "whole")
