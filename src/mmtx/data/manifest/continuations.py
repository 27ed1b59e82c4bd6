"""Texts of two columns: what is given, and what is written after it, as ids of which the latter are predicted. Of one
column, where all that is given is the rest of the set.
"""

import hashlib
from collections.abc import Iterator, Sequence
from itertools import chain

import numpy

from mmtx.data.files.lists import Lists, ListWriter
from mmtx.data.manifest.kind import is_missing
from mmtx.data.manifest.texts import TextColumn
from mmtx.data.tables.rows import Rows
from mmtx.data.text.fit_once import fit_once, ids_once
from mmtx.data.text.vocabulary import TextVocabulary
from mmtx.errors import UserError
from mmtx.process.stopping import track


class ContinuationColumns(TextColumn):
    """A text of each row, in two columns: a prompt, and what continues it; or in one, without a prompt."""

    @property
    def prompt(self) -> tuple[str, ...]:
        """The column of the prompt, if there is one."""
        return self.columns[:-1]


class Continuations:
    """The prompts and continuations of one name, and their ids. Each of the two is encoded by itself, so that a prompt
    has the same ids whatever follows it.

    Args:
        rows: of the table.
        kind: of the name.
        columns: of all names that share its vocabulary, its own among them.
        key: of the files that they come from, as JSON; None: nothing is kept of them.
    """

    def __init__(
        self, rows: Rows, kind: ContinuationColumns, columns: Sequence[str], key: Sequence[object] | None
    ) -> None:
        self._rows, self._kind, self._columns, self._key = rows, kind, tuple(columns), key

    def fit(self, vocabulary: TextVocabulary, train: numpy.ndarray, others: numpy.ndarray) -> None:
        """Fits a vocabulary to the texts of some rows, in all columns that share it, with the characters or words of
        others."""
        chosen = [hashlib.sha256(part.tobytes()).hexdigest() for part in (train, others)]
        key = None if self._key is None else [*self._key, self._columns, *chosen]
        fit_once(vocabulary, key, lambda: vocabulary.fit(self._of(train), marks=True, held_out=self._of(others)))

    def ids(self, vocabulary: TextVocabulary, max_length: int | None) -> Lists:
        """The ids of every row between the marks of the vocabulary, each doubled, and one more where it is predicted,
        as those of conversations; no ids where it has neither. Raises `UserError` with the row where a text cannot be
        encoded, or its prompt leaves no room."""

        def write(writer: ListWriter) -> None:
            columns = self._kind.columns
            for row, cells in enumerate(track(self._rows.scan(columns), "encoding texts", len(self._rows))):
                writer.append([] if is_missing(cells) else self._encoded(vocabulary, row, cells, max_length))

        key = None if self._key is None else [*self._key, self._kind.columns, max_length]
        return ids_once(vocabulary, key, write)

    def _of(self, chosen: numpy.ndarray) -> Iterator[str]:
        is_chosen = numpy.zeros(len(self._rows), bool)
        is_chosen[chosen] = True
        for row, cells in enumerate(self._rows.scan(self._columns)):
            if is_chosen[row]:
                yield from (self._kind.parse(cell) for cell in cells if not is_missing((cell,)))

    def _encoded(
        self, vocabulary: TextVocabulary, row: int, cells: Sequence[object], max_length: int | None
    ) -> list[int]:
        begin, end = ([] if mark is None else [mark] for mark in (vocabulary.begin, vocabulary.end))
        parts = []
        for column, cell in zip(self._kind.columns, cells, strict=True):
            try:
                parts.append(vocabulary.encode(self._kind.parse(cell)))
            except UserError as error:
                raise UserError(f"{self._rows.where(row)}: {column}: {error}") from None
        given, written = [*begin, *chain(*parts[:-1])], [*parts[-1], *end]
        if max_length is not None and len(given) + len(written) > max_length:
            room = max_length - len(given) - len(end)
            if room < 1:
                problem = f"has {len(given)} ids, so that data.max_length={max_length} leaves nothing of what follows"
                raise UserError(f"{self._rows.where(row)}: {self._kind.columns[0]}: {problem}")
            written = [*parts[-1][:room], *end]
        return [2 * number for number in given] + [2 * number + 1 for number in written]
