"""A table that is being made: its rows so far, safe from the end of the process that makes it."""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from mmtx.errors import UserError
from mmtx.run.lock import lock


class TableDraft:
    """Lines of JSON: what the table is made from, then a line for each row, appended as rows come.

    A line that was not written whole is left out, and so is what follows it.

    Args:
        file: made if it is not there.
        settings: what the table is made from, as JSON holds it.

    Raises:
        UserError: the file cannot be written, was begun with other settings, or another process writes it.
    """

    def __init__(self, file: Path, settings: Mapping[str, Any]) -> None:
        self.file = file
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            self._stream = file.open("a+b")
        except OSError as error:
            raise self._unwritable(error) from None
        try:
            lock(self._stream)
        except BlockingIOError:
            raise UserError(f"{file} is in use by another process; wait for it, or choose another out=FILE") from None
        first = next(self._lines(), None)
        if first is None:
            self._stream.truncate(0)
            self.append([settings])
        elif first != json.loads(json.dumps(settings)):
            differs = next(key for key in settings if first.get(key) != settings[key])
            raise UserError(
                f"{file} was begun with {differs}={first.get(differs)}, and is to go on with {settings[differs]}; "
                f"remove it, or choose another out=FILE"
            )

    def __len__(self) -> int:
        """How many rows there are."""
        return sum(1 for _ in self._lines()) - 1

    def rows(self) -> Iterator[dict[str, Any]]:
        """All rows."""
        lines = self._lines()
        next(lines)
        return lines

    def keep(self, num_rows: int) -> None:
        """Leaves out all but the first rows."""
        self._stream.seek(0)
        size = sum(len(self._stream.readline()) for _ in range(1 + num_rows))
        self._stream.truncate(size)

    def append(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Writes rows behind the others; numbers that are none become null."""
        lines = [json.dumps(_finite(row), ensure_ascii=False, allow_nan=False) + "\n" for row in rows]
        try:
            self._stream.write("".join(lines).encode())
            self._stream.flush()
        except OSError as error:
            raise self._unwritable(error) from None

    def close(self) -> None:
        self._stream.close()

    def _lines(self) -> Iterator[dict[str, Any]]:
        """What is written whole."""
        self._stream.seek(0)
        for line in self._stream:
            try:
                content = json.loads(line) if line.endswith(b"\n") else None
            except ValueError:
                content = None
            if not isinstance(content, dict):
                return
            yield content

    def _unwritable(self, error: OSError) -> UserError:
        return UserError(f"{self.file} cannot be written: {error.strerror}; choose another out=FILE")


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _finite(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
