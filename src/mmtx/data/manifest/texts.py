"""Texts, as they are in the table."""

from dataclasses import dataclass
from typing import Literal

from mmtx.data.files.cells import text_cell
from mmtx.data.manifest.kind import Kind
from mmtx.data.text.vocabulary import TextVocabulary
from mmtx.errors import check_at_least


@dataclass(frozen=True)
class TextKeys:
    """What all texts share.

    Args:
        vocabulary: of texts, not fitted.
        max_length: ids of a text, marks included; longer ones lose their end. None: the longest.
        turns: of conversations, that are predicted.
    """

    vocabulary: TextVocabulary
    max_length: int | None
    turns: Literal["assistant", "all"] = "assistant"

    def __post_init__(self) -> None:
        check_at_least("max_length", self.max_length, 3)  # two marks and an id


class TextColumn(Kind):
    """A text of each row."""

    def parse(self, cell: object) -> str:
        if isinstance(cell, bytes):
            try:
                cell = cell.decode("utf-8")
            except UnicodeDecodeError as error:
                raise ValueError(f"is not UTF-8: byte 0x{cell[error.start]:02x} at offset {error.start}") from None
        return text_cell(cell)
