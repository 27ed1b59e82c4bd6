"""Classes: one for each row, or any number of them."""

import json
from collections.abc import Sequence

from mmtx.data.files.cells import label_cell, shown
from mmtx.data.manifest.kind import Kind
from mmtx.data.tables.rows import Cells

TRUE, FALSE = ("1", "true", "yes"), ("0", "false", "no")


class ClassColumn(Kind):
    """Classes by their names.

    Args:
        columns: one, or, of `several` classes, one for each, with 1 where a row belongs to it and 0 where not.
        several: a row has any number of them: a list, or a text.
        separator: between the classes of a text.

    Attributes:
        found: names of classes, by the order in which rows have them; `codes` gives their places.
    """

    def __init__(self, columns: Sequence[str], *, several: bool, separator: str) -> None:
        super().__init__(columns)
        self.several, self._separator = several, separator
        self.found: dict[str, int] = {}
        if len(self.columns) > 1:
            self.found = {column: code for code, column in enumerate(self.columns)}

    def parse(self, cell: object) -> object:
        if len(self.columns) > 1:
            return _flag(cell)
        if not self.several:
            return label_cell(cell)
        return [label_cell(each) for each in self._listed(cell)]

    def codes(self, cells: Cells) -> list[int]:
        """The classes of a row. Raises `ValueError` as `read` does."""
        values = self.read(cells)
        if len(self.columns) > 1:
            return [code for code, value in enumerate(values) if value]
        names = values[0] if self.several else values
        assert isinstance(names, list)
        return sorted({self.found.setdefault(name, len(self.found)) for name in names})

    def _listed(self, cell: object) -> list[object]:
        if cell is None:
            return []
        if isinstance(cell, str):
            if cell.lstrip().startswith("["):
                return _json_list(cell)
            return [part for part in cell.split(self._separator) if part.strip()]
        if not isinstance(cell, list):
            raise ValueError(f"is {shown(cell)}, not a list of classes")
        return cell


def _json_list(text: str) -> list[object]:
    try:
        found = json.loads(text)
    except ValueError as error:
        raise ValueError(f"is {shown(text)}, not a list: {error}") from None
    return found if isinstance(found, list) else [found]


def _flag(cell: object) -> bool:
    text = str(int(cell) if isinstance(cell, bool | float) and cell == cell else cell).strip().lower()
    if text not in TRUE + FALSE:
        raise ValueError(f"is {shown(cell)}, and must be 1 where a row belongs to the class, 0 where not")
    return text in TRUE
