"""Differences from the best setting, against scipy's tests."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest
from run_directories import write_run
from scipy.stats import ttest_ind, ttest_rel

from mmtx.report.comparison import compare
from mmtx.report.differences import differences
from mmtx.report.write_report import write_report
from mmtx.run.run_record import find_runs

BEST = {1: 0.30, 2: 0.34, 3: 0.26}


def written(folder: Path, *settings: Mapping[int, float]) -> Path:
    for lr, losses in enumerate(settings):
        for seed, loss in losses.items():
            config = {"seed": seed, "optim": {"lr": lr}}
            write_run(folder / f"{lr},{seed}", [{"step": 1, "val/loss": loss}], config=config)
    return folder


@pytest.mark.parametrize(
    ("other", "verdict"),
    [
        ({1: 0.33, 2: 0.37, 3: 0.295}, "more than seeds make"),  # seed by seed, much the same distance
        ({1: 0.40, 2: 0.30, 3: 0.30}, "may be the seeds"),
        ({4: 0.33, 5: 0.37, 6: 0.29}, "may be the seeds"),  # the first ones, of seeds that have no partner
        ({4: 0.50, 5: 0.55, 6: 0.60, 7: 0.52}, "more than seeds make"),
        ({1: 0.9}, "not known: it takes two seeds of each"),
    ],
)
def test_an_interval_tells_them_from_seeds(other: dict[int, float], verdict: str, tmp_path: Path) -> None:
    """Seed by seed where the seeds are the same, else as independent (Welch)."""
    (found,) = differences(compare(find_runs([str(written(tmp_path, BEST, other))]), None, None))
    ours, theirs = list(BEST.values()), list(other.values())
    assert (found.rank, found.verdict) == (2, verdict)
    assert found.mean == pytest.approx(sum(theirs) / len(theirs) - sum(ours) / len(ours))
    if len(other) == 1:
        return
    paired = other.keys() == BEST.keys()
    test = ttest_rel(theirs, ours) if paired else ttest_ind(theirs, ours, equal_var=False)
    low, high = test.confidence_interval(0.95)
    assert found.num_pairs == (3 if paired else None)
    assert [found.mean - found.half_width, found.mean + found.half_width] == pytest.approx([low, high])
    assert (found.verdict == "more than seeds make") == (test.pvalue < 0.05)


def test_the_report_says_so(tmp_path: Path) -> None:
    printed = write_report([str(written(tmp_path, BEST, {1: 0.33, 2: 0.37, 3: 0.295}, {1: 0.9}))])
    assert "  2  lr=1        +0.0317  +0.0245 to +0.0388  the same 3 seeds  more than seeds make" in printed
    assert "not known: it takes two seeds of each" in (tmp_path / "report.html").read_text()
