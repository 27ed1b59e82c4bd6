"""The ``mmtx`` command. Each subcommand is a module with `run` and `HELP`, a text or a function of the arguments."""

import os
import sys
from collections.abc import Sequence
from types import ModuleType

from mmtx.commands import (
    check,
    completion,
    evaluate,
    export,
    generate,
    import_public,
    list_options,
    predict,
    push,
    report,
    resume,
    sync,
    train,
    tune,
)
from mmtx.commands.help import HELP
from mmtx.errors import UserError
from mmtx.process import stopping
from mmtx.process.streams import in_utf8, outlast_readers

COMMANDS: dict[str, ModuleType] = {
    "train": train,
    "resume": resume,
    "check": check,
    "evaluate": evaluate,
    "predict": predict,
    "report": report,
    "sync": sync,
    "generate": generate,
    "import": import_public,
    "export": export,
    "push": push,
    "list": list_options,
    "tune": tune,
    "completion": completion,
}

OF_A_RUN = ("train", "resume")
"""Commands whose result is a directory; that of the others is what they print."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit code; without `arguments`, the one that this process was started for."""
    if arguments is not None:
        return _stoppable(list(arguments))
    in_utf8()
    output = outlast_readers()
    code = _stoppable(sys.argv[1:])
    sys.stdout.flush()
    if output.lost is None:
        return code
    print(f"mmtx: standard output cannot be written: {output.lost.strerror}", file=sys.stderr)
    return code or int(sys.argv[1] not in OF_A_RUN)


def _stoppable(arguments: list[str]) -> int:
    try:
        with stopping.handling_signals():
            return _run(arguments)
    except stopping.Interrupted as stop:
        print(f"mmtx: {stop}", file=sys.stderr)
        return stop.exit_code


def _run(arguments: list[str]) -> int:
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(HELP, end="")
        return 0
    if arguments[0] == "--version":
        from importlib.metadata import version

        print(version("mmtx"))
        return 0
    name, rest = arguments[0], arguments[1:]
    if name not in COMMANDS:
        return _fail(f"there is no command '{name}'; commands are {', '.join(COMMANDS)}")
    try:
        _check_readable(rest)
        if not {"-h", "--help"}.isdisjoint(rest):
            page = COMMANDS[name].HELP
            print(page if isinstance(page, str) else page(rest), end="")
            return 0
        code: int = COMMANDS[name].run(rest)
        return code
    except UserError as error:
        if os.environ.get("MMTX_DEBUG"):
            raise
        return _fail(str(error))
    except RuntimeError as error:
        if "home directory" not in str(error):  # pathlib's own message, which names neither path nor user
            raise
        return _fail("a home directory cannot be found: write paths without ~, or set HOME; XDG_CACHE_HOME for caches")


def _fail(message: str) -> int:
    print(f"mmtx: {message}", file=sys.stderr)
    return 2


def _check_readable(arguments: Sequence[str]) -> None:
    """Raises UserError where the working directory is gone, or a name is not UTF-8, as the records of a run are."""
    try:
        names = [*arguments, os.getcwd()]
    except OSError as error:
        raise UserError(f"the working directory cannot be found ({error.strerror}); go to another") from None
    for name in names:
        try:
            name.encode()
        except UnicodeEncodeError:
            raise UserError(f"{name!r} is not UTF-8; rename it, or use another path") from None


if __name__ == "__main__":
    raise SystemExit(main())
