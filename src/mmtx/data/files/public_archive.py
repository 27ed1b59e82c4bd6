"""An archive of a public dataset, downloaded and unpacked to the cache."""

import contextlib
import hashlib
import os
import tarfile
import tempfile
import zlib
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path

from tqdm import tqdm

from mmtx.data.files import public_file
from mmtx.data.files.cache import cache_folder
from mmtx.errors import UserError


@dataclass(frozen=True)
class PublicArchive:
    """An archive too large for memory, and the folder that it is unpacked to.

    Args:
        address: of the archive, a ``.tar.gz``.
        sha256: its checksum.
        inside: the folder in the archive; ``.`` for all of it.
        name: path of that folder within the cache folder (``LibriSpeech/dev-clean``).
    """

    address: str
    sha256: str
    inside: str
    name: str

    def fetch(self) -> Path:
        """The cache folder, to which the archive is downloaded and unpacked if it is not there yet.

        The address has `public_file.ANSWER_SECONDS` to begin to answer, and again for every block. The folder appears
        only once it is whole, also where several processes fetch it at the same time.

        Raises:
            UserError: it cannot be downloaded, is not what was published, or does not fit on the disk.
        """
        cache = cache_folder()
        folder = cache / self.name
        if folder.is_dir():
            return cache
        try:
            cache.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=cache, prefix=".", suffix=".part", ignore_cleanup_errors=True) as made:
                draft = Path(made)
                self._download(draft / "archive")
                with tarfile.open(draft / "archive", mode="r:gz") as tar:
                    tar.extractall(draft / "unpacked", filter="data")
                folder.parent.mkdir(parents=True, exist_ok=True)
                with contextlib.suppress(FileExistsError):  # another process was faster
                    _move(draft / "unpacked" / self.inside, folder)
        except (OSError, HTTPException, ValueError, EOFError, tarfile.TarError, zlib.error) as error:
            raise UserError(
                f"{self.address} could not be downloaded and unpacked to {folder}: {error}. With the archive at hand, "
                f"unpack it yourself, and data.path=FOLDER reads FOLDER/{self.name}"
            ) from None
        return cache

    def _download(self, file: Path) -> None:
        found = hashlib.sha256(usedforsecurity=False)
        with (
            public_file.open_address(self.address, public_file.ANSWER_SECONDS) as answer,
            open(file, "wb") as stream,
            tqdm(total=answer.length, unit="B", unit_scale=True, desc=self.name, disable=None) as progress,
        ):
            while block := answer.read(1 << 20):
                stream.write(block)
                found.update(block)
                progress.update(len(block))
        if found.hexdigest() != self.sha256:
            size = file.stat().st_size
            raise ValueError(
                f"it is not what was published: {size} bytes with the SHA-256 {found.hexdigest()}, not {self.sha256}"
            )


def _move(source: Path, target: Path) -> None:
    """Moves a folder.

    Raises:
        FileExistsError: the target exists.
    """
    try:
        os.rename(source, target)
    except OSError:
        if target.is_dir():
            raise FileExistsError(target) from None
        raise
