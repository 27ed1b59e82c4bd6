"""Rows of every kind of file."""

from __future__ import annotations

import io
import json
import os
import stat
import sys
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy
import pyarrow
import pyarrow.parquet
import pytest
from tables import Row, png, write_table

from mmtx.data.files.cache import cache_folder
from mmtx.data.tables import tar_index
from mmtx.data.tables.open_tables import open_splits, open_tables
from mmtx.data.tables.parquet_rows import GroupCache
from mmtx.data.tables.rows import Rows
from mmtx.errors import UserError

ROWS: list[Row] = [{"picture": png(i), "text": f"{i}, one", "kind": "ab"[i % 2], "x": i * 0.5} for i in range(20)]


def opened(path: Path | Sequence[str], limit: int = 1 << 20) -> Rows:
    given = str(path) if isinstance(path, Path) else path
    return open_tables("path", given, GroupCache(limit))[""]


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet", "datasets", "tar"])
def test_rows_in_order_and_one_by_one(kind: str, tmp_path: Path) -> None:
    rows = opened(write_table(tmp_path, kind, ROWS))
    columns = ("kind", "txt" if kind == "tar" else "text")
    expected = [(row["kind"], row["text"]) for row in ROWS]
    assert list(rows.scan(columns)) == expected
    assert [rows.cells(row, columns) for row in (19, 0, 7, 6)] == [expected[row] for row in (19, 0, 7, 6)]
    assert len(rows) == sum(block.rows for block in rows.blocks) == 20
    assert all(table.file(0).is_file() for table in rows.tables())
    assert set(rows.columns) >= set(columns)


def test_several_files_are_one_table(tmp_path: Path) -> None:
    for number, kind in enumerate(("parquet", "jsonl")):
        write_table(tmp_path / str(number), kind, ROWS[10 * number : 10 * number + 10])
    files = [str(tmp_path / "0" / "table.parquet"), str(tmp_path / "1" / "*.jsonl")]
    rows = opened(files)
    assert [cells[0] for cells in rows.scan(["text"])] == [row["text"] for row in ROWS]
    assert rows.cells(12, ["text"]) == (ROWS[12]["text"],)
    assert rows.where(12).endswith("table.jsonl, line 3")
    assert rows.file(12).parent == tmp_path / "1"


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.txt", b"x", r"path=.*a.txt must end with one of .csv .tsv .jsonl .parquet .arrow .tar"),
        ("a.parquet", b"x", r"a.parquet cannot be read: "),
        ("a.arrow", b"x", r"a.arrow cannot be read: "),
        ("a.tar", b"x" * 2000, r"a.tar cannot be read as a tar: "),
        ("other/a.jpg", b"x", r"is a folder without Parquet files, tars, or what datasets saves to disk"),
        ("saved/state.json", b"{}", r"state.json lists no files, which are not there"),
        ("saved/state.json", b'{"_data_files": [{"filename": "b.arrow"}]}', r"lists .*b.arrow, which are not there"),
        ("saved/state.json", b"[]", r"holds no object"),
    ],
)
def test_what_cannot_be_read(name: str, content: bytes, message: str, tmp_path: Path) -> None:
    file = tmp_path / name
    file.parent.mkdir(exist_ok=True)
    file.write_bytes(content)
    with pytest.raises(UserError, match=message):
        opened(file if file.parent == tmp_path else file.parent)
    with pytest.raises(UserError, match="is not a file, nor a pattern that matches any"):
        opened(tmp_path / "none.csv")


def test_pyarrow_is_an_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_table(tmp_path, "parquet", ROWS)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(UserError, match=r"pyarrow, which is not installed: pip install 'mmtx\[data\]'"):
        opened(path)


def test_splits_of_a_folder_of_datasets(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for split in ("train", "validation", "extra"):
        write_table(tmp_path / split, "datasets", ROWS[:6]).rename(tmp_path / f"saved_{split}")
        (tmp_path / split).rmdir()
        (tmp_path / f"saved_{split}").rename(tmp_path / split)
    (tmp_path / "dataset_dict.json").write_text(json.dumps({"splits": ["train", "validation", "extra"]}))
    tables, is_split = open_splits(str(tmp_path), None, None, GroupCache(1))
    assert ({split: len(rows) for split, rows in tables.items()}, is_split) == ({"train": 6, "val": 6}, True)
    assert "data=manifest leaves out extra" in capsys.readouterr().err
    with pytest.raises(UserError, match="val_path=.* is beside that of data.path="):
        open_splits(str(tmp_path), str(tmp_path / "train"), None, GroupCache(1))
    (tmp_path / "dataset_dict.json").write_text(json.dumps({"splits": ["validation"]}))
    with pytest.raises(UserError, match="has no split train, but validation"):
        open_splits(str(tmp_path), None, None, GroupCache(1))


def test_classes_of_datasets_have_their_names_in_parquet_too(tmp_path: Path) -> None:
    names = {"names": ["cat", "dog"], "_type": "ClassLabel"}
    features = {
        "one": names,
        "some": {"feature": names, "_type": "List"},
        "text": {"dtype": "string", "_type": "Value"},
    }
    table = pyarrow.table({"one": [1, 0, -1], "some": [[0, 1], [], [1]], "text": ["a", "b", "c"]})
    stored = {"huggingface": json.dumps({"info": {"features": features}})}
    pyarrow.parquet.write_table(table.replace_schema_metadata(stored), tmp_path / "a.parquet")
    rows = opened(tmp_path / "a.parquet")
    assert list(rows.scan(["one", "some"])) == [("dog", ["cat", "dog"]), ("cat", []), (None, ["dog"])]


def test_few_row_groups_are_held(tmp_path: Path) -> None:
    cache = GroupCache(250)
    reads: list[int] = []

    def read(number: int) -> Any:
        reads.append(number)
        return numpy.zeros(100, numpy.uint8)

    for number in (0, 1, 0, 2, 0, 1):
        cache.get((number,), lambda number=number: read(number))
    assert reads == [0, 1, 2, 1]  # two fit; the one that was used longest ago goes
    rows = open_tables("path", str(write_table(tmp_path, "parquet", ROWS, group=5)), GroupCache(1))[""]
    assert [block.rows for block in rows.blocks] == [5, 5, 5, 5]
    assert [rows.cells(i, ["x"])[0] for i in (19, 3, 10)] == [9.5, 1.5, 5.0]


# --- tars -------------------------------------------------------------------------------------------------------------


def tar(file: Path, members: dict[str, bytes]) -> Path:
    with tarfile.open(file, "w") as stream:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            stream.addfile(member, io.BytesIO(content))
    return file


def npy(values: Any) -> bytes:
    stream = io.BytesIO()
    numpy.save(stream, values)
    return stream.getvalue()


def test_members_of_a_tar_are_columns(tmp_path: Path) -> None:
    members = {
        "./a/one.JPG": b"picture",
        "./a/one.seg.png": b"mask",
        "./a/one.txt": "grün\n".encode(),
        "./a/one.json": b'{"size": 3, "txt": "other"}',
        "./a/.hidden.txt": b"no",
        "a/__MACOSX/one.txt": b"no",
        "a/two.npy": npy([[1, 2]]),
        "a/two.json": b"{",
    }
    rows = opened(tar(tmp_path / "a.tar", members))
    assert rows.columns == ("jpg", "seg.png", "txt", "json", "npy", "json.size", "json.txt", "size")
    columns = ("jpg", "seg.png", "txt", "npy", "size", "json.txt")
    assert rows.cells(0, columns) == (b"picture", b"mask", "grün", None, 3, "other")
    assert rows.cells(1, columns)[:4] == (None, None, None, [[1, 2]])
    assert "cannot be read: Expecting property name" in str(rows.cells(1, ["size"]))
    assert rows.where(1).endswith("a.tar, sample a/two")


@pytest.mark.parametrize(
    ("members", "message"),
    [({}, "holds no samples"), ({"one": b"x"}, "holds no samples"), ({"a.txt": b"x", "a.TXT": b"y"}, "a.txt twice")],
)
def test_a_tar_that_cannot_be_indexed(members: dict[str, bytes], message: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=message):
        opened(tar(tmp_path / "a.tar", members))


def test_a_tar_that_is_cut_short(tmp_path: Path) -> None:
    file = tar(tmp_path / "a.tar", {f"{i}.txt": b"x" * 1000 for i in range(10)})
    os.truncate(file, 12_000)
    with pytest.raises(UserError, match="a.tar (is cut short|cannot be read as a tar)"):
        opened(file)


def test_a_tar_is_indexed_once_and_again_when_it_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tar(tmp_path / "a.tar", {"a.txt": b"one"})
    made: list[Path] = []
    make = tar_index._made
    monkeypatch.setattr(tar_index, "_made", lambda file: (made.append(file), make(file))[1])
    for _ in range(2):
        assert opened(file).cells(0, ["txt"]) == ("one",)
    assert (len(made), (tmp_path / "a.tar.index.npz").is_file()) == (1, True)
    tar(file, {"a.txt": b"other", "b.txt": b"more"})
    assert opened(file).cells(0, ["txt"]) == ("other",)
    (tmp_path / "a.tar.index.npz").write_bytes(b"damaged")
    assert len(opened(file)) == 2
    assert len(made) == 3


def test_the_index_of_a_folder_that_cannot_be_written_is_in_the_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "shards").mkdir()
    file = tar(tmp_path / "shards" / "a.tar", {"a.txt": b"one"})
    written = tar_index.write_atomically

    def refused(home: Path, content: bytes) -> None:
        if home.parent == file.parent:
            raise PermissionError
        written(home, content)

    monkeypatch.setattr(tar_index, "write_atomically", refused)
    file.parent.chmod(stat.S_IRUSR | stat.S_IXUSR)
    assert opened(file).cells(0, ["txt"]) == ("one",)
    file.parent.chmod(stat.S_IRWXU)
    assert len(list((cache_folder() / "tar").iterdir())) == 1
    assert [path.name for path in file.parent.iterdir()] == ["a.tar"]
    monkeypatch.setattr(tar_index, "_made", None)
    assert opened(file).cells(0, ["txt"]) == ("one",)
