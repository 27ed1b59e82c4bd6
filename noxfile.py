"""Checks in environments of their own: ``nox -s tests-3.13 -- tests/nn``."""

import re
from collections.abc import Iterable

import nox

PROJECT = nox.project.load_toml()["project"]
PYTHONS = nox.project.python_versions({"project": PROJECT})
OLDEST = PYTHONS[0]

nox.options.sessions = ["lint", "package", "tests"]


@nox.session(python=PYTHONS)
def tests(session: nox.Session) -> None:
    """All tests, with the versions that are known to work together."""
    session.install("-c", "constraints.txt", "-e", ".[dev]")
    _pytest(session)


@nox.session(python=OLDEST)
def lowest(session: nox.Session) -> None:
    """The tests, with the oldest versions that pyproject.toml allows; what compares with other libraries is skipped."""
    extras = (of for extra, of in PROJECT["optional-dependencies"].items() if extra not in ("dev", "loggers"))
    session.install(*at_lowest(PROJECT["dependencies"]), *(each for of in extras for each in at_lowest(of)))
    session.install("--no-deps", "-e", ".")
    session.install("beartype", "hypothesis", "pytest", "pytest-xdist")
    _pytest(session)


@nox.session(python=OLDEST)
def lint(session: nox.Session) -> None:
    """Lint, format and types."""
    session.install("-c", "constraints.txt", "-e", ".[dev]")
    for command in (["ruff", "check", "."], ["ruff", "format", "--check", "."], ["mypy"]):
        session.run(*command)


@nox.session(python=OLDEST)
def package(session: nox.Session) -> None:
    """Wheel and sdist: what they hold, and that the wheel works."""
    session.install("-c", "constraints.txt", "-e", ".[dev]")
    session.run("python", "scripts/package.py", env={"OMP_NUM_THREADS": "1"})


def at_lowest(requirements: Iterable[str]) -> list[str]:
    """``torch>=2.11`` as ``torch==2.11``."""
    return [re.sub(r">=([\w.]+).*", r"==\1", requirement) for requirement in requirements]


def _pytest(session: nox.Session) -> None:
    session.run("python", "-m", "pytest", "-n", "2", *session.posargs, env={"OMP_NUM_THREADS": "1"})
