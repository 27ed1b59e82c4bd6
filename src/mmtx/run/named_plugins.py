"""Packages that a run's user named under ``plugins`` when it began, and that need not be named again.

A run directory may come from anywhere, and by the classes of an installed package it could do anything. So what was
named stands in ``plugins.json`` with a code (HMAC, RFC 2104) whose key lies in a folder of the user's own: a run of
somebody else's has another.
"""

import hashlib
import hmac
import json
import os
import secrets
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from mmtx.hub.model_files import DESCRIPTION
from mmtx.run.directory import RunDirectory, path_of

FILE = "plugins.json"


def remember_plugins(run: RunDirectory, plugins: Sequence[str]) -> None:
    """Keeps what the user named. Where no folder of the user's can be written, it has to be named again."""
    with suppress(OSError, RuntimeError):  # without a home directory
        if plugins:
            run.write_json(run.path / FILE, {"plugins": list(plugins), "code": _code(_key(), plugins)})


def named_plugins(place: Path | str) -> list[str]:
    """What this user named when the run began, of a run directory or one of its checkpoints; nothing where that is not
    known, as of a model folder."""
    path = path_of(place)
    if path.name == DESCRIPTION:
        return []
    file = (path if path.is_dir() else path.absolute().parent.parent) / FILE
    with suppress(OSError, RuntimeError, ValueError, TypeError, KeyError):  # it may hold anything
        kept = json.loads(file.read_text(encoding="utf-8"))
        if hmac.compare_digest(kept["code"], _code(_key(), kept["plugins"])):
            return list(kept["plugins"])
    return []


def _code(key: bytes, plugins: Sequence[str]) -> str:
    return hmac.new(key, json.dumps(list(plugins)).encode(), hashlib.sha256).hexdigest()


def _key() -> bytes:
    """Of this user, made when it is first needed: ``$XDG_STATE_HOME/mmtx/key``, or below ``~/.local/state``."""
    file = Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state") / "mmtx" / "key"
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        partial = file.with_name(f".key.{secrets.token_hex(8)}")
        with open(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as new:
            new.write(secrets.token_bytes(32))
        with suppress(FileExistsError):
            os.link(partial, file)  # whole, and that of the first process
        partial.unlink()
    return file.read_bytes()
