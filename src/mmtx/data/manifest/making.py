"""From columns to names: what is fitted to the training rows, or taken from the run."""

import itertools
import sys
from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy
import torch

from mmtx.data.files.lists import Lists
from mmtx.data.fitted import FittedState
from mmtx.data.manifest.columns import ColumnKeys
from mmtx.data.manifest.continuations import ContinuationColumns, Continuations
from mmtx.data.manifest.conversations import (
    BeforePictureColumn,
    Conversations,
    MessagesColumn,
    NamedConversations,
    PictureWithin,
)
from mmtx.data.manifest.encoded_texts import Texts
from mmtx.data.manifest.files import FileColumn, PictureColumn
from mmtx.data.manifest.kind import Kind
from mmtx.data.manifest.labels import ClassColumn
from mmtx.data.manifest.names import Name, NamedClasses, NamedFiles, NamedIds, NamedNumbers
from mmtx.data.manifest.numbers import NumberColumns, Shape
from mmtx.data.manifest.problems import known_classes
from mmtx.data.manifest.scan import Scan
from mmtx.data.manifest.standard import moments
from mmtx.data.manifest.texts import TextColumn, TextKeys
from mmtx.data.tables.rows import Rows
from mmtx.data.text.vocabulary import TextVocabulary
from mmtx.errors import InvalidValue, UserError


@dataclass(frozen=True)
class Making:
    """What names are made from.

    Attributes:
        fitted: of the data.
        rows: of the table.
        found: in them.
        given: of each row, the place of its split in `SPLITS`, before any is drawn.
        items: rows of each split.
        key: of the files, under which ids are kept; None: they are not.
        columns: that names are read from.
        kinds: how each name is read from them.
        texts: of all names of texts.
    """

    fitted: FittedState
    rows: Rows
    found: Scan
    given: numpy.ndarray
    items: Mapping[str, numpy.ndarray]
    key: Sequence[object] | None
    columns: ColumnKeys
    kinds: Mapping[str, Kind]
    texts: TextKeys

    def name(self, name: str, scaled: bool) -> Name:
        """A name of the data. `scaled`: its numbers have mean 0 and deviation 1.

        Raises:
            UserError: what the run has fitted does not go with these data.
        """
        kind = self.kinds[name]
        if isinstance(kind, FileColumn):
            return NamedFiles(self.rows, kind, name in self.columns.optional)
        if isinstance(kind, ClassColumn):
            return self._classes(name, kind)
        if isinstance(kind, NumberColumns):
            return self._numbers(name, kind, scaled)
        if isinstance(kind, BeforePictureColumn):
            return self._before_picture(name, kind, deepcopy(self.texts.vocabulary))
        if isinstance(kind, MessagesColumn):
            return self._conversations(name, kind, deepcopy(self.texts.vocabulary))
        if isinstance(kind, ContinuationColumns):
            return self._continuation(name, kind, deepcopy(self.texts.vocabulary))
        assert isinstance(kind, TextColumn)
        return self._text(name, kind, deepcopy(self.texts.vocabulary))

    def _classes(self, name: str, kind: ClassColumn) -> Name:
        found, known = known_classes(self.found, name, self.given)
        own = found if len(kind.columns) > 1 else sorted(itertools.compress(found, known))
        names = self.fitted.classes(name, own)
        if len(names) < self.columns.fewest_classes and not kind.several:
            problem = f"{kind.columns[0]} has {len(names)} classes in its training rows: {', '.join(names)}"
            raise UserError(f"{self.rows.file(0)}: {problem}; at least {self.columns.fewest_classes}")
        return NamedClasses(self.found.lists[name], [names.index(label) for label in found], names, kind.several)

    def _numbers(self, name: str, kind: NumberColumns, scaled: bool) -> Name:
        values, facts = self.found.lists[name], self.found.facts[name]
        width, kind.nested = int(str(facts[0])), bool(facts[1])
        own = kind.shape(width, values.lengths[values.lengths > 0], f"{self.rows.file(0)}: {', '.join(kind.columns)}")

        def problem(saved: Any) -> str | None:
            if (
                not values.lengths.any()
                or saved == [own.steps, own.width]
                or (saved[0] is None and saved[1] == own.width)
            ):
                return None
            return f"has {own} here, and the run had {Shape(*saved)}"

        fitted: list[Any] = self.fitted.statistic(name, "shape", lambda: [own.steps, own.width], problem)
        shape = Shape(*fitted)
        size = shape.of_field[-1] or 1
        standard = {"mean": [0.0] * size, "std": [1.0] * size}
        if scaled:
            is_train = numpy.zeros(len(self.rows), bool)
            is_train[self.items["train"]] = True
            standard = self.fitted.statistic(name, "standard", lambda: moments(values, is_train, size))
        return NamedNumbers(values, shape, torch.tensor(standard["mean"]), torch.tensor(standard["std"]))

    def _text(self, name: str, kind: TextColumn, vocabulary: TextVocabulary) -> Name:
        texts, max_length = Texts(self.rows, kind, self.key), self.texts.max_length
        train, others = self.items["train"], numpy.concatenate([self.items["val"], self.items["test"]])
        self.fitted.vocabulary(
            name,
            vocabulary,
            texts.of(train),
            marks=True,
            held_out=texts.of(others),
            fit=lambda: texts.fit(vocabulary, train, others),
        )
        ids = texts.ids(vocabulary, max_length)
        self._report_cut(name, ids)
        return NamedIds(ids, vocabulary, max_length)

    def _continuation(self, name: str, kind: ContinuationColumns, vocabulary: TextVocabulary) -> Name:
        """Names with one prompt, as what is preferred and what is rejected, have one vocabulary: that of the first. So
        have names without a prompt."""
        alike = {
            other: each.columns
            for other, each in self.kinds.items()
            if isinstance(each, ContinuationColumns) and each.prompt == kind.prompt
        }
        columns = dict.fromkeys(column for each in alike.values() for column in each)
        texts, max_length = Continuations(self.rows, kind, [*columns], self.key), self.texts.max_length
        train, others = self.items["train"], numpy.concatenate([self.items["val"], self.items["test"]])
        fit = partial(texts.fit, vocabulary, train, others)
        self.fitted.vocabulary(next(iter(alike)), vocabulary, (), marks=True, fit=fit)
        ids = texts.ids(vocabulary, max_length)
        self._report_cut(name, ids)
        return NamedConversations(ids, vocabulary, max_length)

    def _conversations(self, name: str, kind: MessagesColumn, vocabulary: TextVocabulary) -> Name:
        ids = self._encoder(name, kind, vocabulary).ids(vocabulary, self.texts.max_length)
        self._report_cut(name, ids)
        return NamedConversations(ids, vocabulary, self.texts.max_length)

    def _before_picture(self, name: str, kind: BeforePictureColumn, vocabulary: TextVocabulary) -> Name:
        return NamedIds(self._encoder(name, kind, vocabulary).ids_before(vocabulary), vocabulary, None)

    def _encoder(self, name: str, kind: MessagesColumn, vocabulary: TextVocabulary) -> Conversations:
        """Raises InvalidValue for the beginning of conversations whose pictures are none, or whose rest is not read."""
        self.fitted.vocabulary(name, vocabulary, (), marks=False, fit=vocabulary.fit_chat)
        readers = {type(each): each for each in self.kinds.values() if each.columns == kind.columns}
        if BeforePictureColumn not in readers:
            return Conversations(self.rows, kind, self.texts.turns, self.key)
        if MessagesColumn not in readers:
            problem = f"is the beginning of conversations, and no text is read from {kind.columns[0]}"
            raise InvalidValue(f"kinds.{name}", "before_picture", problem)
        if vocabulary.picture is None:
            problem = "needs a vocabulary with an id for pictures, as SmolVLM's"
            raise InvalidValue("kinds", "before_picture", problem)
        return Conversations(self.rows, kind, self.texts.turns, self.key, self._pictures())

    def _pictures(self) -> PictureWithin:
        """Raises InvalidValue where the data have not one name of pictures."""
        names = [name for name, kind in self.kinds.items() if isinstance(kind, PictureColumn)]
        if len(names) != 1:
            problem = f"needs one name of pictures; the data have {', '.join(names) or 'none'}"
            raise InvalidValue("kinds", "before_picture", problem)
        return PictureWithin(self.kinds[names[0]].columns, names[0] in self.columns.optional)

    def _report_cut(self, name: str, ids: Lists) -> None:
        most = self.texts.max_length
        count = int((ids.lengths == most).sum()) if most else 0
        if count:
            print(f"{count} texts of {name} reach data.max_length={most} ids, and end there", file=sys.stderr)
