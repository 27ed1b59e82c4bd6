"""What of a text is given to a model that writes the rest of it in any order."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from mmtx.batch import Batch, Vocabulary
from mmtx.errors import InvalidValue, check_within, some
from mmtx.objectives.diffused_name import DiffusedName


@dataclass(frozen=True)
class Given:
    """What of a text is given, or of a sample with several names that are written.

    Args:
        prompt: the text's beginning
        infill: a text with gaps: each blank is an id that is written, all else stays
        blank: the character that marks a gap in infill
        length: of the whole text in ids; null: as long as can be
        write: of several names, those that are written while the others stay as the sample has them; []: all
    """

    prompt: str | None = None
    infill: str | None = None
    blank: str = "_"
    length: int | None = None
    write: Sequence[str] = ()

    def __post_init__(self) -> None:
        if len(self.blank) != 1:
            raise InvalidValue("blank", repr(self.blank), "must be one character")
        for key in ("prompt", "length"):
            if self.infill is not None and getattr(self, key) is not None:
                problem = "cannot be given beside infill, which is the whole text"
                raise InvalidValue(key, getattr(self, key), problem, "one of them")

    def masked(self, batch: Batch, heads: Mapping[str, DiffusedName], device: torch.device) -> Batch:
        """The batch with each name's ids and, as its field ``masked``, which of them are to be written.

        Args:
            batch: one sample, without the only text that is written, or with all that there is.
            heads: of the names.
            device: of the model.

        Raises:
            InvalidValue: there is no room, no gap or no such name; what is given does not go with so many names.
        """
        if all(name in batch for name in heads):
            return self._of_sample(batch, heads)
        ((name, head),) = heads.items()
        if self.write and [*self.write] != [name]:
            raise InvalidValue("write", [*self.write], f"must name what this run writes: {name}")
        known, gaps = self._ids(head.vocabulary, head.max_length)
        ids, masked = torch.tensor([known], device=device), torch.tensor([gaps], device=device)
        fields = {head.field: ids, "masked": masked}
        return batch.with_name(name, fields, torch.full_like(ids[:, 0], ids.shape[1]), full=True)

    def _of_sample(self, batch: Batch, heads: Mapping[str, DiffusedName]) -> Batch:
        for key in ("prompt", "infill", "length"):
            if getattr(self, key) is not None:
                raise InvalidValue(key, getattr(self, key), f"is of a text; this run writes {some(heads)} of a sample")
        if unknown := [name for name in self.write if name not in heads]:
            raise InvalidValue("write", unknown[0], f"is none of what this run writes: {some(heads)}")
        for name, head in heads.items():
            may_be = head.may_be_masked(batch)
            batch = batch.with_values(name, masked=may_be & (name in (self.write or heads)))
        return batch

    def _ids(self, vocabulary: Vocabulary | None, context: int) -> tuple[list[int], list[bool]]:
        """Of the whole text, 0 where one is to be written; and where that is."""
        if self.infill is None:
            length = context if self.length is None else self.length
            check_within("length", length, 1, context)
            ids = _begin(vocabulary) + _encoded(vocabulary, "prompt", self.prompt or "")
            if len(ids) >= length:
                problem = f"takes {len(ids)} ids, which leaves nothing to write of length={length}"
                raise InvalidValue("prompt", self.prompt, problem)
            rest = length - len(ids)
            return ids + [0] * rest, [False] * len(ids) + [True] * rest
        if self.blank not in self.infill:
            raise InvalidValue("infill", self.infill, f"has no gap; write {self.blank} for each id that is missing")
        ids = _begin(vocabulary)
        masked = [False] * len(ids)
        for number, part in enumerate(self.infill.split(self.blank)):
            gap, new = [0] * (number > 0), _encoded(vocabulary, "infill", part)
            ids, masked = ids + gap + new, masked + [True] * len(gap) + [False] * len(new)
        if vocabulary is not None and vocabulary.end is not None:
            ids, masked = [*ids, vocabulary.end], [*masked, False]
        if len(ids) > context:
            raise InvalidValue("infill", self.infill, f"takes {len(ids)} ids, and the longest text has {context}")
        return ids, masked


NOTHING = Given()


def _begin(vocabulary: Vocabulary | None) -> list[int]:
    """What every text begins with."""
    if vocabulary is None:
        return []
    return [*([] if vocabulary.begin is None else [vocabulary.begin]), *vocabulary.encode("")]


def _encoded(vocabulary: Vocabulary | None, key: str, text: str) -> list[int]:
    """The ids of a part of a text, without what a text begins with."""
    if not text:
        return []
    if vocabulary is None:
        raise InvalidValue(key, text, "cannot be read, as the data has no vocabulary")
    return vocabulary.encode(text)[len(vocabulary.encode("")) :]
