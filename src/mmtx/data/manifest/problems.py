"""What is wrong between rows, rather than with one."""

from collections.abc import Sequence

import numpy

from mmtx.data.files.lists import Lists
from mmtx.data.manifest.splits import SPLITS
from mmtx.data.tables.rows import Rows
from mmtx.errors import nearest, refuse_together


def check_shared_files(rows: Rows, groups: numpy.ndarray, splits: numpy.ndarray) -> None:
    """Raises `UserError` for files that rows of two splits share, all of them together."""
    _, first, inverse = numpy.unique(groups, return_index=True, return_inverse=True)
    firsts = first[inverse]
    apart = numpy.flatnonzero(splits != splits[firsts]).tolist()
    problems = [
        f"{rows.where(row)} ({SPLITS[splits[row]]}) holds the same file as {rows.where(int(firsts[row]))} "
        f"({SPLITS[splits[firsts[row]]]}): take one of them out"
        for row in apart
    ]
    refuse_together(problems, str(rows.file(0)))


def check_classes(rows: Rows, column: str, codes: Lists, found: Sequence[str], is_train: numpy.ndarray) -> list[str]:
    """The classes of the training rows, sorted.

    Raises:
        UserError: other rows have others, all of them together.
    """
    row_of = numpy.repeat(numpy.arange(len(codes)), codes.lengths)
    values = numpy.asarray(codes.values)
    known = numpy.zeros(len(found), bool)
    known[values[is_train[row_of]]] = True
    names = sorted(name for name, is_known in zip(found, known, strict=True) if is_known)
    wrong = numpy.flatnonzero(~known[values])
    problems = [
        f"{rows.where(int(row_of[i]))}: {column} {found[values[i]]} is not among the {len(names)} of the training "
        f"rows; {nearest(found[values[i]], names)}"
        for i in wrong.tolist()
    ]
    refuse_together(problems, str(rows.file(0)))
    return names
