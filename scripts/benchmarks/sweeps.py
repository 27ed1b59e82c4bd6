"""A sweep of short runs with one slot, against the same runs one after the other, each an `mmtx train` of its own.

The sweep is a process that starts one for each run, so that four short runs take as long as five.
"""

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from benchmarks.measuring import Effort, Row, ratio, seconds

TINY = ["experiment=vit_digits", "backbone.dim=32", "backbone.num_layers=1", "backbone.num_heads=2"]
RUN = [*TINY, "trainer.max_steps=20", "trainer.accelerator=cpu", "logger=[]", "callbacks=[]"]


def measured(effort: Effort) -> Iterator[Row]:
    count = 1 if effort.quick else 4
    ratios = [one_pair(count, effort.threads) for _ in range(effort.pairs(3))]
    yield ratio(f"a sweep of {count} runs, one at a time", f"{count} times `mmtx train`", ratios)


def one_pair(count: int, threads: int) -> float:
    seeds = [str(seed) for seed in range(count)]

    def sweep() -> None:
        train(["-m", *RUN, f"seed={','.join(seeds)}", "hydra.launcher.devices=cpu:1"], threads)

    def alone() -> None:
        for seed in seeds:
            train([*RUN, f"seed={seed}"], threads)

    return seconds(sweep) / seconds(alone)


def train(words: list[str], threads: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        mmtx(["train", *words, f"run_dir={folder}/run"], Path(folder), threads)


def mmtx(words: list[str], folder: Path, threads: int) -> None:
    """The command, in a process of its own."""
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "WANDB_MODE": "disabled"}
    command = [str(Path(sys.executable).parent / "mmtx"), *words]
    subprocess.run(command, cwd=folder, env=environment, check=True, capture_output=True)
