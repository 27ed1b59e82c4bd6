"""A part of a report, as text and as HTML."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from mmtx.report import page
from mmtx.report.table import Rows, as_text


@dataclass(frozen=True)
class Section:
    """Tables with a picture of the same.

    Attributes:
        heading: what it is about.
        tables: heads and rows.
        note: how to read them.
        draw: makes the picture, as a PNG file; None: there is none.
    """

    heading: str
    tables: tuple[tuple[list[str], Rows], ...]
    note: str
    draw: Callable[[], bytes] | None = None

    def lines(self) -> list[str]:
        return ["", self.heading, *(as_text(*table) for table in self.tables), f"  {self.note}"]

    def html(self) -> Iterator[str]:
        yield page.heading(self.heading)
        if self.draw is not None:
            yield page.picture(self.draw(), self.heading)
        for head, rows in self.tables:
            yield page.table(head, rows, mark_first=False)
        yield page.paragraph(self.note)
