"""A search whose trials are scripts that write down a loss instead of training."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import optuna
import pytest
from run_cli import TINY, mmtx, text_of
from test_runner import make_slots, run_jobs

from mmtx.commands.main import main
from mmtx.errors import ConfigErrors, InvalidValue, UserError
from mmtx.report.comparison import compare
from mmtx.report.table import command
from mmtx.run.run_record import find_runs
from mmtx.sweep.optuna import Search
from mmtx.sweep.record import Job, Sweep, read_sweep
from mmtx.sweep.run_sweep import run_sweep
from mmtx.sweep.settings import check_sweeper, split
from mmtx.sweep.space import ends, search_space
from mmtx.sweep.view import Lines

STEPS = 10
TRAINS = """\
import json, os, pathlib, sys, time
folder = pathlib.Path({folder!r})
(folder / "pid").write_text(str(os.getpid()))
log = folder / "metrics.jsonl"
done = len(log.read_text().splitlines()) if log.exists() else 0
for step in range(done + 1, {steps} + 1):
    time.sleep({seconds})
    with log.open("a") as file:
        file.write(json.dumps({{"step": step, "time": 0.0, "val/loss": {loss} / step, "val/size": 1.0}}) + "\\n")
"""


@pytest.fixture(autouse=True)
def looks_often(monkeypatch):
    monkeypatch.setattr(Lines, "seconds", 0.02)


def make_search(sweep, losses, seconds=0.0, **changes):
    """A search for `x`; trial number i logs losses[i] / step."""
    _, axes = search_space(["x=interval(0,1)", "kind=a,b"])

    def make(number, overrides):
        folder = sweep.path / f"{number:03}"
        folder.mkdir(parents=True)
        script = TRAINS.format(folder=str(folder), loss=losses[number], steps=STEPS, seconds=seconds)
        (folder / "job.py").write_text(script)
        (folder / "script").write_text(f"exec {sys.executable} -S {folder}/job.py")
        return Job(folder.name, list(overrides), steps=STEPS)

    given = {
        "n_trials": len(losses),
        "metric": None,
        "direction": None,
        "seed": 0,
        "sampler": optuna.samplers.RandomSampler,
        "pruner": optuna.pruners.NopPruner(),
        "monitor": ("val/loss", None),
        "directions": {"val/loss": "min", "val/size": None, "val/lost": "min"},
        "report": print,
    }
    return Search(sweep=sweep, axes=axes, make=make, **given | changes)


def empty_sweep(folder):
    return Sweep(Path(folder).absolute(), [], None, "", "running", [])


def search(sweep, losses, devices="cpu:1", **changes):
    engine = make_slots(sweep.path, len(losses), devices)
    return run_jobs(sweep, engine=engine, queue=make_search(sweep, losses, **changes))


def trials(folder):
    return optuna.load_study(study_name="sweep", storage=f"sqlite:///{folder}/study.db").trials


def num_steps(folder):
    return sum(len(file.read_text().splitlines()) for file in folder.glob("*/metrics.jsonl"))


def test_a_trial_is_drawn_after_the_one_before_has_ended(tmp_path):
    seen = []

    class Spy(optuna.samplers.RandomSampler):
        def before_trial(self, study, trial):
            seen.append([each.value for each in study.get_trials(states=[optuna.trial.TrialState.COMPLETE])])

    assert search(empty_sweep(tmp_path), [3.0, 1.0, 2.0], sampler=Spy) == 0
    assert seen == [[], [0.3], [0.3, 0.1]]
    assert [trial.value for trial in trials(tmp_path)] == [0.3, 0.1, 0.2]
    record = read_sweep(tmp_path)
    assert record.state == "finished" and [job.state for job in record.jobs] == ["finished"] * 3
    for job, trial in zip(record.jobs, trials(tmp_path), strict=True):
        assert job.overrides == [f"{key}={value}" for key, value in trial.params.items()]


def test_slots_side_by_side_do_not_wait_for_each_other(tmp_path):
    assert search(empty_sweep(tmp_path), [1.0] * 3, "cpu:3", seconds=0.3) == 0
    jobs = read_sweep(tmp_path).jobs
    assert max(job.started for job in jobs) < min(job.ended for job in jobs)
    assert {job.device for job in jobs} == {f"cpu:{i}" for i in range(3)}


@pytest.mark.parametrize(
    "pruner",
    [
        optuna.pruners.MedianPruner(n_startup_trials=1),
        pytest.param(
            optuna.pruners.SuccessiveHalvingPruner(min_resource=1, reduction_factor=2), marks=pytest.mark.slow
        ),
    ],
    ids=["median", "asha"],
)
def test_bad_trials_are_pruned_and_marked(pruner, tmp_path):
    assert search(empty_sweep(tmp_path), [1.0, 9.0, 0.5, 8.0], pruner=pruner, seconds=0.1) == 0
    record = read_sweep(tmp_path)
    assert [job.state for job in record.jobs] == ["finished", "pruned", "finished", "pruned"]
    assert record.jobs[1].reason.startswith("val/loss=") and record.state == "finished"
    assert [trial.state.name for trial in trials(tmp_path)] == ["COMPLETE", "PRUNED", "COMPLETE", "PRUNED"]
    assert json.loads((tmp_path / "001" / "status.json").read_text())["state"] == "pruned"
    assert num_steps(tmp_path) < 0.8 * 4 * STEPS


LAUNCHER = """
import sys
sys.path[:0] = {path!r}
from test_optuna import *
sys.exit(search(empty_sweep({folder!r}), [4.0, 3.0, 2.0, 1.0, 1.0], "cpu:2", seconds=0.1, n_trials=4))
"""


@pytest.mark.slow
def test_a_search_that_was_killed_goes_on(tmp_path):
    path = [str(Path(__file__).parent), str(Path(__file__).parents[1])]
    script = LAUNCHER.format(path=path, folder=str(tmp_path))
    launcher = subprocess.Popen([sys.executable, "-c", script], start_new_session=True)
    deadline = time.monotonic() + 60
    while not (tmp_path / "002" / "metrics.jsonl").exists():
        assert launcher.poll() is None and time.monotonic() < deadline
        time.sleep(0.05)
    os.killpg(launcher.pid, signal.SIGKILL)
    launcher.wait()
    for job in read_sweep(tmp_path).jobs:
        if job.state == "running":  # a script does not watch its parent
            with contextlib.suppress(ProcessLookupError):
                os.kill(int((tmp_path / job.name / "pid").read_text()), signal.SIGKILL)
    half = len((tmp_path / "002" / "metrics.jsonl").read_text().splitlines())
    before = {trial.number: trial.params for trial in trials(tmp_path)}
    assert 0 < half < STEPS

    assert search(read_sweep(tmp_path), [4.0, 3.0, 2.0, 1.0, 1.0], "cpu:2", n_trials=4) == 0
    after = trials(tmp_path)
    complete = [trial for trial in after if trial.state.name == "COMPLETE"]  # one may have been asked for in vain
    assert [trial.value for trial in complete] == [0.4, 0.3, 0.2, 0.1] and num_steps(tmp_path) == 4 * STEPS
    assert all(after[number].params == params for number, params in before.items())
    drawn = [trial.params["x"] for trial in after if trial.params]  # that one may not have got any
    assert len(set(drawn)) == len(drawn)  # nothing is drawn twice


def test_what_the_study_has_and_the_record_lacks_is_kept(tmp_path):
    assert search(empty_sweep(tmp_path), [1.0, 2.0]) == 0
    sweep = read_sweep(tmp_path)
    sweep.jobs[1].state = "running"
    assert search(sweep, [1.0, 2.0, 3.0]) == 0
    assert [(job.state, job.attempts) for job in read_sweep(tmp_path).jobs] == [("finished", 1)] * 3


def test_what_has_failed_is_a_new_trial_of_the_same_values(tmp_path):
    class Fails:
        def __format__(self, _):
            return f"(1.0 if pathlib.Path({str(tmp_path / 'mended')!r}).exists() else sys.exit(3))"

    losses = [1.0, Fails()]
    assert search(empty_sweep(tmp_path), losses) == 1
    assert [trial.state.name for trial in trials(tmp_path)] == ["COMPLETE", "FAIL"]
    (tmp_path / "mended").touch()
    assert search(read_sweep(tmp_path), losses) == 0
    _, failed, mended = trials(tmp_path)
    assert mended.value == 0.1 and mended.params == failed.params
    assert [job.attempts for job in read_sweep(tmp_path).jobs] == [1, 2]


def test_several_objectives_and_one_that_nobody_logs(tmp_path):
    two = {"metric": ["val/loss", "val/size"], "direction": ["minimize", "maximize"]}
    with pytest.raises(InvalidValue, match="pruner=none"):
        make_search(empty_sweep(tmp_path), [1.0], pruner=optuna.pruners.MedianPruner(), **two)
    assert search(empty_sweep(tmp_path), [1.0, 2.0], **two) == 0
    assert [trial.values for trial in trials(tmp_path)] == [[0.1, 1.0], [0.2, 1.0]]
    with pytest.raises(UserError, match="not minimize val/loss"):
        make_search(read_sweep(tmp_path), [1.0, 2.0])
    with pytest.raises(InvalidValue, match="direction"):
        make_search(empty_sweep(tmp_path), [1.0], metric="val/size")
    (tmp_path / "other").mkdir()
    assert search(empty_sweep(tmp_path / "other"), [1.0], metric="val/lost", direction="minimize") == 1
    assert "val/lost; it has val/loss" in read_sweep(tmp_path / "other").jobs[0].reason


def test_spaces_are_written_as_hydra_has_them():
    fixed, axes = search_space(["a=interval(1e-4,1e-2)", "b=tag(log,int(interval(1,9)))", "c=range(0,1,0.25)", "d=1"])
    assert fixed == ["d=1"] and [axis.key for axis in axes] == ["a", "b", "c"]
    assert [axis.ends for axis in axes] == [("0.0001", "0.01"), ("1", "9"), ("0.0", "0.75")]
    assert axes[1].log and axes[2].step == 0.25
    _, axes = search_space(["m=choice([image],[image,text])", "s=1,2"])
    assert list(ends(axes)) == [["m=[image],[image,text]", "s=1"], ["m=[image]", "s=1,2"]]
    for wrong in ("a=interval(1,1)", "a=tag(normal,interval(1,2))", "a=tag(log,interval(0,1))", "a=glob(*)", "a=1"):
        with pytest.raises(ConfigErrors):
            search_space([wrong])


def test_a_sweep_file_is_its_lines_and_the_command_line_wins():
    words = split(["sweep=lr", "hydra.sweeper.n_trials=3", "seed=1"])
    assert words.jobs == ["optim.lr=tag(log,interval(1e-4,1e-1))", "seed=1"]
    assert words.sweeper == ["sweeper=optuna", "sweeper.n_trials=3"]
    assert check_sweeper(words.sweeper)["n_trials"] == 3
    assert check_sweeper(["sweeper=optuna", "sweeper/pruner=asha"])["pruner"]["reduction_factor"] == 4
    for wrong, message in (
        (["sweeper=optun"], "did you mean 'optuna'"),
        (["sweeper=optuna", "sweeper.n_trial=3"], "did you mean 'n_trials'"),
        (["sweeper=optuna", "sweeper.n_trials=0"], "hydra.sweeper.n_trials=0 must be at least 1"),
        (["sweeper=optuna", "sweeper.seed=-1"], "hydra.sweeper.seed=-1 must lie in 0..4294967295"),
        (["sweeper=optuna", "sweeper.sampler.seed=3"], "hydra.sweeper.sampler.seed=3: hydra.sweeper.seed is it"),
        (["sweeper=optuna", "sweeper.pruner.n_startup_trials=-1"], "hydra.sweeper.pruner: .*startup"),
        (["sweeper=optuna", "sweeper/pruner=medain"], "there is no such hydra/sweeper/pruner; did you mean 'median'"),
        (["sweeper=optuna", "sweeper.pruner.warm=3"], "unknown key hydra.sweeper.pruner.warm"),
    ):
        with pytest.raises(ConfigErrors, match=message):
            check_sweeper(wrong)
    with pytest.raises(ConfigErrors, match="did you mean 'lr'"):
        split(["sweep=lrr"])
    with pytest.raises(ConfigErrors, match="add hydra/sweeper=optuna"):
        run_sweep(None, ["optim.lr=interval(1e-4,1e-2)"], None)


def test_without_optuna_one_line_names_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    monkeypatch.delitem(sys.modules, "mmtx.sweep.optuna")
    with pytest.raises(UserError, match=r"hydra/sweeper=optuna needs optuna: pip install 'mmtx\[search\]'$"):
        check_sweeper(["sweeper=optuna"])


def test_a_search_on_the_command_line(tmp_path):
    words = ["train", "-m", "sweep=lr", "hydra.sweeper.n_trials=1", "run_dir=sweep", "hydra.launcher.devices=cpu:1"]
    words += ["data=digits", "trainer.max_steps=2", "trainer.accelerator=cpu", "logger=[]", "callbacks=[]", *TINY]
    done = mmtx(*words, cwd=tmp_path, timeout=600)
    assert done.returncode == 0, text_of(done)
    jobs = read_sweep(tmp_path / "sweep").jobs
    assert [job.state for job in jobs] == ["finished"] and jobs[0].name.startswith("000,lr=")
    more = mmtx("resume", "sweep", "hydra.sweeper.n_trials=2", cwd=tmp_path, timeout=600)
    assert more.returncode == 0, text_of(more)
    grown = read_sweep(tmp_path / "sweep").jobs
    assert [job.attempts for job in grown] == [1, 1] and grown[:1] == jobs
    for job, trial in zip(grown, trials(tmp_path / "sweep"), strict=True):
        metrics = json.loads((tmp_path / "sweep" / job.name / "metrics.json").read_text())
        assert trial.value == metrics["val/loss"] and job.overrides == [f"optim.lr={trial.params['optim.lr']}"]
    best = command(compare(find_runs([tmp_path / "sweep"]), None, None))
    assert best.startswith("mmtx train data=digits trainer.max_steps=2") and "optim.lr=" in best and "tag(" not in best


def test_a_sweep_without_m_is_refused(capsys):
    assert main(["train", "sweep=lr"]) == 2
    assert "sweep=lr belongs to a sweep; add -m" in capsys.readouterr().err
