"""One file of a public dataset."""

from __future__ import annotations

import os
import queue
import tempfile
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from typing import Generic, TypeVar
from urllib.request import Request, urlopen

from mmtx.errors import UserError
from mmtx.process.stopping import track

ANSWER_SECONDS = 20.0
"""How long the addresses of a file may take, all together, until one begins to answer."""

MIB = 1 << 20

Content = TypeVar("Content")


@dataclass(frozen=True)
class PublicFile(Generic[Content]):
    """Where a file lies in its dataset's folder, where it can be had, and what is in it.

    Args:
        name: path within the folder (``MNIST/raw/train-images-idx3-ubyte.gz``).
        addresses: tried in turn.
        read: makes of its bytes what is wanted, and verifies them; a `ValueError` says what is wrong, as a predicate.
    """

    name: str
    addresses: Sequence[str]
    read: Callable[[bytes], Content]

    def of(self, folder: Path) -> Content:
        """What the file in a folder holds. Nothing is written there.

        Raises:
            UserError: it cannot be read, or is not what was published.
        """
        file = folder / self.name
        try:
            return self.read(file.read_bytes())
        except OSError as error:
            raise UserError(f"{file} cannot be read: {error.strerror or error}") from None
        except ValueError as error:
            raise UserError(f"{file} {error}; fetch it again from {self.addresses[0]}") from None

    def fetched(self) -> Content:
        """What the file in the cache folder holds, downloaded if it is not there yet or damaged.

        Raises:
            UserError: no address gives it within a reasonable time.
        """
        file = cache_folder() / self.name
        if file.is_file():
            try:
                return self.read(file.read_bytes())
            except ValueError:
                pass  # it is ours to replace
        failures = []
        for address in self.addresses:
            try:
                content = _download(address, file.name, ANSWER_SECONDS / len(self.addresses))
                wanted = self.read(content)
                write_whole(file, content)
                return wanted
            except (OSError, HTTPException, ValueError) as error:
                failures.append(f"{address} ({error})")
        raise UserError(
            f"{file.name} could not be downloaded to {file.parent}: {'; '.join(failures)}. "
            f"With the file at hand, data.path=FOLDER reads FOLDER/{self.name}"
        )


def cache_folder() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mmtx"


def _download(address: str, name: str, seconds: float) -> bytes:
    with open_address(address, seconds) as answer:
        total = None if answer.length is None else -(-answer.length // MIB)
        return b"".join(track(iter(lambda: answer.read(MIB), b""), f"downloading {name}, MiB", total))


def open_address(address: str, seconds: float) -> HTTPResponse:
    """The beginning of an answer, within so many seconds. `urlopen`'s own limit counts anew for every number of a host,
    and not at all while its name is looked up."""
    answers: queue.SimpleQueue[HTTPResponse | Exception] = queue.SimpleQueue()

    def ask() -> None:
        try:
            answers.put(urlopen(Request(address, headers={"User-Agent": "mmtx"}), timeout=seconds))
        except Exception as error:
            answers.put(error)

    threading.Thread(target=ask, daemon=True).start()
    try:
        answer = answers.get(timeout=seconds)
    except queue.Empty:
        raise TimeoutError(f"no answer within {seconds:g} s") from None
    if isinstance(answer, Exception):
        raise answer
    return answer


def write_whole(file: Path, content: bytes) -> None:
    """Writes a file that nobody can see half-written, whoever else writes it at the same time."""
    file.parent.mkdir(parents=True, exist_ok=True)
    handle, draft = tempfile.mkstemp(dir=file.parent, prefix=".", suffix=".part")
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(content)
        os.replace(draft, file)
    except BaseException:
        os.unlink(draft)
        raise
