"""The address of a model on a hub: ``hub://owner/name``, or ``hub://owner/name@revision``."""

import re
from pathlib import Path
from typing import NamedTuple

from mmtx.errors import UserError

SCHEME = "hub://"
MAIN = "main"
"""The branch that is meant where no revision is named."""
WORD = r"[A-Za-z0-9](?:[\w.-]{0,94}\w)?"
REPOSITORY = re.compile(rf"{WORD}/{WORD}", re.ASCII)
REVISION = re.compile(r"[\w.][\w./-]*", re.ASCII)
COMMIT = re.compile("[0-9a-f]{40}")


class Address(NamedTuple):
    """A model on a hub.

    Attributes:
        repository: ``owner/name``.
        revision: a branch, a tag or a commit.
    """

    repository: str
    revision: str = MAIN

    def __str__(self) -> str:
        return f"{SCHEME}{self.repository}" + ("" if self.revision == MAIN else f"@{self.revision}")

    @property
    def is_pinned(self) -> bool:
        """Whether the revision is a commit, which never changes."""
        return COMMIT.fullmatch(self.revision) is not None

    @classmethod
    def parse(cls, text: str) -> "Address":
        """Raises UserError where the text is no address."""
        repository, at, revision = text.removeprefix(SCHEME).partition("@")
        if not REPOSITORY.fullmatch(repository):
            raise UserError(f"{text}: '{repository}' is not owner/name, of letters, digits, '-', '_' and '.'")
        if at and (not REVISION.fullmatch(revision) or ".." in revision):
            raise UserError(f"{text}: '{revision}' is no name of a branch, a tag or a commit")
        return cls(repository, revision or MAIN)


def is_address(place: object) -> bool:
    """Whether a place is on a hub, rather than a path."""
    return isinstance(place, str | Path) and str(place).startswith(SCHEME)
