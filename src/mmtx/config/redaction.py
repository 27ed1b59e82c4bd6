"""Keys and passwords stay out of everything that is saved."""

import os
import re
from collections.abc import Mapping, Sequence
from typing import Any

SECRET = re.compile(r"(^|[_.])(api_?key|key|token|secret|passw(or)?d|credentials?)$", re.IGNORECASE)
"""How names of environment variables end that hold secrets."""
SECRET_KEY = re.compile(r"^(.*_)?(api_key|secret|secret_key|password|passwd|credentials)$|^(auth_|access_|hf_)?token$")
"""Keys of a config whose texts are secrets. Many keys with `token` in them are not."""
LEAST = 8
"""Shorter values are no secrets, and stand in too many texts by chance."""
LOGIN = re.compile(r"(?<=://)[^/\s:@]+:[^/\s@]+(?=@)")
"""Name and password in an address."""
REFERENCE = re.compile(r"(\\*)\$\{(?:oc\.env:(\w+)\})?")
"""Where OmegaConf begins to read a reference; of one to the environment, with its name."""


def redacted(content: Any) -> Any:
    """The same texts, in nested dictionaries and lists as well, with ``${oc.env:NAME}`` for what the environment keeps
    secret: a config that is read again gets it from there. Logins in addresses become ``***``."""
    return _replaced(content, sorted(_secrets().items(), key=lambda item: -len(item[0])))


def _replaced(content: Any, secrets: Sequence[tuple[str, str]]) -> Any:
    if isinstance(content, Mapping):
        return {_replaced(key, secrets): _replaced(value, secrets) for key, value in content.items()}
    if isinstance(content, list | tuple):
        return [_replaced(value, secrets) for value in content]
    if not isinstance(content, str):
        return content
    for value, name in secrets:
        content = content.replace(value, f"${{oc.env:{name}}}")
    return LOGIN.sub("***", content)


def literal(content: Any) -> Any:
    """The same texts, in nested dictionaries and lists as well, so that reading them as a config gives them back: the
    only references that are followed are those that `redacted` makes."""
    if isinstance(content, Mapping):
        return {key: literal(value) for key, value in content.items()}
    if isinstance(content, list | tuple):
        return [literal(value) for value in content]
    return REFERENCE.sub(_escaped, content) if isinstance(content, str) else content


def _escaped(found: re.Match[str]) -> str:
    backslashes, secret = found.groups()
    return found[0] if secret and SECRET.search(secret) else rf"{2 * backslashes}\${{{found[0].partition('${')[2]}"


def is_in_clear(key: str, value: Any) -> bool:
    """Whether a key of a config holds a secret that does not come from the environment, so that it would be saved."""
    return isinstance(value, str) and bool(value) and bool(SECRET_KEY.match(key)) and value not in _secrets()


def _secrets() -> dict[str, str]:
    """Names by values."""
    return {value: name for name, value in os.environ.items() if len(value) >= LEAST and SECRET.search(name)}
