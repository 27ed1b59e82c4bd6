"""The base of datasets that are tables: from rows to the samples of each split."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict
from functools import partial

import numpy

from mmtx.batch import Spec
from mmtx.data.audio.recordings import SoundKeys
from mmtx.data.base import Source, Split
from mmtx.data.files.cache import cached_folder
from mmtx.data.files.fingerprint import fingerprint
from mmtx.data.manifest.column_kinds import UNREAD, kinds_of
from mmtx.data.manifest.columns import ColumnKeys, choose_columns, make_kinds
from mmtx.data.manifest.files import PictureKeys
from mmtx.data.manifest.kind import Kind
from mmtx.data.manifest.labels import ClassColumn
from mmtx.data.manifest.making import Making
from mmtx.data.manifest.problems import problems_between
from mmtx.data.manifest.row_split import RowSplit
from mmtx.data.manifest.scan import Scan, scan
from mmtx.data.manifest.splits import SplitKeys, divide
from mmtx.data.manifest.texts import TextKeys
from mmtx.data.places import SPLITS, Places
from mmtx.data.sampler import Stream
from mmtx.data.tables.open_tables import open_splits
from mmtx.data.tables.parquet_rows import GroupCache
from mmtx.data.tables.rows import JoinedRows, Rows
from mmtx.data.window_order import WindowOrder
from mmtx.errors import check_at_least, refuse_together, some

VERSION = 1
KEPT_ROWS = 50_000
"""What a pass over more rows finds is kept in the cache folder."""


class TableSource(Source):
    """Rows of a table, or of one for each split. Subclasses say which columns their names are read from.

    A table is CSV, TSV, JSONL, Parquet, Arrow, a folder that `datasets` saved to disk, or tars in WebDataset's layout;
    docs/own_data.md has an example of each. Every row is looked at before anything starts, and what is wrong is named
    by row and column. Rows that share a file are never in two splits. Files are decoded when their sample is read.

    A table of more than `shuffle_mb` is never held in memory: its row groups or shards are shuffled, and read in
    windows of that size. What is kept of each row (classes, numbers, ids of texts) is then mapped from the cache
    folder, as it is for more than `KEPT_ROWS` rows, and files that lie in the table are not compared.

    Args:
        columns: of each name.
        splits: of the rows.
        texts: what all share; None: no name is of texts. So for `pictures` and `sounds`.
        scaled: names whose numbers have mean 0 and deviation 1 over the training rows.
        shuffle_mb: of a table, that are shuffled, and held in memory, at a time.
    """

    def __init__(
        self,
        *,
        columns: ColumnKeys,
        splits: SplitKeys,
        texts: TextKeys,
        pictures: PictureKeys | None = None,
        sounds: SoundKeys | None = None,
        scaled: Collection[str] = (),
        shuffle_mb: int = 128,
    ) -> None:
        check_at_least("shuffle_mb", shuffle_mb, 1)
        self._limit = shuffle_mb << 20
        tables, is_split = open_splits(splits.path, splits.val_path, splits.test_path, GroupCache(self._limit))
        self._rows, self._sizes = JoinedRows(list(tables.values())), [len(table) for table in tables.values()]
        by_column = splits.column_of(tables, is_split)
        columns = columns.without(self.fitted.may_lack, tables["train"].columns)
        chosen = choose_columns(columns, self._rows, tables["train"])
        kinds = kinds_of(chosen, self._rows, columns.kinds, columns.readers)
        made = make_kinds(chosen, kinds, pictures, sounds, columns.separator)
        key = self._key()
        settings = [chosen, kinds, list(columns.optional), columns.separator, sounds and asdict(sounds)]
        found = self._scan(tables, made, columns.optional, by_column, key, settings)
        given = _given_splits(tables, found)
        refuse_together(
            [*problems_between(self._rows, made, found, given)], some(str(table.file(0)) for table in tables.values())
        )
        self._items = _divided(found, given, made, splits, draws_test=not (is_split or by_column))
        making = Making(self.fitted, self._rows, found, given, self._items, key, columns, made, texts)
        self._names = {name: making.name(name, name in scaled) for name in made if kinds[name] != UNREAD}

    @property
    def specs(self) -> Mapping[str, Spec]:
        return {name: each.spec for name, each in self._names.items()}

    def train(self) -> Split:
        return self._split("train")

    def val(self) -> Split | None:
        return self._split("val") if len(self._items["val"]) else None

    def test(self) -> Split | None:
        return self._split("test") if len(self._items["test"]) else None

    def order(self, num_samples: int, seed: int) -> Stream:
        """That of all samples, or of windows of blocks, where a table is larger than `shuffle_mb`."""
        if self._bytes <= self._limit:
            return super().order(num_samples, seed)
        ends = numpy.cumsum([block.rows for block in self._rows.blocks])
        sizes = numpy.diff(numpy.searchsorted(self._items["train"], ends), prepend=0)
        costs = [block.bytes for block, size in zip(self._rows.blocks, sizes, strict=True) if size]
        return WindowOrder(sizes=sizes[sizes > 0].tolist(), costs=costs, limit=self._limit, seed=seed)

    def places(self) -> Places:
        return Places.of_rows(self._items, self._sizes)

    @property
    def _bytes(self) -> int:
        return sum(block.bytes for block in self._rows.blocks)

    def _key(self) -> list[object] | None:
        """Of the files, under which what is found is kept; None: it is not."""
        if len(self._rows) <= KEPT_ROWS and self._bytes <= self._limit:
            return None
        return [VERSION, fingerprint(table.file(0) for table in self._rows.tables())]

    def _scan(
        self,
        tables: Mapping[str, Rows],
        kinds: Mapping[str, Kind],
        optional: Sequence[str],
        split: str | None,
        key: Sequence[object] | None,
        settings: Sequence[object],
    ) -> Scan:
        """What a pass over all rows finds, or found before."""
        reads = self._bytes <= self._limit

        def between(found: Scan) -> list[str]:
            return list(problems_between(self._rows, kinds, found, _given_splits(tables, found)))

        make = partial(scan, rows=self._rows, kinds=kinds, optional=optional, split=split, reads=reads, between=between)
        return (
            make(None) if key is None else cached_folder("manifest", [*key, *settings, split, reads], make, Scan.read)
        )

    def _split(self, name: str) -> Split:
        return RowSplit(name, self._rows, self._items[name], self._names)


def _given_splits(tables: Mapping[str, Rows], found: Scan) -> numpy.ndarray:
    """Of each row, the place of its split in `SPLITS`, before any is drawn."""
    if found.splits is not None:
        return found.splits
    places = [SPLITS.index(split) for split in tables]
    return numpy.repeat(numpy.array(places, numpy.int8), [len(rows) for rows in tables.values()])


def _divided(
    found: Scan, given: numpy.ndarray, kinds: Mapping[str, Kind], keys: SplitKeys, *, draws_test: bool
) -> Mapping[str, numpy.ndarray]:
    """The rows of each split, with shares of the first name of one class for each row."""
    names = [name for name, kind in kinds.items() if isinstance(kind, ClassColumn) and not kind.several]
    strata = numpy.zeros(len(given), numpy.int64)
    if names:
        codes = found.lists[names[0]]
        place = numpy.argsort(numpy.argsort([str(label) for label in found.facts[names[0]]]))  # in the order of names
        strata[codes.lengths > 0] = place[codes.values] + 1
    draws = [split for split in ("val", "test") if not (given == SPLITS.index(split)).any()]
    return divide(given, found.groups, strata, keys, [split for split in draws if split == "val" or draws_test])
