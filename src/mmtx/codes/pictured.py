"""What a vocabulary of pictures offers."""

from typing import Protocol, runtime_checkable

from jaxtyping import Int, Num
from torch import Tensor


@runtime_checkable
class Pictured(Protocol):
    """A vocabulary whose ids, behind the mark that begins them, are the codes of a picture."""

    begin: int | None

    @property
    def num_tokens(self) -> int:
        """Ids of a picture, the mark included."""

    def pixels(self, ids: Int[Tensor, "B n"]) -> Num[Tensor, "B C height width"]:
        """The pictures of codes, given without the mark; on the host."""
