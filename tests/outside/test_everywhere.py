"""Each outside package trains from the command line, goes on where it was killed, and is the same run when packed,
compiled and on two ranks."""

from pathlib import Path

import pytest
from packages import PLUGINS, half_of, logged, plugin, train, unpack
from run_cli import mmtx, text_of
from test_resume import assert_same_run, play

KILLED = {"at": "step.before_update", "nth": 15}
TWO_RANKS = ["trainer.devices=2", "trainer.accelerator=cpu"]
COMPILED = ("own_optimiser", "own_generator", "frozen_reference", "own_picture")
"""Layers of the others are compiled in `test_router` and `test_recurrent_mixer`; their whole runs in the slow test."""


def losses(run: Path) -> list[float]:
    return logged(run) + logged(run, "val/loss") + logged(run, "test/loss")


def assert_same_losses(run: Path, whole: Path) -> None:
    assert losses(run) == pytest.approx(losses(whole), rel=1e-4), run.name


@pytest.mark.slow
@pytest.mark.parametrize("package", PLUGINS)
def test_a_package_is_the_same_run_everywhere(package: str, tmp_path: Path) -> None:
    words, folder = train(package), unpack(package, tmp_path)
    elsewhere = {
        "packed": ["loader.packing=true"],
        "ranks": [*TWO_RANKS, *half_of(package)],
        **({"compiled": ["backbone.compile=true"]} if package in COMPILED else {}),
    }
    cases = [
        {"words": [*words, "run_dir=whole"]},
        {"words": [*words, "run_dir=killed"], **KILLED},
        {"words": ["resume", "killed", *plugin(package)]},
        *({"words": [*words, *more, f"run_dir={run}"]} for run, more in elsewhere.items()),
    ]
    done = play([{"cwd": str(folder), **case} for case in cases])
    assert [each["code"] for each in done] == [0, -9, 0, *[0] * len(elsewhere)], [each["output"] for each in done]
    assert len(logged(folder / "whole")) == 20
    assert_same_run(folder / "killed", folder / "whole")
    for run in elsewhere:
        assert_same_losses(folder / run, folder / "whole")


@pytest.mark.slow
@pytest.mark.parametrize("package", PLUGINS)
def test_compiled_by_inductor_a_package_is_the_same_run(package: str, tmp_path: Path) -> None:
    folder = unpack(package, tmp_path)
    for run, more in {"whole": [], "compiled": ["backbone.compile=true"]}.items():
        done = mmtx(*train(package), *more, f"run_dir={run}", cwd=folder, timeout=600)
        assert done.returncode == 0, text_of(done)
    assert_same_losses(folder / "compiled", folder / "whole")
