"""The loop of a sweep, with jobs that sleep, fail, hang and are killed instead of training."""

import itertools
import json
import os
import signal
import subprocess
import sys
import threading
import time
from datetime import datetime
from pathlib import Path

import pytest

from mmtx.sweep.engine import Demand
from mmtx.sweep.failure_policy import FailurePolicy
from mmtx.sweep.job_queue import JobQueue
from mmtx.sweep.record import Job, Sweep, read_sweep
from mmtx.sweep.runner import SweepRunner
from mmtx.sweep.slots import Slots
from mmtx.sweep.view import Lines


def make_policy(**changes):
    return FailurePolicy(
        **{"on_failure": "continue", "max_attempts": 3, "max_failures": None, "job_timeout": None} | changes
    )


def make_slots(folder, num_jobs, devices="cpu:8", per_job=1):
    demand = Demand(num_jobs=num_jobs, devices_per_job=per_job, on_cpu=True, folder=folder)
    return Slots(devices=devices, devices_per_job=None, jobs_per_device=1, demand=demand)


def make_sweep(folder, scripts, costs=None):
    """Jobs named 0, 1, ...; each of which is a shell command, in a file of its directory."""
    folder = Path(folder).absolute()
    costs = costs or [0.0] * len(scripts)
    jobs = [Job(str(i), [f"number={i}"], cost=cost) for i, cost in enumerate(costs)]
    for job, script in zip(jobs, scripts, strict=True):
        (folder / job.name).mkdir(parents=True, exist_ok=True)
        (folder / job.name / "script").write_text(script)
    return Sweep(folder, [], None, "", "running", jobs)


def command(folder):
    return ["/bin/sh", str(folder / "script")]


def run_jobs(sweep, engine=None, queue=None, **policy):
    engine = engine or make_slots(sweep.path, len(sweep.jobs))
    parts = {"queue": queue or JobQueue(sweep.jobs), "engine": engine, "policy": make_policy(**policy)}
    return SweepRunner(sweep=sweep, **parts, command=command, view=Lines(metric=None)).run()


def spans(sweep):
    """``{device: [(started, ended), ...]}`` in seconds, in order."""
    found = {}
    for job in read_sweep(sweep.path).jobs:
        span = tuple(datetime.fromisoformat(moment).timestamp() for moment in (job.started, job.ended))
        found.setdefault(job.device, []).append(span)
    return {device: sorted(each) for device, each in found.items()}


def test_no_slot_is_shared_and_none_is_idle_while_a_job_waits(tmp_path):
    """Within 10% of the ideal schedule; best of three, since the machine may have other things to do."""
    lengths = [0.4 + 0.1 * ((7 * i) % 24) for i in range(24)]
    excess = 1.0
    for attempt in range(3):
        sweep = make_sweep(tmp_path / str(attempt), [f"sleep {length}" for length in lengths], costs=lengths)
        begun = time.monotonic()
        assert run_jobs(sweep) == 0
        taken = time.monotonic() - begun
        used = spans(sweep)
        assert sorted(used) == [f"cpu:{i}" for i in range(8)]
        gaps = [later[0] - sooner[1] for each in used.values() for sooner, later in itertools.pairwise(each)]
        assert min(gaps) >= 0
        busy = [ended - started for each in used.values() for started, ended in each]
        excess = min(excess, taken / max(sum(busy) / 8, max(busy)) - 1)
        if excess < 0.1:
            return
    raise AssertionError(f"{excess:.0%} above the ideal schedule")


def test_the_record_of_a_long_sweep_is_written_as_fast_as_jobs_come(tmp_path):
    """It is written twice for every job; 0.03 s each time, and four times that with the type checks of the tests."""
    sweep = make_sweep(tmp_path, [""] * 1000)
    seconds = []
    for _ in range(3):
        begun = time.process_time()
        sweep.write()
        seconds.append(time.process_time() - begun)
    assert min(seconds) < 0.4, seconds


def test_the_record_has_the_outcome_of_each(tmp_path):
    says = """echo '{"state": "failed", "error": "OutOfMemoryError: CUDA out of memory"}' > %s/2/status.json; exit 1"""
    scripts = ["exit 0", "exit 3", says % tmp_path, "kill -9 $$", "exit 143", "sleep 60"]
    sweep = make_sweep(tmp_path, scripts)
    assert run_jobs(sweep, job_timeout=1.0) == 1
    record = read_sweep(tmp_path)
    assert record.state == "failed"
    assert [(job.state, job.reason) for job in record.jobs] == [
        ("finished", None),
        ("failed", "ended with exit code 3"),
        ("failed", "out of memory: OutOfMemoryError: CUDA out of memory"),
        ("failed", "was killed by SIGKILL"),
        ("interrupted", "stopped before there was anything to save"),
        ("failed", "no end after job_timeout=1 s"),
    ]
    assert json.loads((tmp_path / "3" / "status.json").read_text())["error"] == "was killed by SIGKILL"


def test_what_ignores_signals_is_killed(tmp_path, monkeypatch):
    monkeypatch.setattr("mmtx.sweep.runner.HANGING_SECONDS", 0.3)
    sweep = make_sweep(tmp_path, ["trap '' TERM; while true; do sleep 0.1; done"])
    assert run_jobs(sweep, job_timeout=0.5) == 1
    assert sweep.jobs[0].state == "failed" and "job_timeout" in sweep.jobs[0].reason


@pytest.mark.parametrize(
    ("policy", "attempts"),
    [
        ({}, [1, 1, 1, 1]),
        ({"on_failure": "stop"}, [1, 1, 0, 0]),
        ({"max_failures": 2}, [1, 1, 1, 0]),
        ({"on_failure": "retry", "max_attempts": 2}, [1, 2, 2, 1]),
    ],
    ids=["continue", "stop", "max_failures", "retry"],
)
def test_on_failure(policy, attempts, tmp_path):
    sweep = make_sweep(tmp_path, ["exit 0", "exit 1", "exit 1", "exit 0"])
    assert run_jobs(sweep, make_slots(tmp_path, 4, "cpu:1"), **policy) == 1
    assert [job.attempts for job in read_sweep(tmp_path).jobs] == attempts


def test_what_is_done_is_not_repeated(tmp_path):
    once = "test -e {0}/passed && exit 0; touch {0}/passed; exit 1"
    sweep = make_sweep(tmp_path, ["exit 0", once.format(tmp_path), "exit 0"])
    assert run_jobs(sweep) == 1
    again = read_sweep(tmp_path)
    assert run_jobs(again) == 0
    assert [job.attempts for job in again.jobs] == [1, 2, 1] and read_sweep(tmp_path).state == "finished"


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_a_signal_lets_all_jobs_save(number, code, tmp_path):
    saves = "trap 'sleep 0.2; touch {0}/{1}/saved; exit 143' TERM; while true; do sleep 0.05; done"
    sweep = make_sweep(tmp_path, [saves.format(tmp_path, i) for i in range(3)])
    threading.Timer(0.7, os.kill, (os.getpid(), number)).start()
    assert run_jobs(sweep, make_slots(tmp_path, 3, "cpu:2")) == code
    record = read_sweep(tmp_path)
    assert record.state == "interrupted"
    assert [job.state for job in record.jobs] == ["interrupted", "interrupted", "waiting"]
    assert [(tmp_path / job.name / "saved").exists() for job in record.jobs] == [True, True, False]


def test_a_second_signal_kills_jobs_that_do_not_end(tmp_path, monkeypatch):
    monkeypatch.setattr("mmtx.process.stopping.ONE_SIGNAL_SECONDS", 0.1)
    sweep = make_sweep(tmp_path, ["trap '' TERM; touch up; while true; do sleep 0.05; done"])
    monkeypatch.chdir(tmp_path)

    def twice():
        wait_for((tmp_path / "up").exists)
        for _ in range(2):
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(0.5)

    sending = threading.Thread(target=twice)
    sending.start()
    begun = time.monotonic()
    assert run_jobs(sweep) == 143 and time.monotonic() - begun < 30
    sending.join()
    record = read_sweep(tmp_path)
    assert (record.state, record.jobs[0].state) == ("interrupted", "interrupted")


def test_a_sweep_that_ends_by_an_error_is_not_recorded_as_running(tmp_path):
    sweep = make_sweep(tmp_path, ["exit 0"])
    engine = make_slots(tmp_path, 1)
    engine.wait = lambda seconds: 1 / 0
    with pytest.raises(ZeroDivisionError):
        run_jobs(sweep, engine)
    assert read_sweep(tmp_path).state == "failed"


def test_a_job_is_no_rank_of_its_launcher(tmp_path, monkeypatch):
    for key in ("RANK", "LOCAL_RANK", "SLURM_PROCID", "TORCHELASTIC_RUN_ID"):
        monkeypatch.setenv(key, "1")
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    sweep = make_sweep(tmp_path, [f"env > {tmp_path}/environment"])
    assert run_jobs(sweep, make_slots(tmp_path, 1, f"cpu:{len(os.sched_getaffinity(0))}")) == 0
    found = dict(line.partition("=")[::2] for line in (tmp_path / "environment").read_text().splitlines())
    assert not {"RANK", "LOCAL_RANK", "SLURM_PROCID", "TORCHELASTIC_RUN_ID"} & set(found)
    assert found["OMP_NUM_THREADS"] == "1" and found["CUDA_VISIBLE_DEVICES"] == ""


LAUNCHER = """
import sys
sys.path[:0] = {path!r}
from test_runner import *
sweep = make_sweep({folder!r}, ["exec {python} {folder}/job.py"] * 2)
sys.exit(run_jobs(sweep))
"""
SAVES = """
import pathlib, signal, sys, time
from mmtx.process import parent_watch
parent_watch.watch_parent()
def save(*_):
    pathlib.Path("{folder}", str(__import__("os").getpid()) + ".saved").touch()
    sys.exit(143)
signal.signal(signal.SIGTERM, save)
pathlib.Path("{folder}", str(__import__("os").getpid()) + ".up").touch()
time.sleep(60)
"""


def test_jobs_save_and_end_when_their_launcher_is_killed(tmp_path):
    (tmp_path / "job.py").write_text(SAVES.format(folder=tmp_path))
    path = [str(Path(__file__).parent)]
    script = LAUNCHER.format(path=path, folder=str(tmp_path), python=sys.executable)
    launcher = subprocess.Popen([sys.executable, "-c", script], cwd=tmp_path)
    wait_for(lambda: len(list(tmp_path.glob("*.up"))) == 2)
    launcher.kill()
    launcher.wait()
    wait_for(lambda: len(list(tmp_path.glob("*.saved"))) == 2)
    pids = [int(file.stem) for file in tmp_path.glob("*.up")]
    wait_for(lambda: not any(is_alive(pid) for pid in pids))


def wait_for(condition, seconds=60):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def is_alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
