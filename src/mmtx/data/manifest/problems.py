"""What is wrong between rows, rather than with one."""

from collections.abc import Iterator, Mapping, Sequence

import numpy

from mmtx.data.files.lists import Lists
from mmtx.data.manifest.kind import Kind
from mmtx.data.manifest.labels import ClassColumn
from mmtx.data.manifest.scan import Scan
from mmtx.data.places import SPLITS
from mmtx.data.tables.rows import Rows
from mmtx.errors import nearest


def problems_between(rows: Rows, kinds: Mapping[str, Kind], found: Scan, splits: numpy.ndarray) -> Iterator[str]:
    """Files that rows of two splits share, and classes that the training rows lack.

    Args:
        rows: of the table.
        kinds: of each name.
        found: in the rows.
        splits: of each row, its place in `SPLITS`.
    """
    if found.groups is not None:
        yield from _shared_files(rows, found.groups, splits)
    for name, kind in kinds.items():
        if isinstance(kind, ClassColumn) and len(kind.columns) == 1:
            yield from _unknown_classes(rows, kind.columns[0], found.lists[name], known_classes(found, name, splits))


def known_classes(found: Scan, name: str, splits: numpy.ndarray) -> tuple[Sequence[str], numpy.ndarray]:
    """All classes of a name by their codes, and which of them the training rows have."""
    codes, names = found.lists[name], [str(label) for label in found.facts[name]]
    is_train = numpy.repeat(splits == SPLITS.index("train"), codes.lengths)
    known = numpy.zeros(len(names), bool)
    known[numpy.asarray(codes.values)[is_train]] = True
    return names, known


def _shared_files(rows: Rows, groups: numpy.ndarray, splits: numpy.ndarray) -> Iterator[str]:
    _, first, inverse = numpy.unique(groups, return_index=True, return_inverse=True)
    firsts = first[inverse]
    for row in numpy.flatnonzero(splits != splits[firsts]).tolist():
        yield (
            f"{rows.where(row)} ({SPLITS[splits[row]]}) holds the same file as {rows.where(int(firsts[row]))} "
            f"({SPLITS[splits[firsts[row]]]}): take one of them out"
        )


def _unknown_classes(
    rows: Rows, column: str, codes: Lists, classes: tuple[Sequence[str], numpy.ndarray]
) -> Iterator[str]:
    names, known = classes
    choices = [name for name, is_known in zip(names, known, strict=True) if is_known]
    row_of = numpy.repeat(numpy.arange(len(codes)), codes.lengths)
    values = numpy.asarray(codes.values)
    for i in numpy.flatnonzero(~known[values]).tolist():
        name, where = names[values[i]], f"{rows.where(int(row_of[i]))}: {column}"
        yield f"{where} {name} is not among the {len(choices)} of the training rows; {nearest(name, choices)}"
