"""Conversations: lists of messages, as ids by the chat template of their vocabulary."""

import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import astuple, dataclass
from typing import Any, Literal

import numpy
import torch
from torch import Tensor

from mmtx.batch import Spec
from mmtx.data.files.cells import shown
from mmtx.data.files.lists import Lists, ListWriter
from mmtx.data.manifest.kind import Kind, is_missing
from mmtx.data.manifest.names import NamedIds
from mmtx.data.specs import conversation_spec
from mmtx.data.tables.rows import Rows
from mmtx.data.text.chat_template import is_message
from mmtx.data.text.fit_once import ids_once
from mmtx.data.text.vocabulary import TextVocabulary
from mmtx.errors import UserError
from mmtx.process.stopping import track

Parts = tuple[list[int], list[int]]
"""The ids of a conversation before its picture; and those that follow, or all, each doubled, and one more where it is
predicted."""


class MessagesColumn(Kind):
    """A list of ``{"role": ..., "content": ...}`` of each row, or JSON of one."""

    def parse(self, cell: object) -> list[Mapping[str, Any]]:
        if isinstance(cell, str):
            try:
                cell = json.loads(cell)
            except ValueError as error:
                raise ValueError(f"is {shown(cell)}, not a list of messages: {error}") from None
        if not isinstance(cell, list) or not cell:
            raise ValueError(f"is {shown(cell)}, not a list of messages")
        for number, message in enumerate(cell, start=1):
            if not is_message(message):
                raise ValueError(f'has {shown(message)} as message {number}, not {{"role": ..., "content": ...}}')
        return cell


class BeforePictureColumn(MessagesColumn):
    """The same list, of which the name has what stands before the picture, and another name what follows it."""


@dataclass(frozen=True)
class PictureWithin:
    """The pictures that stand within conversations.

    Attributes:
        columns: that they are read from.
        optional: a row may lack its picture.
    """

    columns: tuple[str, ...]
    optional: bool

    def there(self, rows: Rows) -> Iterator[bool]:
        """Whether each row has one."""
        if not self.optional:
            return itertools.repeat(True, len(rows))
        return (not is_missing(cells) for cells in rows.scan(self.columns))


class Conversations:
    """The conversations of one column, and their ids.

    Args:
        rows: of the table.
        column: that holds them.
        turns: whose ids are predicted.
        key: of the files that they come from, as JSON; None: nothing is kept of them.
        pictures: that stand in them; None: none does.
    """

    def __init__(
        self,
        rows: Rows,
        column: MessagesColumn,
        turns: Literal["assistant", "all"],
        key: Sequence[object] | None,
        pictures: PictureWithin | None = None,
    ) -> None:
        self._rows, self._column, self._turns, self._key, self._pictures = rows, column, turns, key, pictures

    def ids(self, vocabulary: TextVocabulary, max_length: int | None) -> Lists:
        """The ids of every row that follow its picture, or all, each doubled, and one more where it is predicted; none
        where it has no conversation.

        Raises:
            UserError: one cannot be rendered, or has nothing to predict, or not the picture of its row; with its row.
        """
        return self._once(vocabulary, max_length, (after[:max_length] for _, after in self._encoded(vocabulary)))

    def ids_before(self, vocabulary: TextVocabulary) -> Lists:
        """The ids of every row that stand before its picture; none where it has no picture. Raises `UserError` too."""
        return self._once(vocabulary, "before", (before for before, _ in self._encoded(vocabulary)))

    def _once(self, vocabulary: TextVocabulary, part: str | int | None, ids: Iterator[list[int]]) -> Lists:
        def write(writer: ListWriter) -> None:
            for each in track(ids, "encoding conversations", len(self._rows)):
                writer.append(each)

        own = [self._column.columns, self._turns, part, self._pictures and astuple(self._pictures)]
        return ids_once(vocabulary, None if self._key is None else [*self._key, *own], write)

    def _encoded(self, vocabulary: TextVocabulary) -> Iterator[Parts]:
        there: Iterator[bool | None] = (
            itertools.repeat(None) if self._pictures is None else self._pictures.there(self._rows)
        )
        for row, (own, has_picture) in enumerate(zip(self._rows.scan(self._column.columns), there, strict=False)):
            try:
                yield ([], []) if is_missing(own) else self._parts(vocabulary, self._column.parse(own[0]), has_picture)
            except UserError as error:
                raise UserError(f"{self._rows.where(row)}: {self._column.columns[0]}: {error}") from None

    def _parts(
        self, vocabulary: TextVocabulary, messages: Sequence[Mapping[str, Any]], has_picture: bool | None
    ) -> Parts:
        ids, predicted = vocabulary.encode_conversation(messages, all_turns=self._turns == "all")
        before, after = ([], ids) if vocabulary.picture is None else vocabulary.picture.around(ids)
        start = len(ids) - len(after)
        self._check_picture(start > 0, has_picture)
        if start and any(predicted[: start + 1]):
            hint = "; data.turns=assistant" if self._turns == "all" else ""
            raise UserError(f"has its picture in a turn that is predicted, or after one, which cannot be learnt{hint}")
        if not any(predicted):
            raise UserError("has nothing that the assistant wrote; data.turns=all predicts every turn")
        return before, [2 * number + one for number, one in zip(after, predicted[start:], strict=True)]

    def _check_picture(self, has_place: bool, has_picture: bool | None) -> None:
        if has_place and has_picture is None:
            column = self._column.columns[0]
            keys = f"data.columns.before={column} data.kinds.before=before_picture, modality=[before,image,text]"
            raise UserError(f"has a picture in it, before which the text is a name of its own: {keys}")
        if has_place and not has_picture:
            raise UserError('has a place for a picture, {"type": "image"}, and its row has none')
        if has_picture and not has_place:
            raise UserError('has no place for the picture of its row: {"type": "image"} in a content')


class NamedConversations(NamedIds):
    """Conversations as ids.

    Args:
        ids: of each row, as `Conversations.ids` gives them.
        vocabulary: that they are of.
        max_length: of any row that may come; None: the longest of these.
    """

    @property
    def spec(self) -> Spec:
        return conversation_spec(self._vocabulary, self._max_length)

    def fields(self, row: int, split: str) -> dict[str, Tensor] | None:
        both = torch.from_numpy(self._ids[row].astype(numpy.int64))
        return {"ids": both // 2, "predicted": both % 2 == 1} if len(both) else None
