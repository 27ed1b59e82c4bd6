"""Each comparison runs with tiny sizes, and the page holds its rows. No number is looked at."""

import importlib.metadata
import re
import statistics
from pathlib import Path

import benchmark
import pytest
import torch
from benchmarks import sweeps
from benchmarks.measuring import Effort, compare, interval
from benchmarks.page import replaced
from run_cli import mmtx, text_of

PAGE = Path(__file__).parents[2] / "docs" / "benchmarks.md"


QUICK = ("trajectories", "trainer", "generation", "packing")


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[pytest.mark.slow] * (name not in QUICK))
        for name in benchmark.NAMES
        if name != "sweeps"
    ],
)
def test_a_comparison_runs(name, unchecked):
    rows = benchmark.rows_of(name, Effort(quick=True, threads=1))
    assert rows and all(re.search(r"\d", row.value) for row in rows)


@pytest.mark.slow
def test_a_sweep_is_compared_with_its_runs(monkeypatch):
    def forked(words, folder, threads):
        done = mmtx(*words, cwd=folder)
        assert done.returncode == 0, text_of(done)

    monkeypatch.setattr(sweeps, "mmtx", forked)
    (row,) = sweeps.measured(Effort(quick=True, threads=1))
    assert float(row.value.split()[0]) > 0


def test_the_page_holds_what_was_measured(tmp_path, unchecked):
    page = tmp_path / "page.md"
    page.write_text(PAGE.read_text())
    words = ["step", "--quick", "--threads", str(torch.get_num_threads()), "--page", str(page)]
    benchmark.main(words)
    text = page.read_text()
    assert f"`python scripts/benchmark.py {' '.join(words)}`" in text
    assert "| a training step | Hugging Face's GPT-2" in text and f"torch {importlib.metadata.version('torch')}" in text
    assert text.split("## On a GPU")[1] == PAGE.read_text().split("## On a GPU")[1]


def test_an_unknown_comparison_is_refused(capsys):
    with pytest.raises(SystemExit):
        benchmark.main(["steps"])
    assert "there is no steps" in capsys.readouterr().err


def test_ratios_are_of_pairs():
    now = 0.0

    def lasts(seconds):
        def step():
            nonlocal now
            now += seconds

        return step

    assert compare(lasts(3.0), lasts(2.0), 4, clock=lambda: now) == [1.5] * 4


def test_the_interval_of_a_median():
    ratios = [0.9 + 0.01 * i for i in range(21)]
    median, low, high = interval(ratios)
    assert median == statistics.median(ratios) == pytest.approx(1.0)
    assert 0.93 < low < median < high < 1.07  # binomial: the 6th and the 16th of 21 are 0.95 and 1.05


def test_a_section_is_replaced():
    page = "a\n<!-- cpu -->\nold\n<!-- end of cpu -->\nb\n"
    assert replaced(page, "cpu", "new") == "a\n<!-- cpu -->\n\nnew\n\n<!-- end of cpu -->\nb\n"
    with pytest.raises(SystemExit, match="lacks"):
        replaced(page, "gpu", "new")
