"""The memory that this process took at its peak."""

import sys

try:
    import resource
except ImportError:  # on Windows
    resource = None  # type: ignore[assignment]

UNIT = 1 if sys.platform == "darwin" else 1024
"""Bytes of one of ``ru_maxrss``, getrusage(2)."""


def peak_memory() -> int:
    """In bytes; 0 where the system does not say."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * UNIT if resource is not None else 0
