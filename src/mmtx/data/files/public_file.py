"""A file of a public dataset, read from a folder or downloaded to the cache."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from typing import Generic, TypeVar
from urllib.request import Request, urlopen

from mmtx.data.files.cache import cache_folder, write_atomically
from mmtx.errors import UserError
from mmtx.process.deadline import within
from mmtx.process.stopping import track

ANSWER_SECONDS = 20.0
"""Seconds that the addresses of a file may take, all together, until one begins to answer."""

MIB = 1 << 20

Content = TypeVar("Content")


@dataclass(frozen=True)
class PublicFile(Generic[Content]):
    """A file: its path in the folder of its dataset, its addresses, and how it is read.

    Args:
        name: path within the folder (``MNIST/raw/train-images-idx3-ubyte.gz``).
        addresses: tried in turn.
        read: parses and verifies its bytes; raises `ValueError` with what is wrong, as a predicate.
    """

    name: str
    addresses: Sequence[str]
    read: Callable[[bytes], Content]

    def read_from(self, folder: Path) -> Content:
        """The content of the file in a folder, where nothing is written.

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

    def fetch(self) -> Content:
        """The content of the file in the cache folder, downloaded if it is missing or damaged.

        Raises:
            UserError: no address gives it within a reasonable time.
        """
        file = cache_folder() / self.name
        if file.is_file():
            try:
                return self.read(file.read_bytes())
            except ValueError:
                pass  # a damaged file of the cache is downloaded again
        failures = []
        for address in self.addresses:
            try:
                content = _download(address, file.name, ANSWER_SECONDS / len(self.addresses))
                parsed = self.read(content)
                write_atomically(file, content)
                return parsed
            except (OSError, HTTPException, ValueError) as error:
                failures.append(f"{address} ({error})")
        raise UserError(
            f"{file.name} could not be downloaded to {file.parent}: {'; '.join(failures)}. "
            f"With the file at hand, data.path=FOLDER reads FOLDER/{self.name}"
        )


def check_md5(content: bytes, md5: str) -> bytes:
    """The content, if this is its checksum.

    Raises:
        ValueError: it has another; the text is a predicate, to follow the name of the file.
    """
    found = hashlib.md5(content, usedforsecurity=False).hexdigest()
    if found != md5:
        raise ValueError(f"is not what was published: {len(content)} bytes with the MD5 {found}, not {md5}")
    return content


def _download(address: str, name: str, seconds: float) -> bytes:
    with open_address(address, seconds) as answer:
        total = None if answer.length is None else -(-answer.length // MIB)
        return b"".join(track(iter(lambda: answer.read(MIB), b""), f"downloading {name}, MiB", total))


def open_address(address: str, seconds: float) -> HTTPResponse:
    """Opens an address, within so many seconds. The time limit of `urlopen` starts again for every IP address of a
    host, and excludes the look-up of its name."""
    request = Request(address, headers={"User-Agent": "mmtx"})
    return within(seconds, lambda: urlopen(request, timeout=seconds))
