"""A request to stop at any moment of a run: obeyed where it is, and recorded. SLURM is then requested to start the job
again, by the id that it knows it by."""

import json

import pytest
from test_resume import TWO_RANKS, WORDS, play

from mmtx.run.interrupt import requeue

ACTS = [
    *("train", "experiment=dt_cartpole", "logger=[]", "callbacks=[]", "trainer.accelerator=cpu", "log_every_steps=1"),
    *("backbone.dim=16", "backbone.num_layers=1", "data.num_episodes=40", "objective.action.target_returns=[20]"),
    *("trainer.max_steps=6", "trainer.val_every_steps=3", "loader.batch_size=8"),
]
WRITES = [*(word for word in WORDS if not word.startswith(("callbacks", "objective"))), "objective=[next_token]"]
TWO = ["trainer.devices=2"]


def interrupted(number=15):
    return {"code": 128 + number, "state": "interrupted"}


MOMENTS = {
    "before there is a directory": (ACTS, {"at": "start.assemble"}, {"code": 143, "state": None}),
    "before it is set up": (ACTS, {"at": "start.train", "do": "interrupt"}, interrupted(2)),
    "while it acts in validation": (ACTS, {"at": "act.step", "nth": 3, "at_most": 1}, interrupted()),
    "as its end is recorded": (ACTS, {"at": "status", "nth": 3}, {"code": 0, "state": "finished"}),
    "while it is evaluated": (
        ["evaluate", "3"],
        {"at": "act.step", "nth": 3, "at_most": 1},
        {"code": 143, "state": None},
    ),
    "while samples are written": (WRITES, {"at": "write.token", "nth": 2, "at_most": 1}, interrupted()),
    "when two ranks are started": ([*ACTS, *TWO], {"at": "ranks.wait", "do": "hang_up"}, interrupted(1)),
    "while one acts, to the other, which waits": (
        [*ACTS, *TWO],
        {"at": "act.step", "nth": 3, "do": "term_rank_1", "at_most": 1},
        interrupted(),
    ),
}
MORE_MOMENTS = {
    "as a run is recorded": (ACTS, {"at": "status", "do": "hang_up"}, interrupted(1)),
    "between training and test": (ACTS, {"at": "end.acting", "do": "hang_up"}, interrupted(1)),
    "while samples are made": (WORDS, {"at": "data.sample", "nth": 13, "at_most": 1}, interrupted()),
    "while the first of two ranks is started": (
        [*ACTS, *TWO],
        {"at": "ranks.start", "do": "interrupt"},
        interrupted(2),
    ),
    "while one of two ranks acts": ([*ACTS, *TWO], {"at": "act.step", "nth": 3, "at_most": 1}, interrupted()),
    "twice, while one batch lasts": (WORDS, {"at": "val.step", "do": "term_twice"}, interrupted()),
    "twice, on two ranks": ([*WORDS, *TWO_RANKS], {"at": "val.step", "do": "term_parent_twice"}, interrupted()),
    "while pictures are drawn": (WRITES, {"at": "draw"}, interrupted()),
    "on one rank, before it is set up": (
        [*WORDS, *TWO_RANKS],
        {"at": "start.fit", "rank": 1, "do": "hang_up"},
        interrupted(1),
    ),
}


def ends(folder, moments):
    cases = []
    for i, (words, point, _) in enumerate(moments.values()):
        words = words if words[0] == "evaluate" else [*words, f"run_dir={i}"]
        cases.append({"cwd": str(folder), "words": words, "do": "term", **point})
    found = {}
    for i, (name, done) in enumerate(zip(moments, play(cases), strict=True)):
        status = folder / str(i) / "status.json"
        state = json.loads(status.read_text())["state"] if status.exists() else None
        found[name] = {"code": done["code"], "state": state}
        assert "Traceback" not in done["output"], done["output"]
    return found


def test_whenever_it_comes_it_is_obeyed_and_recorded(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert ends(tmp_path, MOMENTS) == {name: end for name, (_, _, end) in MOMENTS.items()}


@pytest.mark.slow
def test_at_more_moments_it_is_obeyed_and_recorded(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert ends(tmp_path, MORE_MOMENTS) == {name: end for name, (_, _, end) in MORE_MOMENTS.items()}


@pytest.mark.parametrize(
    ("environment", "requested"),
    [
        ({"SLURM_JOB_ID": "17"}, "requeue 17"),
        ({"SLURM_JOB_ID": "18", "SLURM_ARRAY_JOB_ID": "17", "SLURM_ARRAY_TASK_ID": "3"}, "requeue 17_3"),
        ({}, None),
    ],
    ids=["job", "array", "no job"],
)
def test_requeue(environment, requested, tmp_path, monkeypatch):
    (tmp_path / "scontrol").write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/requested\n')
    (tmp_path / "scontrol").chmod(0o755)
    for name in ("SLURM_JOB_ID", "SLURM_ARRAY_JOB_ID", "SLURM_ARRAY_TASK_ID"):
        monkeypatch.delenv(name, raising=False)
    for name, value in {**environment, "PATH": f"{tmp_path}:/bin:/usr/bin"}.items():
        monkeypatch.setenv(name, value)
    requeue()
    sent = (tmp_path / "requested").read_text().strip() if (tmp_path / "requested").exists() else None
    assert sent == requested


def test_a_cluster_that_cannot_is_reported(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("SLURM_JOB_ID", "17")
    monkeypatch.setenv("PATH", str(tmp_path))
    requeue()
    assert "cannot requeue SLURM job 17" in capsys.readouterr().err
