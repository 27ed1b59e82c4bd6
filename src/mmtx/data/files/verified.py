"""Whether bytes are what was published."""

from __future__ import annotations

import hashlib


def verified(content: bytes, md5: str) -> bytes:
    """The content, if that is its checksum.

    Raises:
        ValueError: it has another; the text is a predicate, to go behind the name of a file.
    """
    found = hashlib.md5(content, usedforsecurity=False).hexdigest()
    if found != md5:
        raise ValueError(f"is not what was published: {len(content)} bytes with the MD5 {found}, not {md5}")
    return content
