"""Files as they are, without reading them: another fingerprint for most changes."""

from collections.abc import Iterable
from pathlib import Path


def fingerprint(files: Iterable[Path]) -> list[list[object]]:
    """The path, size and time of the last change of each file."""
    return [[str(file.resolve()), file.stat().st_size, file.stat().st_mtime_ns] for file in files]
