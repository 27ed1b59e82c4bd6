"""Kills and harms runs at random, resumes them, and compares each with the run that nobody touched.

    python scripts/soak.py FOLDER --faults 200 --seed 0

Every run is stopped by one fault after another until it finishes, and must then equal the reference bit for bit. Ends
in a table, also when it is interrupted; the exit code is 1 if anything was lost. Faults and their places are those of
tests/run/kills.py.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import os
import random
import shutil
import sys
import traceback
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"  # the ranks are forks, and a fork of a process whose OpenMP has threads would hang
sys.path[:0] = [str(Path(__file__).parents[1] / "tests"), str(Path(__file__).parents[1] / "tests" / "run")]

import kills  # noqa: E402
from test_resume import TWO_RANKS, WORDS, WORKERS, assert_same_run  # noqa: E402

SETS = {"one process": [], "two workers": WORKERS, "two ranks": TWO_RANKS}
PLACES = {
    "step.start": 10,
    "step.after_backward": 10,
    "step.before_update": 10,
    "val.step": 4,
    "test.step": 10,
    "ckpt.begin": 5,
    "ckpt.open": 4,
    "ckpt.half": 1500,
    "ckpt.synced": 4,
    "ckpt.renamed": 4,
    "ckpt.before_link": 4,
    "ckpt.before_prune": 4,
    "data.batch": 20,
}
"""Where a fault may strike, and how often a run comes by there."""
DEEDS = ("kill", "kill", "kill", "term", "term_all", "interrupt", "no_space", "out_of_memory", "nan")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--faults", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    random.seed(options.seed)
    shutil.rmtree(options.folder, ignore_errors=True)
    options.folder.mkdir(parents=True)
    cwd = str(options.folder)
    for name, more in SETS.items():
        done = kills.run([*WORDS, *more, f"run_dir=whole {name}"], cwd)
        assert done["code"] == 0, done["said"]
    table, lost, number = collections.Counter(), [], 0
    with contextlib.suppress(KeyboardInterrupt):
        while sum(table.values()) < options.faults:
            number += 1
            name = random.choice(list(SETS))
            table += soak_one(number, name, options.folder, lost)
            print(f"{sum(table.values())} faults, {number} runs, {len(lost)} lost", flush=True)
    print_table(table, number, lost)
    return 1 if lost else 0


def soak_one(number: int, name: str, folder: Path, lost: list[str]) -> collections.Counter:
    """One run, from its start through faults to its end. Gives the faults, by place, deed and exit code."""
    directory, table = f"run{number}", collections.Counter()
    words = [*WORDS, *SETS[name], f"run_dir={directory}"]
    for _ in range(8):
        place = random.choice(list(PLACES))
        deed = "nan" if place == "step.after_backward" and random.random() < 0.5 else random.choice(DEEDS)
        deed = "kill" if (deed == "nan") != (place == "step.after_backward") else deed
        deed = "kill" if deed == "no_space" and place != "ckpt.synced" else deed
        fault = {"at": place, "nth": random.randint(1, PLACES[place]), "do": deed}
        if name == "two ranks" and not place.startswith("ckpt"):
            fault["rank"] = random.randint(0, 1)
        done = kills.run(words, str(folder), **fault)
        if done["code"]:  # else the run has ended before it came by, or got over it
            table[place, deed, done["code"]] += 1
        if "Traceback" in done["said"] and name != "two ranks":
            lost.append(f"{directory} {name} {fault}: {done['said'][-2000:]}")
        if done["code"] == 0:
            break
        words = ["resume", directory]
    else:
        done = kills.run(words, str(folder))
    try:
        assert done["code"] == 0, done["said"][-2000:]
        assert_same_run(folder / directory, folder / f"whole {name}")
        shutil.rmtree(folder / directory)
    except Exception:
        lost.append(f"{directory} {name}: {traceback.format_exc()[-2000:]}")
    return table


def print_table(table: collections.Counter, runs: int, lost: list[str]) -> None:
    print(f"\n{'place':<22}{'deed':<16}{'exit code':>10}{'times':>8}")
    for (place, deed, code), times in sorted(table.items()):
        print(f"{place:<22}{deed:<16}{code:>10}{times:>8}")
    print(f"{sum(table.values())} faults, {runs} runs, {len(lost)} lost")
    for line in lost:
        print(line)


if __name__ == "__main__":
    raise SystemExit(main())
