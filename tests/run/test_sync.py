"""Runs arrive once, rebuilt from metrics.jsonl and samples/, whole, and marked as they ended."""

import json
import math
import time

import numpy
import PIL.Image
import pytest
import soundfile
import wandb
from matplotlib.figure import Figure
from run_directories import curve, write_run, write_sweep
from wandb_server import wandb_server

from mmtx.errors import UserError
from mmtx.process.stopping import Interrupted
from mmtx.run.sync import sync
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


@pytest.mark.slow
def test_a_sweep_is_uploaded_once(tmp_path, server, capfd):
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

    assert sync([str(sweep)], parallel=4) == 0
    assert "5 uploaded, 0 were up, 1 still running, 1 without a row, 0 failed" in capfd.readouterr().out
    assert len(server.runs) == 5
    for name, state in ends.items():
        sent = server.runs[run_id(sweep / name)]
        assert server.metric_rows(run_id(sweep / name)) == rows, name
        assert server.ended[run_id(sweep / name)] == (0 if state == "finished" else 1)
        assert sent["groupName"] == "sweep" and sent["displayName"].startswith("lr=")
        assert (state in sent["tags"]) == (state != "finished")

    server.rows.clear()
    assert sync([str(sweep)], parallel=4) == 0
    assert "0 uploaded, 5 were up" in capfd.readouterr().out
    assert server.rows == {}


def test_samples_checkpoints_and_what_is_not_a_number_arrive(tmp_path, server):
    wandb_log = {"_target_": "mmtx.run.WandbLog", "project": "mmtx", "tags": ["t"], "checkpoints": ["last", "best"]}
    rows = [{"step": 1, "a": None}, {"step": 2, "a": 0.5}]
    run = write_run(tmp_path / "run", rows, config={"logger": {"wandb": wandb_log}})
    (run / "checkpoints").mkdir()
    (run / "checkpoints" / "last.ckpt").write_bytes(b"weights")
    samples = run / "samples"
    (samples / "cart").mkdir(parents=True)
    (samples / "classify_step000002.jsonl").write_text('{"truth": "3", "predicted": "8", "right": false}\n' * 2)
    soundfile.write(samples / "classify_step000002_1.wav", numpy.zeros(80), 8000)
    for name in ("classify_step000002.png", "attention_step000002.png", "cart/episode_step000002.png"):
        Figure(figsize=(1, 1)).savefig(samples / name)
    PIL.Image.new("L", (4, 4)).save(samples / "cart" / "episode_step000002.gif")
    with (run / "metrics.jsonl").open("a") as file:
        file.write('{"step": 3, "a"')  # the line that a power cut left
    assert sync([str(run)], parallel=1) == 0
    first, second = server.metric_rows(run_id(run))
    assert math.isnan(first["a"]) and second == {"a": 0.5, "step": 2}
    sent = server.runs[run_id(run)]
    assert sent["tags"] == ["toy", "t"] and json.loads(sent["config"])["name"]["value"] == "toy"
    shown = server.samples(run_id(run))
    assert {name: kind["_type"] for name, kind in shown.items()} == {
        "samples/attention": "image-file",
        "samples/cart_episode": "image-file",
        "samples/cart_episode_film": "video-file",
        "samples/classify": "table-file",
        "samples/classify_picture": "image-file",
    }
    assert (shown["samples/classify"]["nrows"], shown["samples/classify"]["ncols"]) == (2, 4)
    assert f"{run_id(run)}-last" in str(server.artifacts) and f"{run_id(run)}-best" not in str(server.artifacts)


def test_what_does_not_arrive_is_reported_and_tried_again(tmp_path, server, monkeypatch, capfd):
    run = write_run(tmp_path / "run", curve(0.5))
    monkeypatch.setattr("mmtx.run.sync.UPLOAD", ("false",))
    assert sync([str(tmp_path)], parallel=2) == 1
    assert str(run) in capfd.readouterr().err
    monkeypatch.undo()
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value) if value else monkeypatch.delenv(name, raising=False)
    assert sync([str(tmp_path)], parallel=2) == 0
    assert server.metric_rows(run_id(run)) == curve(0.5)


def test_without_a_key_nothing_is_uploaded(tmp_path, monkeypatch):
    write_run(tmp_path / "run", curve(0.5))
    monkeypatch.setenv("NETRC", "/nowhere/netrc")
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    with pytest.raises(UserError, match="no API key; see `wandb login`"):
        sync([str(tmp_path)], parallel=2)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="holds no run"):
        sync([str(tmp_path / "empty")], parallel=2)
