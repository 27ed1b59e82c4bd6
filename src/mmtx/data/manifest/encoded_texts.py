"""Texts as ids: encoded at the start, or once for all, where a table is large."""

import hashlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy

from mmtx.data.files.cache import cached_folder
from mmtx.data.files.lists import Lists, ListWriter
from mmtx.data.manifest.kind import is_missing
from mmtx.data.manifest.texts import TextColumn
from mmtx.data.tables.rows import Rows
from mmtx.data.text.vocabulary import TextVocabulary, describe_vocabulary
from mmtx.errors import UserError
from mmtx.process.stopping import track

VERSION = 1


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
        """Fits a vocabulary to the texts of some rows, or loads what was fitted to them before."""

        def made(folder: Path | None) -> None:
            vocabulary.fit(self.of(train), marks=True, held_out=self.of(others))
            if folder is not None:
                (folder / "vocabulary.json").write_text(json.dumps(vocabulary.state()), encoding="utf-8")

        def read(folder: Path) -> None:
            vocabulary.load(json.loads((folder / "vocabulary.json").read_text(encoding="utf-8")))

        if self._key is None:
            made(None)
            return
        plain = str | int | float | list
        settings = {key: value for key, value in vars(vocabulary).items() if isinstance(value, plain)}
        chosen = [hashlib.sha256(part.tobytes()).hexdigest() for part in (train, others)]
        name = type(vocabulary).__qualname__
        cached_folder("vocabularies", [VERSION, name, settings, chosen, self._column.columns, *self._key], made, read)

    def ids(self, vocabulary: TextVocabulary, max_length: int | None) -> Lists:
        """The ids of every row, between the marks of the vocabulary; no ids where it has no text. Raises `UserError`
        with the row where a text cannot be encoded."""

        def made(folder: Path | None) -> Lists:
            dtype = numpy.uint16 if vocabulary.size <= 1 << 16 else numpy.int32
            writer = ListWriter(folder, "ids", dtype)
            for row, text in track(self._all(), "encoding texts", len(self._rows)):
                writer.append([] if text is None else self._encoded(vocabulary, row, text, max_length))
            return writer.close()

        if self._key is None:
            return made(None)
        described = describe_vocabulary(vocabulary)
        settings = [VERSION, described, max_length, self._column.columns, *self._key]
        return cached_folder("ids", settings, made, lambda folder: Lists.read(folder, "ids"))

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
