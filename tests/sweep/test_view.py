"""What a person sees of a sweep."""

import json

from mmtx.sweep.progress import Progress, read_progress
from mmtx.sweep.record import Job, Sweep
from mmtx.sweep.view import Lines, Table, cells, duration


def test_progress_is_read_from_the_end_of_the_log(tmp_path):
    assert read_progress(tmp_path, "val/loss") == Progress(None, None, None)
    rows = [{"step": step, "time": 1000.0 + step / 4, "train/loss": 1.0} for step in range(1, 2001)]
    rows[-3]["val/loss"] = 0.5
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows) + '{"step": 20')
    assert read_progress(tmp_path, "val/loss") == Progress(2000, 0.5, 4.0)
    assert read_progress(tmp_path, None).metric is None


def test_what_is_left_follows_from_the_speed():
    assert cells(Progress(100, 0.25, 2.0), 300) == ("100/300", "0.25", "2", "1:40")
    assert cells(Progress(None, None, None), 300) == ("starting", "", "", "")
    assert cells(Progress(3, None, None), None) == ("3", "", "", "")
    assert duration(3723.0) == "1:02:03"


def test_the_table_is_drawn_over_and_failures_stay(tmp_path, capsys):
    jobs = [Job("a", ["seed=1"], state="running", device="cuda:0", steps=10), Job("b", ["seed=2"])]
    sweep = Sweep(tmp_path, [], None, "", "running", jobs)
    table = Table(metric=None)
    table.show(sweep, jobs[:1])
    first = capsys.readouterr().out
    assert "seed=1  cuda:0  starting" in first and first.endswith("1 running, 1 waiting\n")
    jobs[0].state, jobs[0].reason = "failed", "was killed by SIGKILL"
    table.ended(jobs[0])
    table.show(sweep, [])
    second = capsys.readouterr().out
    assert (
        second.startswith(f"\x1b[{first.count(chr(10))}A\r\x1b[J") and "failed   a  was killed by SIGKILL\n" in second
    )
    Lines().ended(jobs[0])
    assert capsys.readouterr().out == "failed   a  was killed by SIGKILL\n"
