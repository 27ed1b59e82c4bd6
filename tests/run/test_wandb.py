"""W&B may be missing, unreachable or broken: the run goes on, with a warning in one line."""

import atexit
import json
import multiprocessing
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import wandb
import yaml
from run_cli import TINY, fork, mmtx, text_of
from run_directories import write_sweep
from wandb_file import read_wandb_file
from wandb_server import KEY, wandb_server

from mmtx.process.stopping import Interrupted
from mmtx.run.run_record import read_run
from mmtx.run.wandb.log import WandbLog
from mmtx.run.wandb.view import identity

RUN = ["train", "experiment=vit_digits", *TINY, "trainer.max_steps=2", "run_dir=run"]
NOBODY = {"WANDB_MODE": None, "WANDB_API_KEY": None, "NETRC": "/nowhere/netrc", "WANDB_BASE_URL": None}


def rows(run):
    """Lines of metrics.jsonl as W&B has them: without the time."""
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [{name: value for name, value in line.items() if name != "time"} for line in lines]


def offline_files(run):
    return sorted(run.glob("wandb/offline-run-*/run-*.wandb"))


def losses(run):
    return [row["train/loss"] for row in rows(run) if "train/loss" in row]


def test_a_job_of_a_sweep_is_an_offline_run_with_the_rows_of_its_metrics(tmp_path):
    job, overrides = "lr=1e-3,seed=2", ["optim.lr=1e-3", "seed=2"]
    write_sweep(tmp_path / "first", [(job, overrides, "running", None)])
    arguments = [*RUN[:-1], *overrides, "logger.wandb.checkpoints=[last]", f"run_dir='first/{job}'"]
    done = mmtx(*arguments, cwd=tmp_path, env={**NOBODY, "HOME": str(tmp_path)})
    assert done.returncode == 0, text_of(done)
    run = tmp_path / "first" / job
    lines = [line for line in done.stderr.splitlines() if "wandb" in line]
    assert len(lines) == 1 and "no API key" in lines[0] and f"mmtx sync {run}" in lines[0], text_of(done)

    (file,) = offline_files(run)
    content = read_wandb_file(file)
    assert content.rows == rows(run) and len(content.rows) >= 3
    assert content.config["optim"]["lr"] == 1e-3 and content.config["seed"] == 2
    assert {key.rpartition("/")[0] for row in content.media for key in row} >= {"samples/classify_picture"}
    assert content.run == {
        "id": json.loads((run / "wandb.json").read_text())["id"],
        "project": "mmtx",
        "group": "first",
        "job_type": "lr=1e-3",
        "name": "lr=1e-3 seed=2",
        "tags": ["vit_digits", *overrides],
    }
    assert content.exit_code == 0 and content.summary["state"] == "finished"
    assert b"last.ckpt" in file.read_bytes()


@pytest.fixture
def silent_server():
    """Accepts connections and never answers."""
    with socket.socket() as accepting:
        accepting.bind(("127.0.0.1", 0))
        accepting.listen(50)
        yield f"http://127.0.0.1:{accepting.getsockname()[1]}"


def test_without_a_network_nothing_changes_but_one_warning(tmp_path):
    assert mmtx(*RUN[:-1], "run_dir=quiet", "logger=[]", cwd=tmp_path).returncode == 0
    closed = {"WANDB_MODE": None, "WANDB_API_KEY": KEY, "WANDB_BASE_URL": "http://127.0.0.1:9"}
    done = mmtx(*RUN, cwd=tmp_path, env=closed)
    assert done.returncode == 0, text_of(done)
    lines = [line for line in done.stderr.splitlines() if "wandb" in line.lower()]
    assert len(lines) == 1 and "cannot be reached" in lines[0] and "mmtx sync" in lines[0], text_of(done)
    assert losses(tmp_path / "quiet") == losses(tmp_path / "run")
    (file,) = offline_files(tmp_path / "run")
    assert read_wandb_file(file).rows == rows(tmp_path / "run")


@pytest.mark.slow
def test_a_server_that_never_answers_holds_nobody_up(tmp_path, silent_server, monkeypatch, capfd):
    for name, value in {"WANDB_API_KEY": KEY, "WANDB_BASE_URL": silent_server}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("WANDB_MODE", raising=False)
    seconds = {}
    for name in ("offline", None):  # to choose offline, and to find out that there is no other way
        start = time.monotonic()
        train_online(tmp_path / str(name), name)
        seconds[name] = time.monotonic() - start
        wandb.teardown()
    assert seconds[None] < seconds["offline"] + 30
    assert capfd.readouterr().err.count("cannot be reached") == 1
    (file,) = offline_files(tmp_path / "None")
    assert read_wandb_file(file).rows == [{"a": 1.0, "step": 1}, {"a": 2.0, "step": 2}]


@pytest.fixture(autouse=True)
def fresh_wandb():
    """W&B reads its settings once in a process."""
    yield
    wandb.teardown()


@pytest.fixture
def server(monkeypatch):
    """A server that W&B in this process talks to."""
    with wandb_server() as server:
        for name, value in server.environment.items():
            monkeypatch.setenv(name, value) if value else monkeypatch.delenv(name, raising=False)
        yield server
        wandb.teardown()  # while the server is still there


def train_online(run, mode=None):
    run.mkdir(exist_ok=True)
    opened = log(run, config={"name": "toy"}, mode=mode)
    opened.start()
    opened.log_metrics({"a": 1.0}, 1)
    opened.log_metrics({"a": 2.0}, 2)
    opened.finish(None)


def test_online_rows_arrive_and_a_resumed_run_keeps_its_id(tmp_path, server, capfd):
    train_online(tmp_path)
    train_online(tmp_path)
    assert capfd.readouterr().err == ""
    ((run_id, known),) = server.runs.items()
    assert run_id == json.loads((tmp_path / "wandb.json").read_text())["id"]
    assert server.metric_rows(run_id) == [{"a": 1.0, "step": 1}, {"a": 2.0, "step": 2}] * 2
    assert known["project"] == "mmtx" and server.ended[run_id] == 0


def test_an_agent_of_a_wandb_sweep_is_joined(tmp_path, server, monkeypatch, capfd):
    parameters = tmp_path / "parameters.yaml"
    parameters.write_text("optim.lr: {value: 0.001}\n")
    given = {"WANDB_SWEEP_ID": "sweep1", "WANDB_RUN_ID": "agents1", "WANDB_SWEEP_PARAM_PATH": str(parameters)}
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    ours = write_sweep(tmp_path / "ours", [("seed=1", ["seed=1"], "running", None)])
    assert identity(read_run(ours / "seed=1"))["id"] != "agents1"  # our sweep's jobs are runs of their own
    train_online(tmp_path)
    assert capfd.readouterr().err == ""
    assert list(server.runs) == ["agents1"] and server.runs["agents1"]["sweep"] == "sweep1"


def lose(folder, environment, end):
    """A run whose network goes while it waits. Sends how long its end took."""
    os.environ.clear()
    os.environ.update(environment)
    os.dup2(os.open(folder / "errors", os.O_WRONLY | os.O_CREAT), 2)
    opened = log(folder, mode=None)
    opened.start()
    opened.log_metrics({"a": 1.0}, 1)
    end.send("logged")
    end.recv()
    opened.log_metrics({"a": 2.0}, 2)
    start = time.monotonic()
    opened.finish(None)
    atexit._run_exitfuncs()  # where W&B would wait for its own process
    end.send(time.monotonic() - start)


@pytest.mark.slow
def test_a_network_lost_on_the_way_holds_nobody_up(tmp_path):
    serving = "from wandb_server import Server; s = Server(); print(s.url, flush=True); s.serve_forever()"
    command = [sys.executable, "-c", serving]
    server = subprocess.Popen(command, cwd=Path(__file__).parents[1], stdout=subprocess.PIPE, text=True)
    try:
        known = {**os.environ, "WANDB_API_KEY": KEY, "WANDB_BASE_URL": server.stdout.readline().strip()}
        known.pop("WANDB_MODE", None)
        run, end = multiprocessing.Pipe()
        process = fork(lose, tmp_path, known, end)
        assert run.poll(120) and run.recv() == "logged"
        server.send_signal(signal.SIGSTOP)
        run.send("go")
        assert run.poll(120) and run.recv() < 30
        process.join(60)
        assert process.exitcode == 0
        err = (tmp_path / "errors").read_text()
        assert err.count("\n") == 1 and "mmtx sync" in err
    finally:
        server.kill()
        server.wait()
        process.kill()


def log(run, **changed):
    keywords = {"config": {}, "project": "mmtx", "entity": None, "tags": [], "mode": "offline", "checkpoints": []}
    return WandbLog(run_dir=run, **(keywords | changed))


@pytest.mark.parametrize(
    ("error", "state_in_sweep", "state"),
    [
        (None, "running", "finished"),
        (RuntimeError("no memory"), "running", "failed"),
        (Interrupted(2), "running", "interrupted"),
        (Interrupted(15), "pruned", "pruned"),
    ],
    ids=["finished", "failed", "interrupted", "pruned"],
)
def test_how_a_run_ended_is_marked(tmp_path, error, state_in_sweep, state):
    class Run:
        offline, summary, tags, ended = True, {}, ("mine",), None

        def finish(self, exit_code):
            Run.ended = exit_code

    run = write_sweep(tmp_path / "sweep", [("a", ["seed=1"], state_in_sweep, None)]) / "a"
    opened = log(run)
    opened._run = Run()
    opened.finish(error)
    assert opened._run.summary == {"state": state}
    assert opened._run.tags == (("mine",) if state == "finished" else ("mine", state))
    assert Run.ended == (0 if state == "finished" else 1)


def test_what_raises_is_reported_once_and_left_alone(tmp_path, capsys):
    class Broken:
        def log(self, *args, **kwargs):
            raise RuntimeError("the service is gone")

    opened = log(tmp_path)
    opened._run = Broken()
    opened.log_metrics({"a": 1.0}, 1)
    opened.log_metrics({"a": 1.0}, 2)
    assert capsys.readouterr().err.count("the service is gone") == 1


@pytest.mark.parametrize(
    ("variables", "keywords", "reported"),
    {
        "empty": (dict.fromkeys(("MODE", "QUIET", "BASE_URL", "RESUME", "SWEEP_ID", "RUN_ID"), ""), {}, "no API key; "),
        "refused": ({"QUIET": "maybe"}, {}, "WANDB_QUIET=maybe is refused by W&B (Input should be a valid boolean"),
        "a mode that is none": ({"MODE": "nonsense"}, {}, "WANDB_MODE=nonsense is refused by W&B (Input should be 'on"),
        "an address that is none": (
            {"BASE_URL": "here", "API_KEY": KEY},
            {},
            "WANDB_BASE_URL=here is refused by W&B (",
        ),
        "cut": ({}, {"tags": ["x" * 80, ""], "project": "a/b:" + "c" * 200}, "no API key; "),
    }.values(),
)
def test_what_wandb_refuses_is_named_or_cut_and_the_run_is_logged_offline(
    variables, keywords, reported, tmp_path, monkeypatch, capfd
):
    for name in [name for name in os.environ if name.startswith("WANDB_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("NETRC", "/nowhere/netrc")
    for name, value in variables.items():
        monkeypatch.setenv(f"WANDB_{name}", value)
    opened = log(tmp_path, mode=None, **keywords)
    opened.start()
    opened.log_metrics({"a": 1.0}, 1)
    opened.finish(None)
    wandb.teardown()  # by when its file is whole
    line = capfd.readouterr().err
    assert line.startswith(f"wandb: {reported}") and line.count("\n") == 1 and "logging offline; `mmtx sync" in line
    content = read_wandb_file(*offline_files(tmp_path))
    assert content.rows == [{"a": 1.0, "step": 1}]
    if keywords:
        assert content.run["tags"] == ["run", "x" * 64] and content.run["project"] == "a-b-" + "c" * 124


def test_what_hangs_is_given_up(tmp_path, capsys, monkeypatch):
    class Hanging:
        offline, summary, tags = True, {}, ()

        def finish(self, exit_code):
            time.sleep(60)

    monkeypatch.setattr("mmtx.run.wandb.log.FINISH_SECONDS", 0.2)
    opened = log(tmp_path)
    opened._run = Hanging()
    start = time.monotonic()
    opened.finish(None)
    assert time.monotonic() - start < 30
    assert "no answer" in capsys.readouterr().err


@pytest.mark.slow
def test_an_agent_of_wandb_drives_training(tmp_path, server):
    """The command line that W&B's own agent makes of our example, run as the agent runs it.

    It would write null as None."""
    from wandb.sdk.launch.sweeps.utils import create_sweep_command, create_sweep_command_args

    sweep = yaml.safe_load((Path(__file__).parents[2] / "scripts" / "wandb_sweep.yaml").read_text())
    chosen = {"optim.lr": 0.0021, "backbone.dim": 64, "seed": 2, "modality": ["image"], "optim.ema_decay": "null"}
    assert set(sweep["parameters"]) <= set(chosen), "the example sets another key"
    args = create_sweep_command_args({"args": {key: {"value": value} for key, value in chosen.items()}})
    line = [word for part in create_sweep_command(sweep["command"]) for word in _replaced(part, args)]
    assert line[:3] == ["mmtx", "train", "experiment=vit_digits"] and "backbone.dim=64" in line
    parameters = tmp_path / "parameters.yaml"
    parameters.write_text(yaml.safe_dump({key: {"value": value} for key, value in chosen.items()}))
    agent = {"WANDB_SWEEP_ID": "sweep1", "WANDB_RUN_ID": "agents1", "WANDB_SWEEP_PARAM_PATH": str(parameters)}
    short = ["trainer.max_steps=2", "backbone.num_layers=1", "log_every_steps=1", "callbacks=[]", "run_dir=run"]
    done = mmtx(*line[1:], *short, cwd=tmp_path, env={**server.environment, **agent})
    assert done.returncode == 0, text_of(done)
    config = yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())
    assert (config["optim"]["lr"], config["backbone"]["dim"], config["seed"]) == (0.0021, 64, 2)
    assert list(config["modality"]) == ["image"] and config["optim"]["ema_decay"] is None
    assert list(server.runs) == ["agents1"] and server.metric_rows("agents1") == rows(tmp_path / "run"), text_of(done)


def _replaced(part, args):
    """What the agent puts in the place of a part of the command."""
    return args[part[2:-1]] if part.startswith("${args") else [] if part == "${env}" else [part]
