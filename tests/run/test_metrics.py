"""The record of truth."""

import json
import os

from mmtx.run.metrics import MetricsLog


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
    said = capfd.readouterr().err.splitlines()
    assert len(said) == 2 and "No space left" in said[0] and "3 lines of metrics were lost" in said[1]
