"""``mmtx list``."""

from mmtx.errors import UserError, nearest

HELP = """\
usage: mmtx list [GROUP]

Groups and their options, one line each. A group is chosen by group=option; a nested one by backbone/mlp=swiglu.
"""


def run(arguments: list[str]) -> int:
    from mmtx.config.groups import describe_options

    groups = describe_options()
    named = [argument.removeprefix("hydra/") for argument in arguments]
    if len(named) > 1:
        raise UserError(f"name one group, not {', '.join(named)}")
    if named and named[0] not in groups:
        raise UserError(f"there is no group '{named[0]}'; {nearest(named[0], groups)}")
    for group in named or groups:
        print(f"{group}:")
        width = max(map(len, groups[group]))
        for name, line in groups[group].items():
            print(f"  {name:<{width}}  {line}")
    return 0
