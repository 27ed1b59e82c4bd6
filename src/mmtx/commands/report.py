"""``mmtx report``."""

from collections.abc import Sequence

from mmtx.commands.arguments import RUNS, parse_for

USAGE = """\
usage: mmtx report DIR... [key=value ...]

Compares runs and sweeps, finished or not: prints a table with seeds as mean ± sd and the best config as a command, and
writes report.html (with pictures) and report.csv into the directory, or the one above all of them.
"""


def HELP(arguments: Sequence[str]) -> str:
    from mmtx.config.options import described, options_of
    from mmtx.report.write_report import write_report

    return f"{USAGE}\n{described(options_of(write_report))}\n"


def run(arguments: list[str]) -> int:
    from mmtx.report.write_report import write_report

    paths, options = parse_for(write_report, arguments, RUNS)
    print(write_report(paths, **options))
    return 0
