"""Every row of metrics.jsonl in Lightning's own loggers, also of a run that was stopped and resumed."""

import csv
import json
import math
import re

import pytest
from lightning.pytorch.loggers import Logger
from run_cli import TINY
from test_resume import play

from mmtx.config.compose import compose
from mmtx.errors import ConfigErrors
from mmtx.experiment import assemble
from mmtx.run.directory import RunDirectory
from mmtx.run.job import execute, prepare

SMALL = ["experiment=spell_digits", *TINY, "callbacks=[samples]", "trainer.val_every_steps=2", "trainer.max_steps=5"]


class Own(Logger):
    """A logger as users write them, which fails in the middle of a run."""

    name, version = "own", 0
    calls: list[str] = []

    def __init__(self, *, run_dir, limit):
        super().__init__()
        self.run_dir, self.limit = run_dir, limit

    def log_metrics(self, metrics, step=None):
        self.calls.append(f"row {step}")
        if len(self.calls) > self.limit:
            raise ConnectionError("the server has gone")

    def log_hyperparams(self, params):
        self.calls.append(params["name"])


def train(folder, *overrides):
    """The directory of a run in this process."""
    experiment, run = assemble(compose([*SMALL, *overrides])), RunDirectory(folder)
    prepare(experiment.config, run)
    assert execute(experiment, run) == 0
    return run.path


def logged(run):
    """``{(step, metric): value}`` of metrics.jsonl."""
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    points = {(r["step"], k): v for r in rows for k, v in r.items() if k not in ("step", "time")}
    return {point: math.nan if value is None else value for point, value in points.items()}


def in_csv(folder):
    with (folder / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    return {(int(r["step"]), k): float(v) for r in rows for k, v in r.items() if k != "step" and v}


def events_of(folder):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder), size_guidance={"scalars": 0})
    return events.Reload()


def in_tensorboard(folder):
    events = events_of(folder)
    return {(e.step, tag): e.value for tag in events.Tags()["scalars"] for e in events.Scalars(tag)}


def test_every_row_is_in_the_table(tmp_path):
    run = train(tmp_path, "logger=[csv]")
    points = logged(run)
    assert {name for _, name in points} >= {"train/loss", "val/loss", "test/loss"}
    assert in_csv(run / "csv" / "version_0") == pytest.approx(points, nan_ok=True)


def test_every_row_is_in_tensorboard_and_samples_are_shown(tmp_path):
    pytest.importorskip("tensorboard", reason="needs mmtx[loggers]")
    run = train(tmp_path, "logger=[tensorboard,csv]")
    folder = run / "tensorboard" / "version_0"
    assert in_tensorboard(folder) == pytest.approx(logged(run), rel=1e-6, nan_ok=True)  # in 32 bits
    tags = events_of(folder).Tags()
    assert "samples/next_token" in tags["images"] and "samples/next_token/text_summary" in tags["tensors"]
    assert in_csv(run / "csv" / "version_0") == pytest.approx(logged(run), nan_ok=True)


def test_every_row_is_in_mlflow_and_samples_are_kept(tmp_path, monkeypatch):
    pytest.importorskip("mlflow", reason="needs mmtx[loggers]")
    from mlflow.tracking import MlflowClient

    monkeypatch.chdir(tmp_path)  # where files of samples go
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    run = train(tmp_path / "run", "logger=[mlflow]", f"logger.mlflow.tracking_uri={uri}")
    client = MlflowClient(uri)
    (kept,) = client.search_runs([client.get_experiment_by_name("mmtx").experiment_id])
    assert kept.info.status == "FINISHED" and kept.data.params["optim/lr"] and kept.info.run_name == "spell_digits run"
    history = {name: client.get_metric_history(kept.info.run_id, name) for name in kept.data.metrics}
    assert {(m.step, k): m.value for k, found in history.items() for m in found} == pytest.approx(logged(run))
    files = {file.path for file in client.list_artifacts(kept.info.run_id, "samples")}
    assert {f"samples/{file.name}" for file in (run / "samples").glob("next_token_step*")} <= files


def test_a_run_that_goes_on_has_a_whole_record(tmp_path):
    words = ["train", *SMALL, "logger=[csv]", "checkpoint.every_steps=2", "run_dir=run"]
    cases = [{"words": words, "at": "step.after_backward", "nth": 4}, {"words": ["resume", "run"]}]
    stopped, resumed = play([{"cwd": str(tmp_path), **case} for case in cases])
    assert (stopped["code"], resumed["code"]) == (-9, 0), resumed["output"]
    assert in_csv(tmp_path / "run" / "csv" / "version_1") == pytest.approx(logged(tmp_path / "run"), nan_ok=True)


def test_a_users_logger_that_fails_costs_itself_only(tmp_path, capsys):
    Own.calls.clear()
    own = [f"plugins=[{__name__}]", f"+logger.own={{_target_: {__name__}.Own, _partial_: true, limit: 3}}"]
    run = train(tmp_path, "logger=[csv]", *own)
    assert Own.calls == ["spell_digits", "row 1", "row 2", "row 2"]
    assert re.findall("warning: (Own failed.*)", capsys.readouterr().err) == [
        "Own failed (ConnectionError: the server has gone); going on without it, metrics.jsonl has everything"
    ]
    assert in_csv(run / "csv" / "version_0") == pytest.approx(logged(run), nan_ok=True)


@pytest.mark.parametrize(("name", "package"), [("tensorboard", "tensorboard"), ("mlflow", "mlflow")])
def test_a_package_that_is_not_there_is_named(name, package, monkeypatch):
    monkeypatch.setattr("mmtx.training.loggers.find_spec", lambda _: None)
    with pytest.raises(ConfigErrors, match=rf"1 problem(.|\n)*logger.{name}.*{package}: pip install 'mmtx\[loggers\]'"):
        assemble(compose([*SMALL, f"logger=[{name}]"]))


def test_what_is_no_logger_is_refused():
    with pytest.raises(ConfigErrors, match="1 problem(.|\n)*logger.x._target_=Linear is no logger"):
        assemble(compose([*SMALL, "+logger.x={_target_: torch.nn.Linear, in_features: 1, out_features: 1}"]))
