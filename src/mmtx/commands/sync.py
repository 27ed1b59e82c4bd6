"""``mmtx sync``."""

from mmtx.commands.arguments import RUNS, parse_for

HELP = """\
usage: mmtx sync DIR... [parallel=8]

Uploads every run in or below the directories that has ended and is not up yet, from its metrics.jsonl and samples/.
"""


def run(arguments: list[str]) -> int:
    from mmtx.run.sync import sync

    paths, options = parse_for(sync, arguments, RUNS)
    return sync(paths, **options)
