"""``mmtx sync``."""

from mmtx.commands.arguments import RUNS, parse, refuse
from mmtx.errors import InvalidValue

HELP = """\
usage: mmtx sync DIR... [parallel=8]

Uploads every run in or below the directories that has ended and is not up yet, from its metrics.jsonl and samples/.
"""


def run(arguments: list[str]) -> int:
    from mmtx.run.sync import sync

    paths, given, others = parse(arguments, RUNS, ["parallel"])
    refuse(others, ["parallel"])
    parallel = given.get("parallel", 8)
    if not isinstance(parallel, int) or parallel < 1:
        raise InvalidValue("parallel", parallel, "is not a whole number above 0")
    return sync(paths, parallel)
