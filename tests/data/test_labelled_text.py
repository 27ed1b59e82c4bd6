"""Texts with a class each."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from mmtx.data.base import Split, origin_of
from mmtx.data.text.labelled_text import LabelledText
from mmtx.data.text.vocabulary import Bytes
from mmtx.errors import UserError

ROWS = [(f"number {i}", ("b", "a", "c")[i % 3]) for i in range(60)]


def table(folder: Path, kind: str) -> Path:
    file = folder / f"texts.{kind}"
    if kind == "jsonl":
        file.write_text("\n".join(json.dumps({"text": text, "label": label}) for text, label in ROWS) + "\n\n")
    else:
        comma = "\t" if kind == "tsv" else ","
        file.write_text("\n".join([f"label{comma}text", *(f"{label}{comma}{text}" for text, label in ROWS)]))
    return file


def made(path: Path, **changes: Any) -> LabelledText:
    keys: dict[str, Any] = {"text": "text", "label": "label", "max_length": 12, "split_seed": 0}
    keys |= {"val_fraction": 0.2, "test_fraction": 0.1, "vocabulary": Bytes()}
    return LabelledText(path=str(path), **{**keys, **changes})


def decoded(source: LabelledText, split: Split, index: int) -> str:
    vocabulary = source.specs["text"].vocabulary
    assert vocabulary is not None
    return vocabulary.decode(split[index]["text"]["ids"].tolist())


@pytest.mark.parametrize("kind", ["csv", "tsv", "jsonl"])
def test_every_text_once(kind: str, tmp_path: Path) -> None:
    source = made(table(tmp_path, kind))
    splits = [source.train(), source.val(), source.test()]
    assert [len(split) for split in splits if split is not None] == [42, 12, 6]
    read = []
    for split in splits:
        assert split is not None
        for i in range(len(split)):
            ids, label = split[i]["text"]["ids"].tolist(), int(split[i]["label"]["class"])
            number = int(origin_of(split, i).rpartition(" ")[2])
            assert (ids[0], ids[-1]) == (256, 257)
            read.append((decoded(source, split, i), source.specs["label"].class_names[label]))
            assert read[-1] == ROWS[number - (1 if kind == "jsonl" else 2)], "where it was read"
    assert sorted(read) == sorted(ROWS)
    specs = source.specs
    assert specs["label"].class_names == ("a", "b", "c")
    assert specs["text"].fields["ids"].max_length == 12


def test_quotes(tmp_path: Path) -> None:
    """They hold commas and ends of lines in a .csv, and are letters in a .tsv."""
    (tmp_path / "a.csv").write_text('text,label\n"one, two\nthree ""four""",a\n' + "five,b\n" * 9)
    (tmp_path / "a.tsv").write_text('text\tlabel\n"one, two\ta\n' + "five\tb\n" * 9)
    for kind, first in (("csv", 'one, two\nthree "four"'), ("tsv", '"one, two')):
        source = made(tmp_path / f"a.{kind}", val_fraction=0.0, test_fraction=0.0, max_length=40)
        samples = source.train()
        texts = [decoded(source, samples, i) for i in range(len(samples))]
        assert sorted(texts) == sorted([first, *["five"] * 9])


def test_long_texts_lose_their_end(tmp_path: Path) -> None:
    source = made(table(tmp_path, "csv"), max_length=6, val_fraction=0.0, test_fraction=0.0)
    assert source.val() is None
    assert source.test() is None
    ids = source.train()[0]["text"]["ids"].tolist()
    assert ids == [256, *b"numb", 257]


@pytest.mark.parametrize(
    ("content", "changes", "message"),
    [
        (
            "text,label\na,b\n",
            {"val_fraction": 0.0, "test_fraction": 0.0},
            "t.csv: label has 1 classes in its training rows: b; at least 2",
        ),
        ("words,label\na,b\n", {}, "^text=text is not a column of .*t.csv; choose from: label, words"),
        ("text,label\na,b\nc,d,e\n", {}, "row 3 has 3 fields, and the header 2; text with commas goes in quotes"),
        (
            'text,label\na,b\n"c,d\n',
            {},
            r"row 3 \(up to line 3\) is not CSV.*: unexpected end of data",
        ),
        ("text,label\na,b\nc,d\n", {"max_length": 2}, "max_length=2 must be at least 3"),
        ("text,label\na,b\nc,d\n", {"val_fraction": 1.0}, "val_fraction=1.0 must lie"),
        ("text,label\na,b\nc,d\n", {"test_fraction": 0.6}, "test_fraction=0.6 of 2 samples holds none out"),
    ],
)
def test_tables_that_cannot_be(content: str, changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text(content)
    with pytest.raises(UserError, match=message):
        made(tmp_path / "t.csv", **changes)
    with pytest.raises(UserError, match="is not a file"):
        made(tmp_path / "nothing.csv")
