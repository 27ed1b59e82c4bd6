"""From a path to its rows, whatever kind of file it is."""

import glob
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from mmtx.data.files.folder import list_folder
from mmtx.data.files.table import KINDS
from mmtx.data.tables.arrow_rows import ArrowRows, dataset_splits
from mmtx.data.tables.parquet_rows import GroupCache, ParquetRows
from mmtx.data.tables.rows import JoinedRows, Rows
from mmtx.data.tables.tar_rows import TarRows
from mmtx.data.tables.text_rows import TextRows
from mmtx.errors import InvalidValue, refuse_together

SPELLINGS = {**{split: split for split in ("train", "val", "test")}, "training": "train", "validation": "val"}
SPELLINGS |= {"valid": "val", "dev": "val"}
"""What tables and folders call the splits, and what we do."""
SUFFIXES = (*KINDS, ".parquet", ".arrow", ".tar")


def open_tables(key: str, path: str | Sequence[str], cache: GroupCache) -> dict[str, Rows]:
    """The tables of a path, by their splits where it names some, else under "".

    Args:
        key: of the config, that gives the path.
        path: of a file, a folder that `datasets` saved or that holds Parquet files or tars, a pattern, or several.
        cache: of what is read of Parquet files.

    Raises:
        UserError: there is nothing to read, or it cannot be read.
    """
    if isinstance(path, str) and Path(path).expanduser().is_dir():
        splits = dataset_splits(Path(path).expanduser())
        if splits is not None:
            return splits
    files = [file for entry in ([path] if isinstance(path, str) else path) for file in _files(key, entry)]
    tables = [_open(key, file, cache) for file in files]
    return {"": tables[0] if len(tables) == 1 else JoinedRows(tables)}


def open_splits(
    path: str | Sequence[str],
    val_path: str | Sequence[str] | None,
    test_path: str | Sequence[str] | None,
    cache: GroupCache,
) -> tuple[dict[str, Rows], bool]:
    """The tables of ``train``, ``val`` and ``test`` that there are; and whether the path itself tells them apart.

    Raises:
        UserError: there is nothing to read, it cannot be read, or a split is there twice.
    """
    tables = open_tables("path", path, cache)
    found = {"train": tables[""]} if "" in tables else _by_split(str(path), tables)
    for split, key, other in (("val", "val_path", val_path), ("test", "test_path", test_path)):
        if other is None:
            continue
        if split in found:
            raise InvalidValue(key, other, f"is beside that of data.path={path}, which has {', '.join(tables)}", "null")
        inner = open_tables(key, other, cache)
        if "" not in inner:
            raise InvalidValue(key, other, f"holds several splits: {', '.join(inner)}; name the folder of one")
        found[split] = inner[""]
    for split, rows in found.items():
        if not len(rows):
            refuse_together(rows.problems(), str(path))
            raise InvalidValue("path" if split == "train" else f"{split}_path", path, f"holds no rows of {split}")
    return found, "" not in tables


def _by_split(path: str, tables: dict[str, Rows]) -> dict[str, Rows]:
    """The splits under our names. Others are left out, and a line on stderr names them."""
    known = {SPELLINGS[name]: rows for name, rows in tables.items() if name in SPELLINGS}
    others = [name for name in tables if name not in SPELLINGS]
    if "train" not in known:
        raise InvalidValue("path", path, f"has no split train, but {', '.join(tables)}; name the folder of one")
    if others:
        print(f"data=manifest leaves out {', '.join(others)} of {path}", file=sys.stderr)
    return known


def _open(key: str, file: Path, cache: GroupCache) -> Rows:
    readers: dict[str, Callable[[], Rows]] = {
        ".parquet": lambda: ParquetRows(file, cache),
        ".arrow": lambda: ArrowRows(file, {}),
        ".tar": lambda: TarRows(file),
    }
    return readers.get(file.suffix.lower(), lambda: TextRows(key, str(file)))()


def _files(key: str, entry: str) -> list[Path]:
    path = Path(entry).expanduser()
    if path.is_dir():
        files = [file for file in list_folder(path).files if file.suffix.lower() in (".parquet", ".tar")]
        if not files:
            raise InvalidValue(key, entry, "is a folder without Parquet files, tars, or what datasets saves to disk")
        return files
    found = [path] if path.is_file() else sorted(Path(name) for name in glob.glob(str(path), recursive=True))
    if not found:
        raise InvalidValue(key, entry, "is not a file, nor a pattern that matches any")
    for file in found:
        if file.suffix.lower() not in SUFFIXES:
            raise InvalidValue(key, str(file), f"must end with one of {' '.join(SUFFIXES)}: it is a table")
    return found
