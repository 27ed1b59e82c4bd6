"""The published checksum of a file."""

import hashlib


def check_md5(content: bytes, md5: str) -> bytes:
    """The content, if this is its checksum.

    Raises:
        ValueError: it has another; the text is a predicate, to follow the name of the file.
    """
    found = hashlib.md5(content, usedforsecurity=False).hexdigest()
    if found != md5:
        raise ValueError(f"is not what was published: {len(content)} bytes with the MD5 {found}, not {md5}")
    return content
