"""Offline runs arrive once, whole, and marked as they ended; what W&B's own file lost comes from metrics.jsonl."""

import json
import math
import time

import pytest
import wandb
from run_directories import curve, write_run, write_sweep
from wandb_server import wandb_server

from mmtx.errors import UserError
from mmtx.process.stopping import Interrupted
from mmtx.run.sync import sync
from mmtx.run.wandb.file import read_wandb_file
from mmtx.run.wandb.log import WandbLog


@pytest.fixture
def server(monkeypatch):
    with wandb_server() as server:
        for name, value in server.environment.items():
            monkeypatch.setenv(name, value) if value else monkeypatch.delenv(name, raising=False)
        yield server
        wandb.teardown()


def log_offline(run, rows, error=None):
    """What a run that is logged offline does; `run` holds its metrics.jsonl already."""
    keywords = {"project": "mmtx", "entity": None, "tags": [], "mode": "offline", "checkpoints": []}
    log = WandbLog(run_dir=run, config={"name": "toy"}, **keywords)
    log.start()
    for row in rows:
        log.log_metrics({name: value for name, value in row.items() if name != "step"}, row["step"])
    log.finish(error)


def run_id(run):
    return json.loads((run / "wandb.json").read_text())["id"]


def test_a_sweep_is_uploaded_once_and_rebuilt_where_something_was_lost(tmp_path, server, capfd):
    sweep, rows = tmp_path / "sweep", curve(0.5)
    ends = {"whole": "finished", "pruned": "pruned", "resumed": "finished", "killed": "failed", "lost": "finished"}
    jobs = [(name, [f"optim.lr={i}e-3"], state, None) for i, (name, state) in enumerate(ends.items())]
    write_sweep(sweep, [*jobs, ("waits", ["optim.lr=9"], "waiting", None), ("runs", ["optim.lr=8"], "running", None)])
    for name, state in ends.items():
        write_run(sweep / name, rows, "interrupted" if state == "pruned" else state)
    write_run(sweep / "runs", rows, "running")

    log_offline(sweep / "whole", rows)
    log_offline(sweep / "pruned", rows, Interrupted(15))
    log_offline(sweep / "resumed", rows[:4], Interrupted(2))
    time.sleep(1.1)  # W&B names its folders by the second
    log_offline(sweep / "resumed", rows[4:])
    log_offline(sweep / "killed", rows[:2])

    assert sync([str(sweep)], 4) == 0
    said = capfd.readouterr().out
    assert "5 uploaded (2 rebuilt" in said and "1 still running, 1 without a row" in said
    assert len(server.runs) == 5
    for name, state in ends.items():
        sent = server.runs[run_id(sweep / name)]
        assert server.metric_rows(run_id(sweep / name)) == rows, name
        assert server.ended[run_id(sweep / name)] == (0 if state == "finished" else 1)
        assert sent["groupName"] == "sweep" and sent["displayName"].startswith("lr=")
        assert (state in sent["tags"]) == (state != "finished")

    server.rows.clear()
    assert sync([str(sweep)], 4) == 0
    assert "0 uploaded (0 rebuilt from metrics.jsonl), 5 were up" in capfd.readouterr().out
    assert server.rows == {}


def test_a_rebuilt_run_brings_its_pictures_and_tables(tmp_path, server, monkeypatch):
    run = write_run(tmp_path / "run", [{"step": 1, "a": None}, {"step": 2, "a": 0.5}])
    samples = run / "samples"
    samples.mkdir()
    (samples / "classify_step000002.jsonl").write_text('{"truth": "3", "predicted": "8", "right": false}\n')
    from matplotlib.figure import Figure

    Figure(figsize=(1, 1)).savefig(samples / "classify_step000002.png")
    with (run / "metrics.jsonl").open("a") as file:
        file.write('{"step": 3, "a"')  # the line that a power cut left
    monkeypatch.setattr("mmtx.run.sync.UPLOAD", ("true",))
    assert sync([str(run)], 1) == 1
    (file,) = run.glob("wandb/rebuilt/wandb/offline-run-*/run-*.wandb")
    content = read_wandb_file(file)
    assert [row["step"] for row in content.rows] == [1, 2]
    assert math.isnan(content.rows[0]["a"]) and content.rows[1]["a"] == 0.5
    assert content.config["name"] == "toy" and content.run["tags"] == ["toy", "t"]
    assert content.run["id"] == run_id(run) and content.exit_code == 0
    shown = {key.rpartition("/")[0]: row["step"] for row in content.media for key in row if key != "step"}
    assert shown == {"samples/classify": 2, "samples/classify_picture": 2}


def test_what_does_not_arrive_is_told_and_tried_again(tmp_path, server, monkeypatch, capfd):
    run = write_run(tmp_path / "run", curve(0.5))
    monkeypatch.setattr("mmtx.run.sync.UPLOAD", ("false",))
    assert sync([str(tmp_path)], 2) == 1
    assert str(run) in capfd.readouterr().err
    monkeypatch.undo()
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value) if value else monkeypatch.delenv(name, raising=False)
    assert sync([str(tmp_path)], 2) == 0
    assert server.metric_rows(run_id(run)) == curve(0.5)


def test_without_a_key_it_says_so(tmp_path, monkeypatch):
    write_run(tmp_path / "run", curve(0.5))
    monkeypatch.setenv("NETRC", "/nowhere/netrc")
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    with pytest.raises(UserError, match="no API key; see `wandb login`"):
        sync([str(tmp_path)], 2)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="holds no run"):
        sync([str(tmp_path / "empty")], 2)
