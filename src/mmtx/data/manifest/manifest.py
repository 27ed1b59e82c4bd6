"""A dataset of any kinds of columns, from any kind of table."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from typing import Literal

import numpy
from torch import Tensor

from mmtx.batch import Spec
from mmtx.data.audio.recordings import SoundKeys
from mmtx.data.base import Source, Split
from mmtx.data.files.cache import cached_folder
from mmtx.data.files.fingerprint import fingerprint
from mmtx.data.image.decode_image import Fit
from mmtx.data.manifest.column_kinds import UNREAD, kinds_of
from mmtx.data.manifest.columns import choose_columns, make_kinds
from mmtx.data.manifest.files import PictureKeys
from mmtx.data.manifest.kind import Kind
from mmtx.data.manifest.labels import ClassColumn
from mmtx.data.manifest.making import Making
from mmtx.data.manifest.problems import check_shared_files
from mmtx.data.manifest.row_split import RowSplit
from mmtx.data.manifest.scan import Scan, scan
from mmtx.data.manifest.splits import SPLITS, SplitKeys, divide
from mmtx.data.sampler import Stream
from mmtx.data.tables.open_tables import open_splits
from mmtx.data.tables.parquet_rows import GroupCache
from mmtx.data.tables.rows import JoinedRows, Rows
from mmtx.data.text.vocabulary import TextVocabulary
from mmtx.data.window_order import WindowOrder
from mmtx.errors import InvalidValue, check_at_least

VERSION = 1
KEPT_ROWS = 50_000
"""What a pass over more rows finds is kept in the cache folder."""


class Manifest(Source):
    """Names: those of `columns`, and of columns that the set or an objective reads by their own names.

    A table is CSV, TSV, JSONL, Parquet, Arrow, a folder that `datasets` saved to disk, or tars in WebDataset's layout;
    docs/own_data.md has an example of each. Every row is looked at before anything starts, and what is wrong is named
    by row and column. Rows that share a file are never in two splits. Files are decoded when their sample is read.

    A table of more than `shuffle_mb` is never held in memory: its row groups or shards are shuffled, and read in
    windows of that size. What is kept of each row (classes, numbers, ids of texts) is then mapped from the cache
    folder, as it is for more than `KEPT_ROWS` rows, and files that lie in the table are not compared.

    Args:
        path: of the table, a pattern, or several of them.
        columns: by name, the column, or several: entries of a vector, channels of a series, or classes of 0 and 1.
        kinds: by name, where neither the set nor the values tell it: picture, sound, text, label, labels, number,
            vector, series.
        tokenizers: classes of those in the set, by name.
        objectives: classes of those that predict a name, by name.
        optional: names that a row may lack.
        separator: between the classes of a text that holds several.
        split: column that holds train, val or test; a table without it is split by the fractions; null: all are.
        val_path: the validation table; null: `val_fraction` of the training rows.
        test_path: the test table; null: `test_fraction` of the training rows.
        val_fraction: validation share, stratified by class; 0: none.
        test_fraction: test share, likewise; not drawn where a column or a folder of `datasets` tells splits.
        split_seed: of the choice.
        standardise: numbers that the set reads have mean 0 and deviation 1 over the training rows.
        vocabulary: of texts; each name of texts has its own.
        max_length: ids of a text, marks included; longer ones lose their end. null: the longest.
        shuffle_mb: of a table, that are shuffled, and held in memory, at a time.
        The other keys are those of `PictureKeys` and `SoundKeys`.
    """

    def __init__(
        self,
        *,
        path: str | Sequence[str],
        columns: dict[str, str | list[str]],
        kinds: dict[str, str],
        tokenizers: dict[str, str],
        objectives: dict[str, str],
        optional: Sequence[str],
        separator: str,
        split: str | None,
        val_path: str | Sequence[str] | None,
        test_path: str | Sequence[str] | None,
        val_fraction: float,
        test_fraction: float,
        split_seed: int,
        standardise: bool,
        vocabulary: TextVocabulary,
        max_length: int | None,
        size: int,
        channels: Literal[1, 3],
        fit: Fit,
        augment: Callable[[Tensor], Tensor] | None,
        max_pixels: int,
        sample_rate_hz: int,
        resample: bool,
        max_seconds: float,
        trim_db: float | None,
        shuffle_mb: int,
    ) -> None:
        pictures = PictureKeys(size, channels, fit, augment, max_pixels)
        sounds = SoundKeys(sample_rate_hz, resample, max_seconds, trim_db)
        split_keys = SplitKeys(val_fraction, test_fraction, split_seed)
        check_at_least("max_length", max_length, 3)
        check_at_least("shuffle_mb", shuffle_mb, 1)
        self._limit = shuffle_mb << 20
        tables, is_split = open_splits(path, val_path, test_path, GroupCache(self._limit))
        self._rows = JoinedRows(list(tables.values()))
        by_column = _split_column(split, self._rows, tables, is_split)
        readers = {**objectives, **tokenizers}
        chosen = choose_columns(columns, readers, self._rows, optional)
        kind_of = kinds_of(chosen, self._rows, kinds, readers)
        made = make_kinds(chosen, kind_of, pictures, sounds, separator)
        key = self._key()
        found = self._scan(made, optional, by_column, key, [chosen, kind_of, list(optional), separator, asdict(sounds)])
        given = _given_splits(tables, found)
        if found.groups is not None:
            check_shared_files(self._rows, found.groups, given)
        self._items = _divided(found, given, made, split_keys, draws_test=not (is_split or by_column))
        making = Making(self.fitted, self._rows, found, given, self._items, key)
        scaled = tokenizers if standardise else ()
        self._names = {
            name: making.name(name, kind, name in optional, name in scaled, vocabulary, max_length)
            for name, kind in made.items()
            if kind_of[name] != UNREAD
        }

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
        kinds: Mapping[str, Kind],
        optional: Sequence[str],
        split: str | None,
        key: Sequence[object] | None,
        settings: Sequence[object],
    ) -> Scan:
        """What a pass over all rows finds, or found before."""
        reads = self._bytes <= self._limit
        make = partial(scan, rows=self._rows, kinds=kinds, optional=optional, split=split, reads=reads)
        return (
            make(None) if key is None else cached_folder("manifest", [*key, *settings, split, reads], make, Scan.read)
        )

    def _split(self, name: str) -> Split:
        return RowSplit(name, self._rows, self._items[name], self._names)


def _split_column(split: str | None, rows: Rows, tables: Mapping[str, Rows], is_split: bool) -> str | None:
    """The column that tells splits; None where there is none, or the path tells them.

    Raises:
        InvalidValue: there is one beside tables of validation or test.
    """
    if split is None or split not in rows.columns or is_split:
        return None
    if len(tables) > 1:
        raise InvalidValue("split", split, "is a column that tells splits, beside data.val_path or test_path", "null")
    return split


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
        strata[codes.lengths > 0] = codes.values + 1
    draws = [split for split in ("val", "test") if not (given == SPLITS.index(split)).any()]
    return divide(given, found.groups, strata, keys, [split for split in draws if split == "val" or draws_test])
