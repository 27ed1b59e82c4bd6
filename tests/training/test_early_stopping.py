"""Runs that end when a metric no longer improves: at the same step, stopped and resumed, and on two ranks."""

import json

import pytest
from run_cli import TINY
from test_resume import TWO_RANKS, lines, play

from mmtx.config.compose import compose
from mmtx.errors import ConfigErrors, InvalidValue
from mmtx.experiment import assemble
from mmtx.training import EarlyStopping

STOPPING = ["callbacks=[early_stopping]", "callbacks.early_stopping.patience=2"]
WORDS = [
    *("train", "experiment=spell_digits", *TINY[:3], "log_every_steps=1", "logger=[]", *STOPPING),
    *("loader.batch_size=8", "trainer.max_steps=30", "trainer.val_every_steps=2", "checkpoint.every_steps=3"),
    *("data.num_val=24", "loader.eval_batch_size=12", "callbacks.early_stopping.min_delta=100.0"),
]
"""No loss falls by 100: the first validation, at step 2, is the best, and the third is the last."""


@pytest.mark.parametrize(
    ("mode", "min_delta", "values", "waited"),
    [
        ("min", 0.0, [3.0, 2.0, 2.0, 1.0, 1.5, 1.0], [0, 0, 1, 0, 1, 2]),
        ("max", 0.0, [3.0, 2.0, 3.0, 4.0, 4.0, 5.0], [0, 1, 2, 0, 1, 0]),
        ("min", 0.5, [3.0, 2.6, 2.5, 2.4, float("nan"), 1.8], [0, 1, 2, 0, 1, 0]),
        ("min", 0.0, [float("nan"), float("inf"), 1.0], [1, 2, 0]),
    ],
)
def test_what_counts_as_improvement(mode, min_delta, values, waited):
    """Counted by hand; a copy that goes on from the state counts the same."""
    stopping = EarlyStopping(monitor="val/x", patience=9, min_delta=min_delta, mode=mode)
    counted = []
    for value in values:
        stopping._look_at(value)
        counted.append(stopping.state_dict()["waited"])
        copy = EarlyStopping(monitor="val/x", patience=9, min_delta=min_delta, mode=mode)
        copy.load_state_dict(stopping.state_dict())
        stopping = copy
    assert counted == waited


@pytest.mark.parametrize(("key", "value"), [("patience", 0), ("min_delta", -1.0), ("min_delta", float("nan"))])
def test_values_that_cannot_be(key, value):
    with pytest.raises(InvalidValue, match=key):
        EarlyStopping(**{"monitor": "val/loss", "patience": 1, "min_delta": 0.0, "mode": None, key: value})


@pytest.mark.parametrize(
    ("override", "problem"),
    [("monitor=val/los", "monitor=val/los is declared by nothing"), ("mode=max", "mode=max contradicts")],
)
def test_a_metric_that_is_not_there_is_refused(override, problem):
    with pytest.raises(ConfigErrors, match=f"1 problem(.|\n)*callbacks.early_stopping.{problem}"):
        assemble(compose(["experiment=spell_digits", *TINY, *STOPPING, f"callbacks.early_stopping.{override}"]))


STOPS = {
    "in a step behind a validation": {"at": "step.after_backward", "nth": 6},
    "in the last validation": {"at": "val.step", "nth": 5},
    "in the test": {"at": "test.step", "nth": 1},
}


@pytest.mark.slow
def test_it_stops_at_the_same_step_when_it_was_stopped_before(tmp_path):
    cases = [{"words": [*WORDS, "callbacks=[samples,early_stopping]", "run_dir=whole"]}]
    for name, point in STOPS.items():
        cases += [{"words": [*WORDS, f"run_dir={name}"], **point}, {"words": ["resume", name]}]
    whole, *others = play([{"cwd": str(tmp_path), **case} for case in cases])
    assert "val/loss has not improved on" in whole["output"] and "at step 6" in whole["output"], whole["output"]
    *rows, final = lines(tmp_path / "whole")
    assert [row["step"] for row in rows if "val/loss" in row] == [2, 4, 6]
    assert max(row["step"] for row in rows) == 6 and "test/loss" in final
    assert list((tmp_path / "whole" / "samples").glob("*step000006*"))
    for index, name in enumerate(STOPS):
        assert others[2 * index]["code"] == -9 and others[2 * index + 1]["code"] == 0, others[2 * index + 1]["output"]
        assert lines(tmp_path / name) == lines(tmp_path / "whole"), name


def test_two_ranks_stop_together(tmp_path):
    (done,) = play([{"cwd": str(tmp_path), "words": [*WORDS, *TWO_RANKS, "run_dir=run"]}])
    assert done["code"] == 0, done["output"]
    *rows, final = lines(tmp_path / "run")
    assert [row["step"] for row in rows if "val/loss" in row] == [2, 4, 6] and "test/loss" in final
    assert json.loads((tmp_path / "run" / "status.json").read_text())["state"] == "finished"


@pytest.mark.slow
def test_two_ranks_stop_together_by_lightnings_own(tmp_path):
    """Whose decision is the sum of all ranks', each of which reads the same metrics."""
    stock = {"_target_": "lightning.pytorch.callbacks.EarlyStopping", "monitor": "val/loss", "patience": "2"}
    words = [f"+callbacks.stop.{key}={value}" for key, value in {**stock, "min_delta": "100.0"}.items()]
    plain = [word for word in WORDS if "early_stopping" not in word]
    rates = ["+callbacks.rates._target_=lightning.pytorch.callbacks.LearningRateMonitor", "callbacks=[]"]
    (done,) = play([{"cwd": str(tmp_path), "words": [*plain, *rates, *words, *TWO_RANKS, "run_dir=run"]}])
    assert done["code"] == 0, done["output"]
    *rows, _ = lines(tmp_path / "run")
    assert [row["step"] for row in rows if "val/loss" in row] == [2, 4, 6]
