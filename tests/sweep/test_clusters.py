"""The same jobs by submitit (its local mode, and a SLURM that is not one) and by a Ray of this machine."""

import json
import logging
import os
import signal
import stat
import sys
import threading
import time

import pytest
from run_cli import TINY, mmtx, text_of
from test_runner import make_sweep, run_jobs

from mmtx.errors import InvalidValue
from mmtx.sweep.engine import Demand
from mmtx.sweep.record import read_sweep

SCRIPTS = ["echo one >> {}/0/ran", "exit 3", "echo two >> {}/2/ran"]

SBATCH = """#!{python}
import os, subprocess, sys
folder = {folder!r}
number = str(1000 + len(os.listdir(folder)))
environment = {{**os.environ, "SLURM_JOB_ID": number, "SLURM_PROCID": "0", "SLURM_NTASKS": "1"}}
output = open(os.path.join(os.path.dirname(folder), "output"), "a")
script = open(sys.argv[-1]).read()  # as SLURM does: the file may be moved at once
where = {{"stdout": output, "stderr": output, "start_new_session": True}}
process = subprocess.Popen(["bash", "-c", script], env=environment, **where)
open(os.path.join(folder, number), "w").write(str(process.pid))
print("Submitted batch job", number)
"""
SRUN = """#!{python}
import os, sys
words = sys.argv[1:]
while words[0].startswith("--"):
    words = words[1:] if "=" in words[0] or words[0] == "--unbuffered" else words[2:]
os.execvp(words[0], words)
"""
SACCT = """#!{python}
import os, sys
print("JobID|State|NodeList")
for number in os.listdir({folder!r}):
    pid = open(os.path.join({folder!r}, number)).read()
    try:
        running = open(f"/proc/{{pid}}/stat").read().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        running = False
    print(f"{{number}}|{{'RUNNING' if running else 'COMPLETED'}}|here")
"""
SCANCEL = """#!{python}
import os, signal, sys
number = signal.SIGKILL
for word in sys.argv[1:-1]:
    if word == "--state=PENDING":
        sys.exit(0)
    number = signal.Signals["SIG" + word.partition("=")[2]]
pid = int(open(os.path.join({folder!r}, sys.argv[-1])).read())
os.killpg(pid, number)
"""


def demand(folder, num_jobs):
    return Demand(num_jobs=num_jobs, devices_per_job=1, on_cpu=True, folder=folder)


def by_submitit(folder, num_jobs, cluster):
    pytest.importorskip("submitit")
    from mmtx.sweep.submitit import Submitit

    sizes = {"max_running": 2, "timeout_min": 5, "gpus_per_node": 0, "cpus_per_task": 1, "mem_gb": None}
    return Submitit(cluster=cluster, **sizes, parameters={}, demand=demand(folder, num_jobs))


def by_local_submitit(folder, num_jobs, monkeypatch):
    return by_submitit(folder, num_jobs, "local")


def by_slurm(folder, num_jobs, monkeypatch):
    programs, queue = folder / "programs", folder / "queue"
    for each in (programs, queue):
        each.mkdir()
    for name, text in (("sbatch", SBATCH), ("srun", SRUN), ("sacct", SACCT), ("scancel", SCANCEL)):
        file = programs / name
        file.write_text(text.format(python=sys.executable, folder=str(queue)))
        file.chmod(file.stat().st_mode | stat.S_IEXEC)
    monkeypatch.setenv("PATH", f"{programs}{os.pathsep}{os.environ['PATH']}")
    return by_submitit(folder, num_jobs, "slurm")


def by_ray(folder, num_jobs, monkeypatch):
    ray = pytest.importorskip("ray")
    from mmtx.sweep.ray import Ray

    if not ray.is_initialized():
        ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level=logging.WARNING)
    return Ray(address=None, num_gpus=None, num_cpus=1.0, demand=demand(folder, num_jobs))


ENGINES = [by_local_submitit, by_slurm, by_ray]


@pytest.mark.parametrize("make", ENGINES, ids=lambda make: make.__name__)
def test_the_same_jobs_end_in_the_same_record(make, tmp_path, monkeypatch):
    sweep = make_sweep(tmp_path, [script.format(tmp_path) for script in SCRIPTS])
    engine = make(tmp_path, len(SCRIPTS), monkeypatch)
    assert run_jobs(sweep, engine) == 1
    record = read_sweep(tmp_path)
    assert [(job.state, job.reason) for job in record.jobs] == [
        ("finished", None),
        ("failed", "ended with exit code 3"),
        ("finished", None),
    ]
    (tmp_path / "1" / "script").write_text("exit 0")
    assert run_jobs(record, engine) == 0  # and nothing that was done is repeated
    assert [(tmp_path / name / "ran").read_text() for name in ("0", "2")] == ["one\n", "two\n"]


@pytest.mark.parametrize("make", ENGINES, ids=lambda make: make.__name__)
def test_a_signal_lets_all_jobs_save(make, tmp_path, monkeypatch):
    saves = "trap 'touch {0}/{1}/saved; exit 143' TERM; touch {0}/{1}/up; while true; do sleep 0.05; done"
    sweep = make_sweep(tmp_path, [saves.format(tmp_path, i) for i in range(2)])
    engine = make(tmp_path, 2, monkeypatch)

    def interrupt():
        while len(list(tmp_path.glob("*/up"))) < 2:
            time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=interrupt, daemon=True).start()
    assert run_jobs(sweep, engine) == 143
    assert [job.state for job in read_sweep(tmp_path).jobs] == ["interrupted"] * 2
    assert len(list(tmp_path.glob("*/saved"))) == 2


def test_more_than_the_cluster_has_is_refused(tmp_path, monkeypatch):
    by_ray(tmp_path, 1, monkeypatch)
    from mmtx.sweep.ray import Ray

    with pytest.raises(InvalidValue, match="num_gpus=64.0 is more than"):
        Ray(address=None, num_gpus=64.0, num_cpus=1.0, demand=demand(tmp_path, 1))


TRAINING = [
    *("train", "-m", "experiment=vit_digits", *TINY, "trainer.max_epochs=null", "trainer.max_steps=10"),
    *("optim.lr=1e-3,3e-3", "logger=[]", "callbacks=[]", "trainer.accelerator=cpu"),
]


def results(folder, launcher):
    done = mmtx(*TRAINING, f"hydra/launcher={launcher}", f"run_dir={launcher}", cwd=folder, timeout=400)
    assert done.returncode == 0, text_of(done)
    found = {}
    for job in read_sweep(folder / launcher).jobs:
        lines = [json.loads(line) for line in (folder / launcher / job.name / "metrics.jsonl").read_text().splitlines()]
        last = json.loads((folder / launcher / job.name / "metrics.json").read_text())
        clocks = ("time", "train/tokens_per_second", "train/data_wait")
        found[job.name] = [{k: v for k, v in line.items() if not k.startswith(clocks)} for line in [*lines, last]]
    return found


@pytest.mark.slow
def test_training_there_gives_the_numbers_of_training_here(tmp_path):
    for package in ("submitit", "ray"):
        pytest.importorskip(package)
    here = results(tmp_path, "slots")
    assert len(here) == 2 and all(len(lines) > 10 and "test/loss" in lines[-1] for lines in here.values())
    assert results(tmp_path, "submitit_local") == here
    assert results(tmp_path, "ray") == here
