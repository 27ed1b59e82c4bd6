"""Quality against length, from metrics of slices that numbers name."""

import pytest
from run_directories import write_run, write_sweep

from mmtx.report.comparison import compare, short
from mmtx.report.slice_curves import slice_curves
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
    (curves,) = slice_curves(compare(find_runs([sweep]), None, None))
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


def test_a_setting_that_is_a_class_has_a_label_that_a_legend_shows():
    assert [short(axis) for axis in ("optim.lr", "backbone/mlp", "backbone.mlp._target_")] == ["lr", "mlp", "mlp"]
