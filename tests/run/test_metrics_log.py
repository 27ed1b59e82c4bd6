"""The record of truth."""

import json
import os
from types import SimpleNamespace

from mmtx.run.metrics_log import MetricsLog


def steps(file):
    return [json.loads(line)["step"] for line in file.read_text().splitlines()]


def test_a_log_is_taken_up_where_the_checkpoint_left_it(tmp_path):
    file = tmp_path / "metrics.jsonl"
    log = MetricsLog(file)
    for step in range(1, 6):
        log.log_metrics({"loss": 1.0}, step)
    assert log.secure() == 5
    log.close()
    with file.open("a") as torn:
        torn.write('{"step": 6, "lo')
    again = MetricsLog(file, keep=3)
    again.log_metrics({"loss": 2.0}, 4)
    assert again.secure() == 4 and steps(file) == [1, 2, 3, 4]
    old = (tmp_path / "metrics.superseded.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in old[:2]] == [4, 5] and old[2] == '{"step": 6, "lo'


def test_a_full_disk_costs_lines_and_not_the_run(tmp_path, capfd):
    file = tmp_path / "metrics.jsonl"
    os.symlink("/dev/full", file)
    log = MetricsLog(file)
    for step in range(3):
        log.log_metrics({"loss": 1.0}, step)
    assert log.secure() == 0
    log.close()
    lines = capfd.readouterr().err.splitlines()
    assert len(lines) == 2 and "No space left" in lines[0] and "3 lines of metrics were lost" in lines[1]


def test_a_disk_that_is_full_for_a_while_leaves_no_half_line(tmp_path, monkeypatch):
    file = tmp_path / "metrics.jsonl"
    log = MetricsLog(file)
    log.log_metrics({"loss": 1.0}, 1)
    whole = log._file
    half = SimpleNamespace(write=lambda line: whole.write(line[:9]), truncate=whole.truncate, name=whole.name)
    monkeypatch.setattr(log, "_file", half)
    log.log_metrics({"loss": 1.0}, 2)
    monkeypatch.setattr(log, "_file", whole)
    log.log_metrics({"loss": 1.0}, 3)
    log.close()
    assert steps(file) == [1, 3]
