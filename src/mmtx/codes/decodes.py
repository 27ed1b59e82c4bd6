"""What a vocabulary of codes offers."""

from typing import Protocol, TypeGuard, runtime_checkable

from jaxtyping import Int, Shaped
from torch import Tensor

from mmtx.codes.content import Content


@runtime_checkable
class Decodes(Protocol):
    """A vocabulary whose ids, behind the mark that begins them, are the codes of a picture, a film or a sound."""

    begin: int | None

    @property
    def content(self) -> Content:
        """What the codes stand for."""

    @property
    def num_tokens(self) -> int:
        """Ids of the longest sample, the mark included."""

    def whole(self, count: int) -> int:
        """How many of so many codes, given without the mark, make whole rows of the grid that they come from."""

    def decoded(self, ids: Int[Tensor, "B n"], counts: Int[Tensor, " B"] | None = None) -> Shaped[Tensor, "B ..."]:
        """The field `content.field` that codes stand for, given without the mark; on the host.

        Args:
            ids: of whole rows.
            counts: codes of each sample; None: all.
        """


def decodes_into(vocabulary: object, kind: type[Content]) -> TypeGuard[Decodes]:
    """Whether its codes are those of such content."""
    return isinstance(vocabulary, Decodes) and type(vocabulary.content) is kind
