"""``mmtx generate``."""

from collections.abc import Sequence

from mmtx.commands.arguments import RUN, Paths, parse

USAGE = """\
usage: mmtx generate RUN|CKPT [key=value ...]

What a model generates follows from its objectives and from the options that are given. A text is taken letter by
letter; the others are values as in 'mmtx train'. 'mmtx generate RUN --help' lists the options of that run's model.
"""


def HELP(arguments: Sequence[str]) -> str:
    """The options of the run that is named; without one, all that mmtx has."""
    from mmtx.config.options import checked, described
    from mmtx.generation.generate import COMMON, known_ways, ways
    from mmtx.run.checkpoint_content import load

    own = [argument for argument in arguments if argument not in ("-h", "--help")]
    paths, given, _ = parse(own, Paths(0, 1, RUN.wanted), ["plugins"])
    plugins = checked(given, COMMON).get("plugins", ())
    found = ways(load(paths[0], plugins)) if paths else known_ways()
    sections = [f"{way.summary}\n{described(way.options)}" for way in found]
    return "\n\n".join([USAGE.rstrip(), *sections, f"For all of these.\n{described(COMMON)}"]) + "\n"


def run(arguments: list[str]) -> int:
    from mmtx.config.options import checked
    from mmtx.generation.generate import COMMON, generate, ways
    from mmtx.run.checkpoint_content import load

    (path,), given, _ = parse(arguments, RUN, COMMON)
    learner = load(path, checked(given, COMMON).get("plugins", ()))
    known = COMMON | {key: option for way in ways(learner) for key, option in way.options.items()}
    texts = [key for key, option in known.items() if option.is_text]
    _, given, others = parse(arguments, RUN, known, texts)
    unknown = {key: value for key, _, value in (other.partition("=") for other in others)}
    print(generate(path, learner, {**given, **unknown}))
    return 0
