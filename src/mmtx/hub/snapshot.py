"""The files of a model on a hub, downloaded once, and pinned: to a commit, and to the SHA-256 of each file.

`huggingface_hub` keeps the files, below ``HF_HOME``. What makes them a model is kept beside them, once all of them are
there: the commit that a revision was, and the names and hashes of the files of a commit. So half a download is never
taken for a model, a commit that was downloaded needs no network, and a file that has changed since is found.
"""

import hashlib
import json
import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

from mmtx.errors import UserError
from mmtx.hub.address import Address
from mmtx.hub.model_files import files_to_read, holds_weights
from mmtx.hub.user_errors import as_user_errors

Check = Callable[[Path], None]
"""Raises UserError where the files in a folder, weights not yet among them, are of no model that can be read."""


class Snapshot(NamedTuple):
    """A model that was downloaded.

    Attributes:
        address: of its commit.
        folder: that holds its files.
        files: SHA-256 of each, by name.
    """

    address: Address
    folder: Path
    files: Mapping[str, str]


def snapshot(place: str, check: Check) -> Snapshot:
    """The model that an address means now, downloaded where it is not there yet. Within a process, a revision is looked
    up once.

    Args:
        place: the address.
        check: comes before the weights, so that what cannot be read is not downloaded.

    Raises:
        UserError: it cannot be downloaded, holds no model, or a file has changed since.
    """
    address = Address.parse(place)
    with as_user_errors(address):
        from huggingface_hub import constants

        pinned = address if address.is_pinned else Address(address.repository, _commit(constants.ENDPOINT, address))
        found = _kept(pinned)
        if found is None:
            found = _downloaded(pinned, check)
        _check_unchanged(found)
    return found


def forget_commits() -> None:
    """Looks every revision up again."""
    _commit.cache_clear()


@cache
def _commit(endpoint: str, address: Address) -> str:
    """The commit that a revision is: on the hub, or, without a network by choice, as it was when last looked up."""
    from huggingface_hub import HfApi, constants

    file = _records(address) / f"{quote(address.revision, safe='')}.ref"
    if constants.HF_HUB_OFFLINE and file.is_file():
        return file.read_text()
    commit = HfApi().model_info(address.repository, revision=address.revision).sha
    assert commit is not None
    _record(file, commit)
    return commit


def _kept(address: Address) -> Snapshot | None:
    """What was downloaded of a commit; None where a file is missing, or the record of them cannot be read."""
    from huggingface_hub import try_to_load_from_cache

    try:
        files: dict[str, str] = json.loads((_records(address) / f"{address.revision}.json").read_text())
    except (OSError, ValueError):
        return None
    found = [try_to_load_from_cache(address.repository, name, revision=address.revision) for name in files]
    paths = [Path(path) for path in found if isinstance(path, str)]
    return Snapshot(address, paths[0].parent, files) if paths and len(paths) == len(files) else None


def _downloaded(address: Address, check: Check) -> Snapshot:
    from huggingface_hub import HfApi

    api = HfApi()
    info = api.model_info(address.repository, revision=address.revision, files_metadata=True)
    siblings = {sibling.rfilename: sibling for sibling in info.siblings or ()}
    names = files_to_read(siblings)
    if not any(map(holds_weights, names)):
        raise UserError(f"{address} holds no weights that mmtx reads; it has {', '.join(siblings) or 'no files'}")
    files: dict[str, Path] = {}
    for name in sorted(names, key=holds_weights):
        if holds_weights(name) and files:
            check(next(iter(files.values())).parent)
        files[name] = Path(api.hf_hub_download(address.repository, name, revision=address.revision))
        _check_as_uploaded(files[name], siblings[name], address)
    found = Snapshot(address, files[name].parent, {name: _sha256(file) for name, file in files.items()})
    _record(_records(address) / f"{address.revision}.json", json.dumps(found.files, indent=2))
    return found


def _check_as_uploaded(file: Path, sibling: Any, address: Address) -> None:
    """Raises UserError unless a file is what the hub says of it: the SHA-256 of a large one, git's hash of a small."""
    if sibling.lfs is not None:
        is_same = _sha256(file) == sibling.lfs.sha256
    else:
        content = file.read_bytes()
        is_same = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest() == sibling.blob_id
    if not is_same:
        raise _changed(address, file)


def _check_unchanged(found: Snapshot) -> None:
    for name, hashed in found.files.items():
        if _sha256(found.folder / name) != hashed:
            raise _changed(found.address, found.folder / name)


def _changed(address: Address, file: Path) -> UserError:
    return UserError(f"{address}: {file.name} is not what was uploaded; delete {file.resolve()}, and try again")


def _sha256(file: Path) -> str:
    status = file.stat()
    return _hashed(file, status.st_size, status.st_mtime_ns)


@cache
def _hashed(file: Path, size: int, changed_ns: int) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _records(address: Address) -> Path:
    from huggingface_hub import cached_assets_path

    return cached_assets_path("mmtx", "hub", address.repository.replace("/", "--"))


def _record(file: Path, text: str) -> None:
    """Whole or not at all; where nothing can be written, the hub is read again."""
    with suppress(OSError):
        partial = file.with_name(f".{file.name}.{os.getpid()}")
        partial.write_text(text)
        os.replace(partial, file)
