"""``mmtx generate``."""

from collections.abc import Sequence

from mmtx.commands.arguments import RUN, Paths, parse

USAGE = """\
usage: mmtx generate RUN|CKPT [key=value ...]

What a model generates follows from its objectives and from the options that are given. A text is taken letter by
letter; the others are values as in 'mmtx train'. 'mmtx generate RUN --help' lists the options of that run's model.
"""


def HELP(arguments: Sequence[str]) -> str:
    """The options of the run that is named; without one, all that there are."""
    from mmtx.config.options import checked, described, options_of
    from mmtx.generation.generate import COMMON, GENERATING, ways
    from mmtx.run.checkpoint_content import load

    own = [argument for argument in arguments if argument not in ("-h", "--help")]
    paths, given, _ = parse(own, Paths(0, 1, RUN.wanted), ["plugins"])
    if paths:
        plugins = checked(given, COMMON).get("plugins", ())
        kinds = [(way.function, way.options) for way in ways(load(paths[0], plugins))]
    else:
        kinds = [(function, options_of(function)) for function in dict.fromkeys(each for _, each in GENERATING)]
    sections = [f"{str(function.__doc__).splitlines()[0]}\n{described(options)}" for function, options in kinds]
    return "\n\n".join([USAGE.rstrip(), *sections, f"For all of these.\n{described(COMMON)}"]) + "\n"


def run(arguments: list[str]) -> int:
    from mmtx.config.options import options_of
    from mmtx.generation.generate import COMMON, GENERATING, generate

    known = COMMON | {key: option for _, function in GENERATING for key, option in options_of(function).items()}
    texts = [key for key, option in known.items() if option.is_text]
    (path,), given, others = parse(arguments, RUN, known, texts)
    unknown = {key: value for key, _, value in (other.partition("=") for other in others)}
    print(generate(path, {**given, **unknown}))
    return 0
