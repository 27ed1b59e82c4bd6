"""Conversations: lists of messages, as ids by the chat template of their vocabulary."""

import json
from collections.abc import Iterator, Mapping, Sequence
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


class Conversations:
    """The conversations of one name, and their ids.

    Args:
        rows: of the table.
        column: that holds them.
        turns: whose ids are predicted.
        key: of the files that they come from, as JSON; None: nothing is kept of them.
    """

    def __init__(
        self, rows: Rows, column: MessagesColumn, turns: Literal["assistant", "all"], key: Sequence[object] | None
    ) -> None:
        self._rows, self._column, self._turns, self._key = rows, column, turns, key

    def ids(self, vocabulary: TextVocabulary, max_length: int | None) -> Lists:
        """The ids of every row, each doubled, and one more where it is predicted; none where it has no conversation.

        Raises:
            UserError: one cannot be rendered, or has nothing to predict; with its row.
        """

        def write(writer: ListWriter) -> None:
            for row, messages in track(self._all(), "encoding conversations", len(self._rows)):
                writer.append([] if messages is None else self._encoded(vocabulary, row, messages)[:max_length])

        key = None if self._key is None else [*self._key, self._column.columns, self._turns, max_length]
        return ids_once(vocabulary, key, write)

    def _encoded(self, vocabulary: TextVocabulary, row: int, messages: Sequence[Mapping[str, Any]]) -> list[int]:
        try:
            ids, predicted = vocabulary.encode_conversation(messages, all_turns=self._turns == "all")
            if not any(predicted):
                raise UserError("has nothing that the assistant wrote; data.turns=all predicts every turn")
        except UserError as error:
            raise UserError(f"{self._rows.where(row)}: {self._column.columns[0]}: {error}") from None
        return [2 * number + one for number, one in zip(ids, predicted, strict=True)]

    def _all(self) -> Iterator[tuple[int, list[Mapping[str, Any]] | None]]:
        for row, cells in enumerate(self._rows.scan(self._column.columns)):
            yield row, None if is_missing(cells) else self._column.parse(cells[0])


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
