"""Texts as ids: encoded at the start, or once for all, where a table is large."""

import hashlib
from collections.abc import Iterator, Sequence

import numpy

from mmtx.data.files.lists import Lists, ListWriter
from mmtx.data.manifest.kind import is_missing
from mmtx.data.manifest.texts import TextColumn
from mmtx.data.tables.rows import Rows
from mmtx.data.text.fit_once import fit_once, ids_once
from mmtx.data.text.vocabulary import TextVocabulary
from mmtx.errors import UserError
from mmtx.process.stopping import track


class Texts:
    """The texts of one name, and their ids.

    Args:
        rows: of the table.
        column: that holds them.
        key: of the files that they come from, as JSON; None: nothing is kept of them.
    """

    def __init__(self, rows: Rows, column: TextColumn, key: Sequence[object] | None) -> None:
        self._rows, self._column, self._key = rows, column, key

    def of(self, chosen: numpy.ndarray) -> Iterator[str]:
        """The texts of some rows, rising, without those that have none."""
        is_chosen = numpy.zeros(len(self._rows), bool)
        is_chosen[chosen] = True
        return (text for row, text in self._all() if text is not None and is_chosen[row])

    def fit(self, vocabulary: TextVocabulary, train: numpy.ndarray, others: numpy.ndarray) -> None:
        """Fits a vocabulary to the texts of some rows, with the characters or words of others."""
        chosen = [hashlib.sha256(part.tobytes()).hexdigest() for part in (train, others)]
        key = None if self._key is None else [*self._key, self._column.columns, *chosen]
        fit_once(vocabulary, key, lambda: vocabulary.fit(self.of(train), marks=True, held_out=self.of(others)))

    def ids(self, vocabulary: TextVocabulary, max_length: int | None) -> Lists:
        """The ids of every row, between the marks of the vocabulary; no ids where it has no text. Raises `UserError`
        with the row where a text cannot be encoded."""

        def write(writer: ListWriter) -> None:
            for row, text in track(self._all(), "encoding texts", len(self._rows)):
                writer.append([] if text is None else self._encoded(vocabulary, row, text, max_length))

        key = None if self._key is None else [*self._key, self._column.columns, max_length]
        return ids_once(vocabulary, key, write)

    def _encoded(self, vocabulary: TextVocabulary, row: int, text: str, max_length: int | None) -> list[int]:
        try:
            ids = vocabulary.encode_marked(text)
        except UserError as error:
            raise UserError(f"{self._rows.where(row)}: {self._column.columns[0]}: {error}") from None
        if max_length is None or len(ids) <= max_length:
            return ids
        return ids[:max_length] if vocabulary.end is None else [*ids[: max_length - 1], vocabulary.end]

    def _all(self) -> Iterator[tuple[int, str | None]]:
        for row, cells in enumerate(self._rows.scan(self._column.columns)):
            yield row, None if is_missing(cells) else self._column.parse(cells[0])
