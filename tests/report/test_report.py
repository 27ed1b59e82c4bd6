"""``mmtx report``: what it ranks, what it leaves out and says so, and what it writes."""

import csv
import json
import os
import re
import statistics

import pytest
from run_cli import mmtx, text_of
from run_directories import curve, write_run, write_sweep

from mmtx.commands.main import main
from mmtx.errors import InvalidValue, UserError
from mmtx.metric_directions import KNOWN
from mmtx.objectives.text_metrics import BLEU, CharacterErrorRate, ExactMatch, PhonemeErrorRate, WordErrorRate
from mmtx.report.comparison import compare, in_order, rounded
from mmtx.report.plots import is_logarithmic
from mmtx.report.table import plus_minus, spread
from mmtx.report.write_report import write_report
from mmtx.run.run_record import find_runs, read_run

LOSSES = {("1e-3", 1): 0.40, ("1e-3", 2): 0.44, ("3e-3", 1): 0.31, ("3e-3", 2): 0.30, ("1e-2", 1): 0.9}
COMMAND = ["experiment=vit_digits", "optim.lr=1e-3,3e-3,1e-2", "seed=1,2", "trainer.max_steps=30"]


@pytest.fixture
def sweep(tmp_path):
    """Three learning rates with two seeds; of the last, one failed and one is going on."""
    jobs = []
    for (lr, seed), loss in LOSSES.items():
        name, failed = f"lr={lr},seed={seed}", lr == "1e-2"
        jobs.append((name, [f"optim.lr={lr}", f"seed={seed}"], "failed" if failed else "finished", None))
        rows = curve(loss)[:4] if failed else [*curve(loss), {"step": 30, "val/accuracy": 1 - loss}]
        write_run(tmp_path / "s" / name, rows, "failed" if failed else "finished", config={"seed": seed})
    jobs[-1] = (*jobs[-1][:3], "RuntimeError: out of memory")
    jobs += [("goes_on", ["optim.lr=1e-2", "seed=2"], "running", None), ("waits", ["optim.lr=1e-1"], "waiting", None)]
    write_run(tmp_path / "s" / "goes_on", curve(0.8)[:2], "running")
    return write_sweep(tmp_path / "s", jobs, COMMAND)


def test_settings_are_ranked_by_their_mean_over_seeds(sweep):
    found = compare(find_runs([sweep]), None, None)
    assert (found.metric, found.maximise, found.axes) == ("val/loss", False, ("optim.lr",))
    assert [setting.values for setting in found.settings] == [{"optim.lr": "3e-3"}, {"optim.lr": "1e-3"}]
    best = found.settings[0]
    assert best.mean == statistics.fmean([0.30, 0.31]) and best.sd == statistics.stdev([0.30, 0.31])
    assert found.best_run.path.name == "lr=3e-3,seed=2"
    assert [record.path.name for record, _ in found.unfinished] == ["lr=1e-2,seed=1", "goes_on", "waits"]


def test_what_the_command_prints_and_writes(sweep, tmp_path):
    done = mmtx("report", str(sweep), cwd=tmp_path)
    assert done.returncode == 0, text_of(done)
    lines = done.stdout.splitlines()
    assert lines[0] == "s: 7 runs (4 finished, 1 failed, 1 running, 1 waiting)"
    (first,) = [line for line in lines if re.match(r"\s+1\s+3e-3", line)]
    assert "0.3050 ± 0.0071  2" in first
    assert any("lr=1e-2" in line and "failed" in line and "out of memory" in line for line in lines)
    typed = "mmtx train experiment=vit_digits trainer.max_steps=30 optim.lr=3e-3 seed=2"
    assert f"best: {typed}\n      {sweep}/lr=3e-3,seed=2" in done.stdout

    with (sweep / "report.csv").open() as file:
        table = list(csv.DictReader(file))
    assert len(table) == 7
    assert {row["optim.lr"]: row["state"] for row in table}["1e-1"] == "waiting"
    assert float(table[3]["val/loss"]) == 0.30 and float(table[3]["val/accuracy"]) == 0.70

    page = (sweep / "report.html").read_text()
    assert page.count("data:image/png;base64,iVBOR") == 2  # the axis, and the curves
    assert not re.search(r"(src|href)=\"(?!data:)", page)
    assert "out of memory" in page and "0.3050 ± 0.0071" in page


def test_another_metric_with_its_own_direction(sweep):
    found = compare(find_runs([sweep]), "val/accuracy", None)
    assert found.maximise and found.settings[0].values == {"optim.lr": "3e-3"}
    with pytest.raises(InvalidValue, match="^mode=min contradicts metric=val/accuracy, which is better higher"):
        compare(find_runs([sweep]), "val/accuracy", "min")
    with pytest.raises(InvalidValue, match="metric=val/acuracy was not logged; did you mean 'val/accuracy'"):
        compare(find_runs([sweep]), "val/acuracy", None)
    with pytest.raises(InvalidValue, match="is not the name of a metric"):
        compare(find_runs([sweep]), ["val/loss"], None)
    with pytest.raises(InvalidValue, match="mode=up is neither min nor max"):
        compare(find_runs([sweep]), None, "up")


def test_losses_of_different_objectives_are_not_compared_silently(tmp_path):
    for name, objectives in (("dense", ["next_token"]), ("experts", ["next_token", "experts"])):
        rows = [*curve(0.4), {"step": 30, "val/bits_per_byte": 2.0}]
        config = {"objective": {each: {"weight": 1.0} for each in objectives}}
        write_run(tmp_path / name, rows, "finished", config=config)
    line = "the runs differ in their objectives, whose losses it adds; metrics of all: val/bits_per_byte"
    assert line in write_report([str(tmp_path)])
    assert line not in write_report([str(tmp_path)], metric="val/bits_per_byte")


def test_equal_objectives_have_equal_losses(sweep):
    assert not compare(find_runs([sweep]), None, None).losses_differ


@pytest.mark.parametrize(
    ("metric", "maximise"),
    [
        ("val/loss", False),
        ("test/x/perplexity", False),
        ("val/wer", False),
        ("test/per", False),
        ("val/ctc/too_long", False),
        ("val/bleu", True),
        ("val/return", True),
    ],
)
def test_the_direction_follows_from_the_metric(tmp_path, metric, maximise):
    write_run(tmp_path / "r", [{"step": 1, metric: 1.0}])
    assert compare(find_runs([tmp_path]), metric, None).maximise == maximise


@pytest.mark.parametrize("metric", ["test/episode_length", "train/grad_norm/text"])
def test_where_it_does_not_follow_one_has_to_say_it(tmp_path, metric):
    write_run(tmp_path / "r", [{"step": 1, metric: 1.0}])
    with pytest.raises(InvalidValue, match=f"metric={metric} is not better for being more or less; set mode="):
        compare(find_runs([tmp_path]), metric, None)
    assert compare(find_runs([tmp_path]), metric, "max").maximise
    assert not compare(find_runs([tmp_path]), metric, "min").maximise


@pytest.mark.parametrize("kind", [WordErrorRate, CharacterErrorRate, PhonemeErrorRate])
def test_every_error_rate_is_better_lower(kind):
    assert kind.direction == KNOWN[kind.name] == "min"
    assert BLEU.direction == KNOWN["bleu"] == ExactMatch.direction == KNOWN["exact_match"] == "max"


def test_broken_lines_and_files_are_passed_over(tmp_path):
    run = write_run(tmp_path / "r", curve(0.5), "running")
    with (run / "metrics.jsonl").open("ab") as file:
        file.write(b'{"step": 40, "val/loss": NaN}\n\xff\xfe garbage\n[1, 2]\n{"val/loss": 3}\n{"step": 50, "val/l')
    (run / "metrics.json").write_text("{")
    (run / "status.json").write_text("")
    record = read_run(run)
    assert record.num_steps == 40 and "val/loss" not in record.metrics  # what is NaN at the end is not 0.5
    assert record.curve("val/loss") == [(10, 1.5), (20, 1.0), (30, 0.5)]
    write_sweep(tmp_path / "empty", [])
    assert "1 run (1 running)" in write_report([str(run)])


def test_what_was_logged_again_after_a_resume_counts_once(tmp_path):
    run = write_run(tmp_path / "r", [*curve(0.9), {"step": 20, "val/loss": 0.7}, {"step": 30, "val/loss": 0.6}])
    assert read_run(run).curve("val/loss") == [(10, 1.9), (20, 0.7), (30, 0.6)]


def test_runs_of_several_places_differ_by_their_configs(tmp_path):
    shared = {"optim": {"lr": 0.1}, "logger": {"a": {"x": 1}}}
    for i, (dim, modality) in enumerate([(32, ["image"]), (64, ["image"]), (64, ["image", "audio"])]):
        config = {**shared, "seed": i % 2, "backbone": {"dim": dim}, "modality": {name: {"p": 4} for name in modality}}
        write_run(tmp_path / str(i), [{"step": 1, "val/loss": 1.0 - i / 10}], config=config)
    places = [str(tmp_path / str(i)) for i in range(3)]
    found = compare(find_runs(places), None, None)
    assert found.axes == ("backbone.dim", "modality")
    assert [s.values["modality"] for s in found.settings] == ["[image,audio]", "[image]", "[image]"]
    printed = write_report(places)
    assert (tmp_path / "report.html").is_file() and (tmp_path / "report.csv").is_file()
    assert f"--config {tmp_path / '2' / 'config.yaml'}" in printed


@pytest.mark.parametrize(
    ("axes", "pictures"),
    [
        ({}, 1),
        ({"backbone/mlp": ["gelu", "swiglu"]}, 2),
        ({"optim.lr": ["1e-4", "1e-3", "1e-2"], "backbone.dim": ["32", "64"]}, 2),
        ({"a": ["x", "y"], "b": ["u", "v"]}, 2),
        ({"a": ["x", "y"], "b": ["1", "2"], "c": ["0.1", "0.2"]}, 2),
        ({"modality": ["[image]", "[audio]", "[image,audio]"]}, 2),
        ({"modality": ["[image]", "[audio]", "[image,audio]"], "backbone.dim": ["32", "64"]}, 4),
    ],
    ids=["none", "names", "lines", "map", "many", "modality", "modality and another"],
)
def test_every_kind_of_sweep_is_drawn(tmp_path, axes, pictures):
    jobs = [[]]
    for axis, values in axes.items():
        jobs = [[*job, f"{axis}={value}"] for job in jobs for value in values]
    for i in range(len(jobs)):
        write_run(tmp_path / "s" / f"job{i}", curve(0.5 + i / 10))
    write_sweep(tmp_path / "s", [(f"job{i}", overrides, "finished", None) for i, overrides in enumerate(jobs)])
    write_report([str(tmp_path / "s")], out=str(tmp_path / "out"))
    assert (tmp_path / "out" / "report.html").read_text().count("data:image/png") == pictures


def test_a_sweep_that_has_only_begun_has_a_report(tmp_path):
    write_sweep(tmp_path / "s", [("a", ["seed=1"], "waiting", None), ("b", ["seed=2"], "running", None)])
    write_run(tmp_path / "s" / "b", [{"step": 1, "train/loss": 3.0}, {"step": 2, "train/loss": 2.0}], "running")
    assert "2 runs (1 waiting, 1 running)" in write_report([str(tmp_path / "s")])


def test_the_sweeps_state_of_a_killed_job_is_kept(tmp_path):
    write_sweep(tmp_path / "s", [("a", ["seed=1"], "failed", "was killed by SIGKILL"), ("b", [], "running", None)])
    write_run(tmp_path / "s" / "a", curve(0.5), "running")
    gone = write_run(tmp_path / "s" / "b", curve(0.5), "running")
    (gone / "status.json").write_text(json.dumps({"state": "running", "pid": 2**22 + 1}))
    assert (read_run(tmp_path / "s" / "a").state, read_run(tmp_path / "s" / "a").reason[:10]) == (
        "failed",
        "was killed",
    )
    assert read_run(gone).state == "running"  # it may be on another machine, while it writes
    long_ago = 1.0
    for name in ("status.json", "metrics.jsonl"):
        os.utime(gone / name, (long_ago, long_ago))
    assert (read_run(gone).state, read_run(gone).reason) == ("interrupted", "its process is gone")


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("empty=chance", "empty=chance is not a number"),
        ("out={here}/sweep.json/x", "cannot be written"),
        ("emty=1", "did you mean 'empty'?"),
    ],
    ids=["empty", "out", "unknown"],
)
def test_options_that_cannot_be_are_refused(sweep, option, message, capsys):
    assert main(["report", str(sweep), option.format(here=sweep)]) == 2
    assert message in capsys.readouterr().err


def test_paths_that_hold_nothing_are_refused(tmp_path):
    done = mmtx("report", "nowhere", cwd=tmp_path)
    assert done.returncode == 2 and "nowhere is not a directory" in done.stderr
    done = mmtx("report", ".", cwd=tmp_path)
    assert done.returncode == 2 and "holds no run" in done.stderr
    done = mmtx("report", ".", "metrik=x", cwd=tmp_path)
    assert done.returncode == 2 and "did you mean 'metric'" in done.stderr


def test_numbers_are_written_to_the_place_where_they_begin_to_be_uncertain():
    assert spread([0.98123, 0.97904]) == "0.9801 ± 0.0015"
    assert spread([123.4, 140.2]) == "132 ± 12"
    assert spread([0.5]) == "0.5" and spread([]) == "" and spread([0.5, 0.5]) == "0.5 ± 0"
    assert plus_minus(0.17, 0.0424, "+") == "+0.170 ± 0.042"
    assert rounded("0.0036870415185558955") == "0.003687" and rounded("1e-3") == "1e-3"
    assert rounded("[image,audio]") == "[image,audio]"


def test_axes_are_logarithmic_where_values_are_spread_so():
    assert is_logarithmic([1e-4, 1e-3, 1e-2]) and is_logarithmic([32.0, 64.0, 128.0, 256.0])
    assert is_logarithmic([1e-4, 1e-3, 3e-3])
    assert (
        not is_logarithmic([0.0, 0.1, 0.2])
        and not is_logarithmic([1.0, 2.0, 3.0, 4.0, 5.0])
        and not is_logarithmic([1.0])
    )
    assert in_order(["1e-2", "3", "1e-3"]) == ["1e-3", "1e-2", "3"] and in_order(["b", "a"]) == ["b", "a"]


@pytest.mark.parametrize("jobs", [[1, {"x": 2}], {"a": 1}, None])
def test_a_manifest_of_no_jobs_is_no_sweep(jobs, tmp_path):
    (tmp_path / "sweep.json").write_text(json.dumps({"jobs": jobs}))
    with pytest.raises(UserError, match="holds no run"):
        find_runs([tmp_path])
