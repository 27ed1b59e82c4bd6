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
    assert "seed=1  running  cuda:0  starting\nseed=2  waiting\n" in first and first.endswith("1 running, 1 waiting\n")
    jobs[0].state, jobs[0].reason = "failed", "was killed by SIGKILL"
    table.ended(jobs[0])
    table.show(sweep, [])
    second = capsys.readouterr().out
    assert (
        second.startswith(f"\x1b[{first.count(chr(10))}A\r\x1b[J") and "failed   a  was killed by SIGKILL\n" in second
    )
    Lines(metric=None).ended(jobs[0])
    assert capsys.readouterr().out == "failed   a  was killed by SIGKILL\n"


def three_jobs(folder):
    """One that runs, one that has ended, one that waits."""
    long = ["optim.lr=0.001", "data.vocabulary.path=/a/folder/with/a/long/name/of/its/own/vocabulary.json", "seed=3"]
    jobs = [Job("a", ["seed=1"], state="running", device="cpu:0", steps=300)]
    jobs += [Job("b", ["seed=2"], state="finished", device="cpu:1", steps=300), Job("c", long)]
    for job, steps in ((jobs[0], 100), (jobs[1], 300)):
        rows = [{"step": step, "time": 1000.0 + step / 4, "val/loss": 1 / step} for step in (steps - 40, steps)]
        (folder / job.name).mkdir()
        (folder / job.name / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return jobs


def test_a_terminal_shows_where_each_job_is(tmp_path, capsys, monkeypatch):
    """State, step of the total, latest metric; the words of a job give way to what is measured."""
    monkeypatch.setenv("COLUMNS", "80")
    jobs = three_jobs(tmp_path)
    Table(metric="val/loss").show(Sweep(tmp_path, [], None, "", "running", jobs), [jobs[0]])
    head, *lines, total = capsys.readouterr().out.removeprefix("\r\x1b[J").splitlines()
    assert head.split() == ["job", "state", "device", "step", "val/loss", "steps/s", "left"]
    assert lines[0].split() == ["seed=1", "running", "cpu:0", "100/300", "0.01", "4", "0:50"]
    assert lines[1].split() == ["seed=2", "finished", "cpu:1", "300/300", "0.003333"]
    assert lines[2].startswith("optim.lr=0.001 data") and lines[2].endswith("…  waiting")
    assert all(len(line) <= 80 for line in (head, *lines)) and total == "1 finished, 1 running, 1 waiting"


def test_a_file_gets_a_line_for_each_running_job_now_and_then(tmp_path, capsys, monkeypatch):
    jobs, moment = three_jobs(tmp_path), [0.0]
    monkeypatch.setattr("mmtx.sweep.view.time.monotonic", lambda: moment[0])
    lines = Lines(metric="val/loss")
    for moment[0] in (29.0, 31.0, 32.0):
        lines.show(Sweep(tmp_path, [], None, "", "running", jobs), [jobs[0]])
    assert capsys.readouterr().out.splitlines() == [
        "running  a  100/300  val/loss 0.01  0:50 left",
        "1 finished, 1 running, 1 waiting",
    ]
