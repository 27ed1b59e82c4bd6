"""``mmtx report``."""

from __future__ import annotations

from mmtx.commands.arguments import RUNS, parse_for

HELP = """\
usage: mmtx report DIR... [key=value ...]

Compares runs and sweeps, finished or not: prints a table with seeds as mean ± sd and the best config as a command, and
writes report.html (with pictures) and report.csv into the directory, or the one above all of them.

  metric=val/accuracy   what to sort by; else what best.ckpt was chosen by
  mode=max              whether more of it is better (max) or less (min), where the metric does not declare it
  empty=0.1             sweeps over modality=: the metric's value for a model that is given nothing, such as chance
  out=DIR               where to write
"""


def run(arguments: list[str]) -> int:
    from mmtx.report.write_report import write_report

    paths, options = parse_for(write_report, arguments, RUNS)
    print(write_report(paths, **options))
    return 0
