"""Quality against length, from metrics of slices that numbers name."""

import pytest
from run_directories import write_run, write_sweep

from mmtx.report.beside import beside
from mmtx.report.comparison import compare, short
from mmtx.report.sections import sliced
from mmtx.report.write_report import write_report
from mmtx.run.run_record import find_runs

ACCURACIES = {"lstm": (1.0, 0.9), "s4d": (0.6, 0.5)}


@pytest.fixture
def sweep(tmp_path):
    """Two mixers with two seeds, of which one run of the second lacks the longest slice."""
    jobs = []
    for mixer, (near, far) in ACCURACIES.items():
        for seed in (1, 2):
            name, row = f"{mixer},{seed}", {"step": 10, "val/loss": 1 - near, "test/accuracy/length=8": near}
            if (mixer, seed) != ("s4d", 2):
                row["test/accuracy/length=40"] = far - seed / 10
            row |= {"test/accuracy/speaker=ann": 0.1, "test/accuracy/speaker=bob": 0.2, "test/loss/length=8": 0.3}
            write_run(tmp_path / "s" / name, [row], "finished", config={"seed": seed})
            jobs.append((name, [f"backbone/attention={mixer}", f"seed={seed}"], "finished", None))
    return write_sweep(tmp_path / "s", jobs, ["experiment=parity"])


def test_curves_are_means_over_seeds_by_rising_numbers(sweep):
    (curves,) = sliced(compare(find_runs([sweep]), None, None))
    assert (curves.metric, curves.name, curves.numbers) == ("test/accuracy", "length", (8, 40))
    assert curves.curves == {
        "attention=lstm": [(8, 1.0), (40, pytest.approx((0.8 + 0.7) / 2))],
        "attention=s4d": [(8, 0.6), (40, pytest.approx(0.4))],
    }


def test_they_are_printed_and_drawn(sweep):
    printed = write_report([str(sweep)])
    assert "test/accuracy by length" in printed and "length=8  length=40" in printed
    page = (sweep / "report.html").read_text()
    assert "By length" in page and page.count("data:image/png") == 2  # over mixers, and against length


@pytest.fixture
def pools(tmp_path):
    """A sweep over tasks in a pool, whose runs have what two estimators reach; ridge is the same in all."""
    jobs = []
    for tasks, (model, pool) in {"16": (0.4, 0.4), "4": (0.35, 0.3), "1024": (0.62, 0.5)}.items():
        row = {"step": 10, "val/loss": model, "val/squared_error": model, "val/squared_error/of=pool": pool}
        row["val/squared_error/of=ridge"] = 0.6
        for number in (1, 2):
            row[f"val/squared_error/examples={number}"] = model / number
            row[f"val/squared_error/standard_error/examples={number}"] = 0.01
            row |= {
                f"val/squared_error/of={own}/examples={number}": v / number
                for own, v in (("pool", pool), ("ridge", 0.6))
            }
        write_run(tmp_path / "p" / tasks, [row], "finished", config={"seed": 0})
        jobs.append((tasks, [f"data.tasks={tasks}"], "finished", None))
    return write_sweep(tmp_path / "p", jobs, ["experiment=icl_regression"])


def test_other_estimators_are_lines_once_where_all_settings_share_them(pools):
    (curves,) = sliced(compare(find_runs([pools]), None, None))
    assert curves.metric == "val/squared_error" and curves.numbers == (1, 2)
    assert curves.curves["tasks=4"] == [(1, 0.35), (2, 0.175)] and curves.errors["tasks=4"] == {1: 0.01, 2: 0.01}
    assert {*curves.lines} == {"ridge", *(f"pool, tasks={tasks}" for tasks in (4, 16, 1024))}
    assert curves.lines["ridge"] == [(1, 0.6), (2, 0.3)]


def test_a_sweep_over_numbers_is_drawn_beside_other_estimators(pools):
    (found,) = beside(compare(find_runs([pools]), None, None))
    assert (found.axis, found.values) == ("data.tasks", ["4", "16", "1024"])
    assert found.curves == {"model": [0.35, 0.4, 0.62], "pool": [0.3, 0.4, 0.5], "ridge": [0.6, 0.6, 0.6]}
    printed = write_report([str(pools)])
    assert "val/squared_error by data.tasks, beside other estimators" in printed
    page = (pools / "report.html").read_text()
    assert page.count("data:image/png") == 2  # against examples, and along the axis


def test_runs_that_are_no_sweep_over_a_number_have_no_such_section(sweep):
    assert beside(compare(find_runs([sweep]), None, None)) == []


def test_a_setting_that_is_a_class_has_a_label_that_a_legend_shows():
    assert [short(axis) for axis in ("optim.lr", "backbone/mlp", "backbone.mlp._target_")] == ["lr", "mlp", "mlp"]


def test_models_on_tasks_have_a_picture_for_each_task_at_their_best_rates(tmp_path):
    """Two models on two tasks at two rates: the second rate is better for one model, and reaches the lengths it has."""
    jobs = []
    for task in ("parity", "mqar"):
        for mixer in ("lstm", "s4d"):
            for rate in ("1e-3", "1e-2"):
                best = (mixer == "lstm") == (rate == "1e-3")
                name, row = f"{task},{mixer},{rate}", {"step": 10, "val/loss": 0.1 if best else 0.5}
                for length in (8, 40) if task == "parity" else (16, 64):
                    row[f"test/accuracy/length={length}"] = (0.9 if best else 0.2) - length / 1000
                write_run(tmp_path / "b" / name, [row], "finished", config={"seed": 0})
                jobs.append(
                    (name, [f"experiment={task}", f"backbone/attention={mixer}", f"optim.lr={rate}"], "finished", None)
                )
    board = write_sweep(tmp_path / "b", jobs, [])
    parity, mqar = sliced(compare(find_runs([board]), None, None))
    assert (parity.task, parity.numbers, mqar.task, mqar.numbers) == ("parity", (8, 40), "mqar", (16, 64))
    assert parity.curves == {mixer: [(8, pytest.approx(0.892)), (40, pytest.approx(0.86))] for mixer in ("lstm", "s4d")}
    printed = write_report([str(board)])
    assert "test/accuracy by length (parity)" in printed and "test/accuracy by length (mqar)" in printed
