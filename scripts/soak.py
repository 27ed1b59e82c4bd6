"""Kills and harms runs at random, resumes them, and compares each with the run that nobody touched.

    python scripts/soak.py FOLDER --faults 300 --seed 0

Every run is stopped by one fault after another until it finishes, and must then equal the reference bit for bit; after
every fault by which a process ended itself, the status on disk must say so. Ends in a table of the faults, their exit
codes and their seconds, also when it is interrupted; the exit code is 1 if anything was lost. Faults and their places
are those of tests/run/kills.py.

It can be done in pieces: the same FOLDER with ``--faults 300`` again goes on where the last piece was interrupted, or
ended by ``--minutes``, with the counts of all pieces.
"""

from __future__ import annotations

import argparse
import collections
import json
import os
import random
import shutil
import sys
import time
import traceback
from dataclasses import asdict, dataclass, field
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"  # the ranks are forks, and a fork of a process whose OpenMP has threads would hang
sys.path[:0] = [str(Path(__file__).parents[1] / "tests"), str(Path(__file__).parents[1] / "tests" / "run")]

import kills  # noqa: E402
from test_resume import TWO_RANKS, WORDS, WORKERS, assert_same_run  # noqa: E402

SETS = {"one process": [], "two workers": WORKERS, "two ranks": TWO_RANKS}
STARTING = ("start.assemble", "start.train", "start.fit", "status")
PLACES = {
    **dict.fromkeys(STARTING, 1),
    "status": 3,
    "ranks.start": 2,
    "ranks.wait": 1,
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
SIGNALS = ("term", "term_all", "interrupt", "hang_up")
DEEDS = ("kill", "kill", "kill", *SIGNALS, "close_output", "no_space", "out_of_memory")
ONLY_AT = {"nan": "step.after_backward", "no_space": "ckpt.synced", "kill_parent": "step.start"}
"""Deeds that make sense in one place."""


@dataclass
class Tally:
    """What came of the faults so far."""

    runs: int = 0
    faults: list[tuple[str, str, str, int, float]] = field(default_factory=list)
    """Set, place, deed, exit code, seconds."""
    lost: list[str] = field(default_factory=list)

    def summary(self) -> str:
        return f"{len(self.faults)} faults, {self.runs} runs, {len(self.lost)} lost"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--faults", type=int, default=300)
    parser.add_argument("--minutes", type=float, default=float("inf"), help="end this piece after so long")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    deadline = time.monotonic() + 60 * options.minutes
    tally = begin_or_go_on(options.folder)
    try:
        while len(tally.faults) < options.faults and time.monotonic() < deadline:
            random.seed(f"{options.seed} {tally.runs}")
            soak_one(random.choice(list(SETS)), options.folder, tally)
            (options.folder / "tally.json").write_text(json.dumps(asdict(tally)))
            print(tally.summary(), flush=True)
    except KeyboardInterrupt:
        pass
    print_table(tally)
    return 1 if tally.lost else 0


def begin_or_go_on(folder: Path) -> Tally:
    """The tally of the pieces before; or an empty one, and the runs that nobody touches."""
    if (folder / "tally.json").exists():
        kept = json.loads((folder / "tally.json").read_text())
        return Tally(**{**kept, "faults": [tuple(fault) for fault in kept["faults"]]})
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for name, more in SETS.items():
        done = kills.run([*WORDS, *more, f"run_dir=whole {name}"], str(folder))
        assert done["code"] == 0, done["said"]
    return Tally()


def soak_one(name: str, folder: Path, tally: Tally) -> None:
    """One run, from its start through faults to its end."""
    tally.runs += 1
    directory = f"run{tally.runs}"
    first = words = [*WORDS, *SETS[name], f"run_dir={directory}"]
    shutil.rmtree(folder / directory, ignore_errors=True)  # of a piece that was interrupted
    for _ in range(8):
        fault = random_fault(name)
        done = kills.run(words, str(folder), **fault)
        harmed = done["code"] != 0 or fault["do"] == "close_output"
        if harmed:  # else the run has ended before it came by, or got over it
            tally.faults.append((name, fault["at"], fault["do"], done["code"], round(done["seconds"], 1)))
        problem = wrong(folder / directory, done, name, fault["do"])
        if problem:
            tally.lost.append(f"{directory} {name} {fault}: {problem}: {done['said'][-2000:]}")
        if done["code"] == 0:
            break
        words = ["resume", directory] if (folder / directory / "config.yaml").exists() else first
    else:
        done = kills.run(words, str(folder))
    try:
        assert done["code"] == 0, done["said"][-2000:]
        assert_same_run(folder / directory, folder / f"whole {name}")
        shutil.rmtree(folder / directory)
    except Exception:
        tally.lost.append(f"{directory} {name}: {traceback.format_exc()[-2000:]}")


def random_fault(name: str) -> dict[str, object]:
    deed = random.choice([*DEEDS, "nan", *(["kill_parent"] if name == "two ranks" else [])])
    places = [place for place in PLACES if name == "two ranks" or not place.startswith("ranks")]
    if deed not in SIGNALS:
        places = [place for place in places if not place.startswith(("start", "status", "ranks"))]
    place = ONLY_AT.get(deed) or random.choice(places)
    fault = {"at": place, "nth": random.randint(1, PLACES[place]), "do": deed}
    if name == "two ranks" and not place.startswith(("ckpt", "ranks", "status")) and deed != "kill_parent":
        fault["rank"] = random.randint(0, 1)
    return fault


def wrong(run: Path, done: dict[str, object], name: str, deed: str) -> str | None:
    """What should not be after a fault, whatever it was."""
    if "Traceback" in done["said"] and name != "two ranks":
        return "a traceback"
    if deed == "close_output" and done["code"]:
        return f"an end with exit code {done['code']} since nobody reads what is printed"
    status = run / "status.json"
    if done["code"] >= 0 and status.exists() and json.loads(status.read_text())["state"] == "running":
        return f"the status is still running after exit code {done['code']}"
    return None


def print_table(tally: Tally) -> None:
    found: dict[tuple[str, str, int], list[float]] = collections.defaultdict(list)
    for _, place, deed, code, seconds in tally.faults:
        found[place, deed, code].append(seconds)
    print(f"\n{'place':<22}{'deed':<16}{'exit code':>10}{'times':>8}{'seconds':>9}")
    for (place, deed, code), seconds in sorted(found.items()):
        print(f"{place:<22}{deed:<16}{code:>10}{len(seconds):>8}{sum(seconds) / len(seconds):>9.1f}")
    print(tally.summary())
    for line in tally.lost:
        print(line)


if __name__ == "__main__":
    raise SystemExit(main())
