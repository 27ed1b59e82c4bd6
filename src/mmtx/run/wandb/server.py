"""Whether W&B can be reached, found out without waiting for it."""

from __future__ import annotations

import netrc
import os
import ssl
import threading
import urllib.error
import urllib.request
from urllib.parse import urlparse

REACH_SECONDS = 3.0


def why_offline() -> str | None:
    """Why runs cannot be logged online, in a few words; None: they can."""
    if not _has_key():
        return "no API key"
    if not reachable():
        return f"{_url()} cannot be reached"
    return None


def reachable(seconds: float = REACH_SECONDS) -> bool:
    """Whether the server answers at all, by whatever proxies there are. Never takes longer than `seconds`."""
    answers: list[bool] = []
    thread = threading.Thread(target=lambda: answers.append(_answers(seconds)), daemon=True, name="wandb-reach")
    thread.start()  # looking up a name cannot be given a limit, so it is left behind if it hangs
    thread.join(seconds)
    return bool(answers and answers[0])


def _answers(seconds: float) -> bool:
    try:
        urllib.request.urlopen(_url(), timeout=seconds).close()
    except urllib.error.HTTPError:
        return True
    except urllib.error.URLError as error:
        return isinstance(error.reason, ssl.SSLError)  # W&B brings certificates of its own
    except OSError:
        return False
    return True


def _has_key() -> bool:
    """Whether W&B would find an API key, without asking for one."""
    if os.environ.get("WANDB_API_KEY"):
        return True
    try:
        return netrc.netrc(os.environ.get("NETRC") or None).authenticators(urlparse(_url()).hostname or "") is not None
    except (OSError, netrc.NetrcParseError):
        return False


def _url() -> str:
    return os.environ.get("WANDB_BASE_URL") or "https://api.wandb.ai"
