"""Short texts, one a line."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import pytest
from contracts import check_source

from mmtx.data.base import Split
from mmtx.data.text.text_lines import TextLines
from mmtx.data.text.vocabulary import Characters
from mmtx.errors import InvalidValue, UserError

NAMES = [f"{first}{last}" for first in ("an", "be", "cla", "di") for last in ("na", "ra", "ta")]


def made(folder: Path, lines: list[str] = NAMES, **changes: Any) -> TextLines:
    path = folder / "names.txt"
    path.write_text("".join(f"{line}\n" for line in lines), newline="")
    keys = {"path": str(path), "vocabulary": Characters(), "num_val": 3, "num_test": 2, "split_seed": 0}
    return TextLines(**{**keys, **changes})


def texts(source: TextLines, split: Split | None) -> list[str]:
    vocabulary = source.specs["text"].vocabulary
    assert split is not None and vocabulary is not None
    return [vocabulary.decode(split[i]["text"]["ids"].tolist()) for i in range(len(split))]


def test_contract(tmp_path: Path) -> None:
    check_source(made(tmp_path))


def test_each_line_is_in_one_split_between_its_marks(tmp_path: Path) -> None:
    source = made(tmp_path)
    splits = [texts(source, split) for split in (source.train(), source.val(), source.test())]
    assert [len(split) for split in splits] == [7, 3, 2] and sorted(sum(splits, [])) == sorted(NAMES)
    assert source.specs["text"].max_length == len("claXX") + 2
    ids, vocabulary = source.train()[0]["text"]["ids"].tolist(), source.specs["text"].vocabulary
    assert vocabulary is not None and (ids[0], ids[-1]) == (vocabulary.begin, vocabulary.end)


def test_the_choice_follows_from_its_seed(tmp_path: Path) -> None:
    first, again, other = (texts(s, s.test()) for s in (made(tmp_path, split_seed=seed) for seed in (0, 0, 1)))
    assert first == again != other


def test_lines_are_as_they_stand(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Of either line end, packed or not; empty ones are left out, and counted."""
    held = {"num_val": 0, "num_test": 0}
    source = made(tmp_path, ["a b ", "", "ü\r", "  "], **held)
    assert texts(source, source.train()) == ["a b ", "ü"] and source.val() is None and source.test() is None
    assert "names.txt: 2 empty lines are left out" in capsys.readouterr().err
    (tmp_path / "names.gz").write_bytes(gzip.compress(b"ab\ncd"))
    packed = made(tmp_path, path=str(tmp_path / "names.gz"), **held)
    assert texts(packed, packed.train()) == ["ab", "cd"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_test": 9}, "num_test=9 leaves no training of the 12 lines of data.path=.* with num_val=3"),
        ({"num_val": -1}, "num_val=-1 must be at least 0"),
        ({"num_test": -1}, "num_test=-1 must be at least 0"),
        ({"path": "/no/such/file"}, "path=/no/such/file is not a file"),
    ],
)
def test_what_is_refused(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidValue, match=message):
        made(tmp_path, **changes)


def test_a_file_that_is_not_utf_8_is_refused(tmp_path: Path) -> None:
    (tmp_path / "latin").write_bytes("Zoë".encode("latin-1"))
    with pytest.raises(UserError, match="is not UTF-8"):
        made(tmp_path, path=str(tmp_path / "latin"))
