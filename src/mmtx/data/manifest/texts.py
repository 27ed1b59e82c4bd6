"""Texts, as they are in the table."""

from mmtx.data.files.cells import text_cell
from mmtx.data.manifest.kind import Kind


class TextColumn(Kind):
    """A text of each row."""

    def parse(self, cell: object) -> str:
        if isinstance(cell, bytes):
            try:
                cell = cell.decode("utf-8")
            except UnicodeDecodeError as error:
                raise ValueError(f"is not UTF-8: byte 0x{cell[error.start]:02x} at offset {error.start}") from None
        return text_cell(cell)
