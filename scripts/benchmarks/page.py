"""The tables of `docs/benchmarks.md`, with the machine, the versions and the command that made them."""

import importlib
import importlib.metadata
import os
import platform
import subprocess
from collections.abc import Iterable, Mapping
from datetime import date
from pathlib import Path
from types import ModuleType

from benchmarks.measuring import Row

PACKAGES = ("torch", "lightning", "transformers", "openai-whisper", "numpy")


def cpu_page(tables: Mapping[str, list[Row]], command: str) -> str:
    """The section of the CPU: for each comparison what it is, and its ratios."""
    sections = [f"`{command}`, {date.today()}, commit {commit()}.\n\n{machine()}.\n\n{versions()}.\n"]
    for name, rows in tables.items():
        sections.append(f"### {name}\n\n{about(importlib.import_module(f'benchmarks.{name}'))}\n\n{table(rows)}")
    return "\n".join(sections)


def about(module: ModuleType) -> str:
    """What a comparison is, as its file has it."""
    return (module.__doc__ or "").strip()


def table(rows: Iterable[Row]) -> str:
    lines = [f"| {row.what} | {row.peer} | {row.value} |" for row in rows]
    return "\n".join(
        ["| of what | beside | ratio of times with its interval, or both memories |", "|---|---|---|", *lines, ""]
    )


def machine() -> str:
    lines = _lines("/proc/cpuinfo")
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    memory = [int(line.split()[1]) / 2**20 for line in _lines("/proc/meminfo") if line.startswith("MemTotal")]
    sizes = f", {memory[0]:.0f} GiB" if memory else ""
    return f"{names[0] if names else platform.machine()}, {os.cpu_count()} cores{sizes}, {platform.system()}"


def versions() -> str:
    found = [f"Python {platform.python_version()}"]
    for package in PACKAGES:
        try:
            found.append(f"{package} {importlib.metadata.version(package)}")
        except importlib.metadata.PackageNotFoundError:
            found.append(f"no {package}")
    return ", ".join(found)


def commit() -> str:
    """Of the checkout, with a + where files differ from it."""
    root = Path(__file__).parents[2]
    try:
        done = subprocess.run(
            ["git", "describe", "--always", "--dirty=+"], cwd=root, capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return done.stdout.strip()


def replaced(page: str, section: str, text: str) -> str:
    """A page with other text between the marks of a section."""
    begin, end = f"<!-- {section} -->\n", f"<!-- end of {section} -->\n"
    head, _, rest = page.partition(begin)
    _, mark, tail = rest.partition(end)
    if not mark:
        raise SystemExit(f"the page lacks the lines {begin.strip()} and {end.strip()}")
    return f"{head}{begin}\n{text.strip()}\n\n{end}{tail}"


def _lines(file: str) -> list[str]:
    return Path(file).read_text().splitlines() if Path(file).exists() else []
