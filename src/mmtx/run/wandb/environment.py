"""W&B's environment variables, API key and server, looked at before W&B is started."""

import netrc
import os
import ssl
import urllib.error
import urllib.request
from urllib.parse import urlparse

from mmtx.config.redaction import redacted
from mmtx.process.deadline import failure_within

REACH_SECONDS = 3.0


def settle_environment() -> list[str]:
    """Makes the environment one with which W&B starts: an empty variable counts as unset, and one that W&B refuses is
    removed. Gives a line for each refused one."""
    for name in _variables():
        if not os.environ[name].strip():
            del os.environ[name]
    os.environ.setdefault("WANDB_SILENT", "true")
    os.environ.setdefault("WANDB_ERROR_REPORTING", "false")  # which would wait for a network when the process ends
    return [line for name in _variables() if (line := _refused(name))]


def why_offline() -> str | None:
    """Why runs cannot be logged online, in a few words; None: they can."""
    if not _has_key():
        return "no API key"
    return None if is_reachable() else f"{_url()} cannot be reached"


def is_reachable() -> bool:
    """Whether the server answers at all, by whatever proxies there are; known within `REACH_SECONDS`."""
    return failure_within(REACH_SECONDS, _connect) is None  # looking up a name has no limit of its own


def _variables() -> list[str]:
    return [name for name in os.environ if name.startswith("WANDB_")]


def _refused(name: str) -> str | None:
    import wandb

    try:
        wandb.Settings().update_from_env_vars({name: os.environ[name]})
    except (ValueError, wandb.Error) as error:
        reason = error.errors()[0]["msg"] if hasattr(error, "errors") else str(error)
        return f"{redacted(f'{name}={os.environ.pop(name)}')} is refused by W&B ({reason})"
    return None


def _connect() -> None:
    try:
        urllib.request.urlopen(_url(), timeout=REACH_SECONDS).close()
    except urllib.error.URLError as error:
        is_answer = isinstance(error, urllib.error.HTTPError)
        if not is_answer and not isinstance(error.reason, ssl.SSLError):  # W&B brings certificates of its own
            raise


def _has_key() -> bool:
    """Whether W&B would find an API key, without prompting for one."""
    if os.environ.get("WANDB_API_KEY"):
        return True
    try:
        return netrc.netrc(os.environ.get("NETRC") or None).authenticators(urlparse(_url()).hostname or "") is not None
    except (OSError, netrc.NetrcParseError):
        return False


def _url() -> str:
    return os.environ.get("WANDB_BASE_URL") or "https://api.wandb.ai"
