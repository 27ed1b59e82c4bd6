"""One reader of tables of texts, recordings and whatever else stands in rows: the same rules in every format."""

from __future__ import annotations

import codecs
import csv
import json
from pathlib import Path
from typing import Any

import pytest

from mmtx.data.files.table import KINDS
from mmtx.data.manifest.labels import ClassColumn
from mmtx.data.manifest.scan import scan
from mmtx.data.manifest.texts import TextColumn
from mmtx.data.tables.open_tables import open_splits
from mmtx.data.tables.parquet_rows import GroupCache
from mmtx.errors import UserError

BREAKS = "\u2028\u2029\x85\x0b\x0c\x1c\x1d\x1e"
"""What `str.splitlines` ends a line at, though neither CSV nor JSON lines do."""


def read(file: Path) -> list[tuple[str, str]]:
    """Texts and labels of a table."""
    rows = open_splits(str(file), None, None, GroupCache(0))[0]["train"]
    kinds = {"text": TextColumn(["text"]), "label": ClassColumn(["label"], several=False, separator=";")}
    found = scan(None, rows, kinds, [], None, True, lambda _: ())
    texts = [kinds["text"].read(cells) for cells in rows.scan(["text"])]
    return [(text, found.facts["label"][code]) for (text,), (code,) in zip(texts, found.lists["label"], strict=True)]


def problems(file: Path) -> list[str]:
    """Without the name of the file."""
    with pytest.raises(UserError) as error:
        read(file)
    found = [line.removeprefix("    - ") for line in str(error.value).splitlines()]
    return [line.removeprefix(str(file)).lstrip(",: ") for line in found if not line.endswith(f"with {file}:")]


def written(folder: Path, kind: str, rows: list[dict[str, Any]], **style: Any) -> Path:
    """A table by the standard library's own writers."""
    file = folder / f"table{kind}"
    with file.open("w", encoding="utf-8", newline="") as stream:
        if kind.lower() == ".jsonl":
            stream.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        else:
            bare = {"delimiter": "\t", "quoting": csv.QUOTE_NONE, "quotechar": None} if kind.lower() == ".tsv" else {}
            writer = csv.DictWriter(stream, list(rows[0]), **{**bare, **style})
            writer.writeheader()
            writer.writerows(rows)
    return file


@pytest.mark.parametrize("kind", [*KINDS, ".CSV", ".Tsv", ".JSONL"])
def test_texts_are_what_was_written(kind: str, tmp_path: Path) -> None:
    texts = [f"good{mark}film" for mark in BREAKS] + ["long " * 40_000, " spaces ", "it's", "ünï\U0001f600"]
    file = written(tmp_path, kind, [{"text": text, "label": "a"} for text in texts])
    assert [text for text, _ in read(file)] == texts
    assert csv.field_size_limit() == 131_072, "what other code of this process relies on"
    file.write_bytes(codecs.BOM_UTF8 + file.read_bytes().replace(b"\r\n", b"\n").replace(b"\n", b"\r\n\r\n"))
    assert [text for text, _ in read(file)] == texts, "a mark of byte order, ends of lines of Windows, empty lines"


def test_a_field_of_csv_holds_ends_of_lines(tmp_path: Path) -> None:
    texts = ["one\ntwo", "three\r\nfour", '"', "a,b", "\n"]
    rows = [{"text": text + ".", "label": "a"} for text in texts]
    assert [text for text, _ in read(written(tmp_path, ".csv", rows))] == [text + "." for text in texts]


@pytest.mark.parametrize("kind", KINDS)
def test_a_value_that_is_none_is_named_in_every_format(kind: str, tmp_path: Path) -> None:
    bad = [("", "a"), ("  ", "a"), ("b", ""), ("c", " "), ("d", float("nan"))]
    rows = [{"text": "good", "label": "a"}] + [{"text": text, "label": label} for text, label in bad]
    found = problems(written(tmp_path, kind, rows))
    first = 2 if kind == ".jsonl" else 3
    wanted = ["text is empty", "text is empty", "label is empty", "label is empty", "label is missing"]
    assert [problem.partition(": ")[2] for problem in found] == wanted
    assert [int(problem.partition(":")[0].split()[-1]) for problem in found] == list(range(first, first + 5))


@pytest.mark.parametrize(
    ("text", "label", "problem"),
    [
        ("x", None, "label is missing"),
        ("x", ["a", "b"], 'label is ["a", "b"], neither a text nor a whole number'),
        ("x", {"a": 1}, "label is {"),
        ("x", True, "label is true, neither"),
        ("x", 0.5, "label is 0.5, neither"),
        ("x", float("inf"), "label is Infinity, neither"),
        (float("nan"), "a", "text is missing"),
        (["x"], "a", 'text is ["x"], not a text'),
        (5, "a", "text is 5, not a text"),
        (False, "a", "text is false, not a text"),
        ("\ud800", "a", "text holds half a character"),
    ],
)
def test_what_json_has_besides_texts(text: Any, label: Any, problem: str, tmp_path: Path) -> None:
    file = tmp_path / "t.jsonl"
    file.write_text(json.dumps({"text": "y", "label": "a"}) + "\n" + json.dumps({"text": text, "label": label}))
    (found,) = problems(file)
    assert found.startswith(f"line 2: {problem}")


def test_labels_are_names(tmp_path: Path) -> None:
    """Not spellings: spaces around them, ways to compose a letter and types of numbers do not make two of one."""
    labels = ["pos", " pos", "pos\u00a0", 1, 1.0, "1", "caf\u00e9", "cafe\u0301", "true"]
    file = written(tmp_path, ".jsonl", [{"text": "x", "label": label} for label in labels])
    assert [label for _, label in read(file)] == ["pos"] * 3 + ["1"] * 3 + ["caf\u00e9"] * 2 + ["true"]
    for kind in KINDS:
        rows = [{"text": "x", "label": label} for label in ("1", "2", "1.0", "01", "pos", "pos ")]
        found = problems(written(tmp_path, kind, rows))
        assert found == [
            "label has 01 and 1, which are one number: write it in one way",
            "label has 01 and 1.0, which are one number: write it in one way",
        ]


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        ("t.csv", "", "^path=.*t.csv holds no rows"),
        ("t.tsv", "text\tlabel\n", "^path=.*t.tsv holds no rows"),
        ("t.jsonl", "\n \n", "^path=.*t.jsonl holds no rows"),
        ("t.csv", "text,label, label\na,b,c\n", "t.csv has a column twice: label"),
        ("t.csv", "text,label\na,\0b\n", "t.csv holds a byte of 0, which no text has, at character 13"),
        ("t.csv", "text,label\na,b\n".encode("utf-16"), "t.csv is not UTF-8: byte 0xff at offset 0; convert it first"),
        (
            "t.csv",
            "text,label\na,b\n".encode("utf-16-le"),
            "t.csv is not UTF-8: 15 of its 30 bytes are 0, as in UTF-16",
        ),
        ("t.jsonl", "{}".encode("utf-32"), "t.jsonl is not UTF-8: byte 0xff"),
        ("t.csv", b"text,label\n\xe9,b\n", "t.csv is not UTF-8: byte 0xe9 at offset 11"),
        ("t.txt", "text,label\na,b\n", r"^path=.*t.txt must end with one of .csv .tsv .jsonl"),
        ("t.jsonl", '{"label": "a", "label": "b"}', "t.jsonl, line 1 is not JSON: a name stands twice in an object"),
        ("t.jsonl", "[" * 100_000, "t.jsonl, line 1 is not JSON"),
        ("t.jsonl", "[1]\n", "t.jsonl, line 1 is not an object, as"),
    ],
)
def test_files_that_are_no_tables(name: str, content: str | bytes, problem: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(UserError, match=problem):
        read(tmp_path / name)


def test_numbers_as_labels(tmp_path: Path) -> None:
    """Numbers that floats cannot tell apart are two; one with an exponent may be the same as one without."""
    labels = [2**53, 2**53 + 1, "1e5", "100000", 7]
    rows = [{"text": "x", "label": label} for label in labels]
    assert problems(written(tmp_path, ".jsonl", rows)) == [
        "label has 100000 and 1e5, which are one number: write it in one way"
    ]
    assert len(read(written(tmp_path, ".jsonl", [*rows[:3], rows[4]]))) == 4


def test_tables_that_were_joined(tmp_path: Path) -> None:
    for kind, comma in ((".csv", ","), (".tsv", "\t")):
        (tmp_path / f"t{kind}").write_text(f"text{comma}label\na{comma}b\n" * 2)
        assert problems(tmp_path / f"t{kind}") == ["row 3 is the header once more: join tables without it"]


def test_rows_that_do_not_fit_the_header(tmp_path: Path) -> None:
    for kind, comma, hint in ((".csv", ",", "; text with commas goes in quotes"), (".tsv", "\t", "")):
        file = tmp_path / f"t{kind}"
        rows = [("text", "label"), ("a", "b"), ("a", "b", "c"), ("a",), ("a", "b")]
        file.write_text("\n".join(comma.join(row) for row in rows))
        assert problems(file) == [
            f"row 3 has 3 fields, and the header 2{hint}",
            f"row 4 has 1 fields, and the header 2{hint}",
        ]
