"""Sections of a report: best learning rates, models by tasks, and the law of scaling, from sweeps written by hand."""

import json
import math

import pytest
from run_directories import write_run, write_sweep

from mmtx.nn.roles import LOOKED_UP
from mmtx.report.comparison import compare
from mmtx.report.crossing import crossing
from mmtx.report.scaling import TABLES, scalings, size_of
from mmtx.report.scaling_law import Law
from mmtx.report.tuning import tuned
from mmtx.report.write_report import write_report
from mmtx.run.run_record import find_runs, read_run

LAW = Law(E=1.0, A=30.0, B=200.0, alpha=0.5, beta=0.45)


def sweep(path, jobs, metric="val/loss"):
    """A sweep of (overrides, value of the metric, more of the last row, parameters)."""
    listed = []
    for place, (overrides, value, more, parameters) in enumerate(jobs):
        listed.append((f"job{place}", overrides, "finished", None))
        run = write_run(path / f"job{place}", [{"step": 10, metric: value, **more}], config={"seed": place})
        (run / "environment.json").write_text(json.dumps({"num_parameters": parameters}))
    return write_sweep(path, listed)


def bowl(rate, best):
    return 1 + (math.log(rate) - math.log(best)) ** 2


def test_best_rates_are_found_with_the_vertex_between_them(tmp_path):
    rates = {"64": 2.5e-3, "256": 6e-4, "512": 1e-5}
    jobs = [
        ([f"backbone.dim={dim}", f"optim.lr={rate}"], bowl(rate, best), {}, {})
        for dim, best in rates.items()
        for rate in (5e-4, 1e-3, 2e-3, 4e-3)
    ]
    found = tuned(compare(find_runs([sweep(tmp_path / "s", jobs)]), None, None))
    assert [(each.others["backbone.dim"], each.best.values["optim.lr"]) for each in found] == [
        ("64", "0.002"),
        ("256", "0.0005"),
        ("512", "0.0005"),
    ]
    assert [each.end for each in found] == ["", "lowest", "lowest"]
    assert found[0].vertex == pytest.approx(2.5e-3) and found[1].vertex is None
    printed = write_report([str(tmp_path / "s")])
    assert "the best learning rate" in printed and "at the lowest rate tried" in printed


@pytest.mark.parametrize(
    ("losses", "best"), [((0.5, 0.1, 0.1, 0.1), "1e-2"), ((0.5, 0.3, 0.1, 0.1), "1e-2"), ((0.1, 0.1, 0.3, 0.5), "3e-3")]
)
def test_of_rates_that_are_equally_good_one_that_others_enclose_is_the_best(losses, best, tmp_path):
    """One at the end of the grid would say that a better one may lie beyond."""
    rates = dict(zip(("1e-3", "3e-3", "1e-2", "3e-2"), losses, strict=True))
    jobs = [([f"backbone.layers={m}", f"optim.lr={r}"], loss, {}, {}) for m in "AB" for r, loss in rates.items()]
    found = tuned(compare(find_runs([sweep(tmp_path / "s", jobs)]), None, None))
    assert [(each.best.values["optim.lr"], each.end) for each in found] == [(best, ""), (best, "")]


def test_a_rate_alone_and_rates_that_are_no_numbers_have_no_section(tmp_path):
    alone = [([f"optim.lr={rate}"], bowl(rate, 1e-3), {}, {}) for rate in (5e-4, 1e-3, 2e-3)]
    assert "the best learning rate" not in write_report([str(sweep(tmp_path / "a", alone))])
    null = [([f"optim.lr={rate}", f"backbone.dim={d}"], 1.0, {}, {}) for rate in ("null", "1e-3") for d in (8, 16)]
    assert "the best learning rate" not in write_report([str(sweep(tmp_path / "b", null))])


def test_models_by_tasks_at_their_best_rates_and_what_they_cost(tmp_path):
    values = {("parity", "lstm"): 4e-3, ("parity", "gru"): 1e-3, ("mqar", "lstm"): 2e-3, ("mqar", "gru"): 2e-3}
    jobs = [
        (
            [f"experiment={task}", f"backbone/attention={mixer}", f"optim.lr={rate}"],
            bowl(rate, best),
            {"train/tokens_per_second": 1e4 * len(mixer), "costs/memory_gib": 0.5},
            {},
        )
        for (task, mixer), best in values.items()
        for rate in (1e-3, 2e-3, 4e-3)
    ]
    found = crossing(compare(find_runs([sweep(tmp_path / "s", jobs)]), None, None))
    assert (found.columns, found.rows) == (["parity", "mqar"], ["lstm", "gru"])
    assert {place: float(each.best.values["optim.lr"]) for place, each in found.cells.items()} == {
        (mixer, task): best for (task, mixer), best in values.items()
    }
    lines = write_report([str(tmp_path / "s")]).splitlines()
    rows = [line.split() for line in lines if line.split()[:1] in (["lstm"], ["gru"])]
    assert ["lstm", "1", ">", "1"] in rows and ["gru", "1", "<", "1"] in rows  # quality, with the grid's ends
    assert ["lstm", "4e+04", "4e+04"] in rows and ["gru", "3e+04", "3e+04"] in rows
    assert ["lstm", "0.5", "0.5"] in rows
    assert (tmp_path / "s" / "report.html").read_text().count("data:image/png") == 2


def scaled(seeds=(0,), names=("",)):
    return [
        (
            [f"backbone.dim={dim}", f"trainer.max_steps={steps}", f"seed={seed}"]
            + [f"backbone/mlp={name}"] * bool(name),
            float(LAW.loss(12.0 * dim**2, 100.0 * steps)),
            {"step": steps, "train/tokens/text": 60.0, "train/tokens/image": 40.0},
            {"matrix": 11 * dim**2, "head": dim**2, "embedding": 7777, "position": 5},
        )
        for name in names
        for dim in (16, 32, 64)
        for steps in (100, 400, 1600)
        for seed in seeds
    ]


def test_a_sweep_over_sizes_and_lengths_has_its_law(tmp_path):
    (found,) = scalings(compare(find_runs([sweep(tmp_path / "s", scaled(seeds=(1, 2)))]), None, None))
    assert sorted(set(found.sizes)) == [12 * dim**2 for dim in (16, 32, 64)]
    assert sorted(set(found.tokens)) == [1e4, 4e4, 1.6e5] and len(found.losses) == 9
    printed = write_report([str(tmp_path / "s")])
    assert "val/loss = E + A / N^alpha + B / D^beta" in printed
    (row,) = [line.split() for line in printed.splitlines() if line.split()[:1] == ["alpha"]]
    assert row[1] == "0.5"


def test_names_have_laws_of_their_own_and_few_points_none(tmp_path):
    found = scalings(compare(find_runs([sweep(tmp_path / "a", scaled(names=("gelu", "relu")))]), None, None))
    assert [each.title for each in found] == ["backbone/mlp=gelu", "backbone/mlp=relu"]
    for jobs in (scaled()[:6], [job for job in scaled() if "100" not in job[0][1][-3:]][:6]):
        path = tmp_path / f"b{len(list(tmp_path.iterdir()))}"
        assert scalings(compare(find_runs([sweep(path, jobs)]), None, None)) == []
    unrecorded = [(*job[:3], {}) for job in scaled()]
    assert scalings(compare(find_runs([sweep(tmp_path / "c", unrecorded)]), None, None)) == []
    right = [(job[0], 0.5, *job[2:]) for job in scaled()]
    by_accuracy = compare(find_runs([sweep(tmp_path / "d", right, "val/accuracy")]), "val/accuracy", None)
    assert scalings(by_accuracy) == []


def test_what_is_looked_up_is_no_part_of_the_size(tmp_path):
    assert set(TABLES) == LOOKED_UP
    sweep(tmp_path / "s", scaled()[:1])
    record = read_run(tmp_path / "s" / "job0")
    assert size_of(record) == 12 * 16**2 and record.num_tokens == 100 * 100
    (tmp_path / "s" / "job0" / "environment.json").write_text('{"num_parameters": [1]}')
    assert size_of(read_run(tmp_path / "s" / "job0")) == 0
