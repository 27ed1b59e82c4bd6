"""One file of a public dataset."""

from __future__ import annotations

import hashlib
import os
import queue
import tempfile
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from urllib.request import Request, urlopen

from tqdm import tqdm

from mmtx.errors import UserError

ANSWER_SECONDS = 20.0
"""How long the addresses of a file may take, all together, until one begins to answer."""


@dataclass(frozen=True)
class PublicFile:
    """Where a file lies in its dataset's folder, where it can be had, and what is in it.

    Args:
        name: path within the folder (``MNIST/raw/train-images-idx3-ubyte.gz``).
        addresses: tried in turn.
        md5: of its content.
    """

    name: str
    addresses: Sequence[str]
    md5: str

    def read(self, folder: Path) -> bytes:
        """The content of the file in a folder, which is left as it is.

        Raises:
            UserError: it cannot be read, or is not what its checksum says.
        """
        file = folder / self.name
        try:
            content = file.read_bytes()
        except OSError as error:
            raise UserError(f"{file} cannot be read: {error.strerror}") from None
        found = _md5(content)
        if found != self.md5:
            raise UserError(
                f"{file} is damaged: its {len(content)} bytes have the MD5 {found}, the original has {self.md5}; "
                f"fetch it again from {self.addresses[0]}"
            )
        return content

    def fetch(self) -> bytes:
        """The content of the file in the cache folder, downloaded if it is not there yet.

        Raises:
            UserError: it is not there and no address gives it within a reasonable time.
        """
        file = _cache_folder() / self.name
        if file.is_file():
            content = file.read_bytes()
            if _md5(content) == self.md5:
                return content
        failures = []
        for address in self.addresses:
            try:
                return self._download(address, file)
            except (OSError, HTTPException, ValueError) as error:
                failures.append(f"{address} ({error})")
        raise UserError(
            f"{Path(self.name).name} could not be downloaded to {file.parent}: {'; '.join(failures)}. "
            f"With the file at hand, data.path=FOLDER reads FOLDER/{self.name}"
        )

    def _download(self, address: str, file: Path) -> bytes:
        with _open(address, ANSWER_SECONDS / len(self.addresses)) as answer:
            blocks = []
            with tqdm(total=answer.length, unit="B", unit_scale=True, desc=file.name, disable=None) as progress:
                while block := answer.read(1 << 20):
                    blocks.append(block)
                    progress.update(len(block))
        content = b"".join(blocks)
        if _md5(content) != self.md5:
            raise ValueError(f"what came has the MD5 {_md5(content)}, not {self.md5}")
        _write_whole(file, content)
        return content


def _md5(content: bytes) -> str:
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


def _cache_folder() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mmtx"


def _open(address: str, seconds: float) -> HTTPResponse:
    """An answer's beginning within so many seconds. `urlopen`'s own limit counts anew for every number of a host, and
    not at all while its name is looked up."""
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


def _write_whole(file: Path, content: bytes) -> None:
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
