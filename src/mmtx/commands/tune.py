"""``mmtx tune``."""

import shlex
from collections.abc import Callable, Sequence

from mmtx.commands.arguments import parse_run
from mmtx.errors import UserError

USAGE = """\
usage: mmtx tune lr|batch_size [option=value ...] [key=value ...]

What a run could be started with, found by short trainings on one device; the keys are those of 'mmtx train'. The last
line that it prints is the command of that run.
"""

WAYS = ("lr", "batch_size")


def HELP(arguments: Sequence[str]) -> str:
    from mmtx.config.options import described, options_of

    sections = []
    for name in WAYS:
        way = _way(name)
        summary = (way.__doc__ or "").partition("\n")[0]
        sections.append(f"{name}: {summary}\n{described(options_of(way))}")
    return "\n\n".join([USAGE.rstrip(), *sections]) + "\n"


def run(arguments: list[str]) -> int:
    from mmtx.config.options import checked, options_of
    from mmtx.config.overrides import read_value
    from mmtx.config.stored import read_or_compose
    from mmtx.run.begun_with import pinned_config

    what, *rest = arguments or [""]
    if what not in WAYS:
        raise UserError(f"mmtx tune finds {' or '.join(WAYS)}; name one first: mmtx tune lr experiment=vit_digits")
    way = _way(what)
    options, given, others = options_of(way), {}, []
    for argument in rest:
        key, equals, text = argument.partition("=")
        if equals and key in options:
            given[key] = text if options[key].is_text else read_value(key, text)
        else:
            others.append(argument)
    config_file, is_sweep, overrides, run_dir = parse_run(others)
    if is_sweep or run_dir:
        raise UserError(f"mmtx tune looks at one run, and makes none; leave out {'-m' if is_sweep else 'run_dir'}")
    found = way(pinned_config(read_or_compose(config_file, overrides)), **checked(given, options))
    print(shlex.join(["mmtx", "train", *(["--config", config_file] if config_file else []), *overrides, found]))
    return 0


def _way(name: str) -> Callable[..., str]:
    if name == "lr":
        from mmtx.run.tuning.learning_rate import tune_learning_rate

        return tune_learning_rate
    from mmtx.run.tuning.batch_size import tune_batch_size

    return tune_batch_size
