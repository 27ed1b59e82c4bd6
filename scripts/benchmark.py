"""All ratios of speed on a CPU, ours against a peer, and the page that holds them.

    python scripts/benchmark.py [NAME ...] [--threads 2] [--page docs/benchmarks.md]

Both sides of a ratio run in one process, interleaved (A B B A ...), after their outputs have been compared. All
together take about ten minutes on two quiet cores. ``--quick`` tries with tiny sizes whether everything runs.
"""

import argparse
import gc
import importlib
import shlex
import sys
import time
from pathlib import Path

import torch
from benchmarks.measuring import Effort, Row
from benchmarks.page import cpu_page, replaced

from mmtx.process.kept_memory import keep_freed_memory

NAMES = (
    "step",
    "trainer",
    "generation",
    "log_mel",
    "packing",
    "trajectories",
    "windows",
    "experts",
    "sweeps",
    "checkpoints",
)


def main(words: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(NAMES))
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--page", type=Path, help="in which the tables are written anew")
    options = parser.parse_args(words)
    names = options.names or NAMES
    if unknown := set(names) - set(NAMES):
        parser.error(f"there is no {', '.join(sorted(unknown))}; there are {', '.join(NAMES)}")
    torch.set_num_threads(options.threads)
    keep_freed_memory()  # as `mmtx train` on a CPU does; the peers gain by it as well
    effort = Effort(quick=options.quick, threads=options.threads)
    tables = {name: rows_of(name, effort) for name in names}
    if options.page:
        command = shlex.join(["python", "scripts/benchmark.py", *(sys.argv[1:] if words is None else words)])
        options.page.write_text(replaced(options.page.read_text(), "cpu", cpu_page(tables, command)))


def rows_of(name: str, effort: Effort) -> list[Row]:
    """The rows of one comparison, printed as they come."""
    rows, begun = [], time.monotonic()
    module = importlib.import_module(f"benchmarks.{name}")
    gc.collect()
    gc.disable()
    try:
        for row in module.measured(effort):
            print(f"{name}: {row.what} / {row.peer}: {row.value}", flush=True)
            rows.append(row)
    finally:
        gc.enable()
    print(f"{name}: {time.monotonic() - begun:.0f} s", flush=True)
    return rows


if __name__ == "__main__":
    main()
