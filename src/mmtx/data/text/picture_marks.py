"""A picture within a text: the token in whose place it stands, and those around it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from mmtx.errors import UserError

TOKEN, AROUND, WHOLE = "<image>", "<fake_token_around_image>", "<global-img>"
"""As SmolVLM and Idefics 3 spell them; `WHOLE`: the picture as a whole, rather than a part of it."""


@dataclass(frozen=True)
class PictureMarks:
    """How a text has its picture.

    A chat template writes the token once; the picture then stands between marks of its own::

        rendered    User:<image>What is it?
        spelt       User:<fake_token_around_image><global-img><image><fake_token_around_image>What is it?
        before      User:<fake_token_around_image><global-img>
        after       <fake_token_around_image>What is it?

    Attributes:
        number: id of the token.
        token: in whose place the picture stands; None: there is no tokenizer that has it.
        spelt: what is written in its place, marks and token.
    """

    number: int
    token: str | None = None
    spelt: str | None = None

    @classmethod
    def of(cls, number: int, tokenizer: Any) -> PictureMarks:
        """Those of a tokenizer whose token of that id is `TOKEN`, and that has the others; else the id alone."""
        marks = None if tokenizer is None else [tokenizer.token_to_id(mark) for mark in (TOKEN, AROUND, WHOLE)]
        if marks is None or marks[0] != number or None in marks:
            return cls(number)
        return cls(number, TOKEN, f"{AROUND}{WHOLE}{TOKEN}{AROUND}")

    @classmethod
    def found(cls, tokenizer: Any) -> PictureMarks | None:
        """Those of a tokenizer that has all of them; None for any other."""
        number = tokenizer.token_to_id(TOKEN)
        marks = None if number is None else cls.of(number, tokenizer)
        return marks if marks is not None and marks.token is not None else None

    def state(self) -> dict[str, Any]:
        return asdict(self)

    def spell(self, rendered: str) -> str:
        """The text with the marks around its picture; as it is where no token of a picture is known."""
        if self.token is None or self.spelt is None:
            return rendered
        return rendered.replace(self.token, self.spelt)

    def spell_spans(self, rendered: str, spans: Iterable[tuple[int, int]]) -> tuple[str, list[tuple[int, int]]]:
        """The same, and where in it spans of the rendered text are, each ``(first, stop)``."""
        moved = [(len(self.spell(rendered[:first])), len(self.spell(rendered[:stop]))) for first, stop in spans]
        return self.spell(rendered), moved

    def around(self, ids: Sequence[int]) -> tuple[list[int], list[int]]:
        """What stands before the picture, and what follows it; of a text without one, all follows.

        Raises:
            UserError: there are several.
        """
        ids, count = list(ids), list(ids).count(self.number)
        if count > 1:
            raise UserError(f"a text has {count} pictures; this model takes one in a text")
        place = ids.index(self.number) if count else None
        return ([], ids) if place is None else (ids[:place], ids[place + 1 :])
