"""Recordings listed in a file, with their texts or classes."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmtx.data.recordings import Recording, Recordings, check_sound_keys, refuse_together
from mmtx.data.sound_file import check_sound
from mmtx.data.stratified import held_out
from mmtx.data.text_file import read_text
from mmtx.data.vocabulary import TextVocabulary
from mmtx.errors import InvalidValue, UserError, check_fraction, nearest
from mmtx.stopping import track

COLUMNS = ("path", "text", "label")


class AudioManifest(Recordings):
    """Names: ``audio``, and ``text`` or ``label`` or both, as the training manifest has them.

    A manifest is a CSV file with a header, or a JSONL file with an object per line: ``path`` (of a sound file, from
    the manifest's folder or absolute), ``text``, ``label``; what else it has is ignored. A file may stand in it several
    times, with several texts, and is never dealt out to two splits. The classes are the labels of the training
    manifest, in the order of their names. Everything that is wrong with a manifest is reported at once, and so is what
    the headers of the sound files say; files are decoded when they are asked for.

    Args:
        path: the training manifest.
        val_path: the validation manifest; null: `val_fraction` of the training manifest is held out.
        test_path: the test manifest; null: `test_fraction` is.
        val_fraction: held out, stratified by class, where there is no `val_path`; 0: nothing.
        test_fraction: held out, stratified by class, where there is no `test_path`; 0: nothing.
        split_seed: which ones are held out.
        vocabulary: how texts are written.
        sample_rate_hz: of the waveforms.
        resample: convert files that have another rate, rather than refuse them.
        max_seconds: longer files are refused.
        trim_db: ends of a file that are so much quieter than its loudest moment are cut off; null: nothing is.
    """

    def __init__(
        self,
        *,
        path: str,
        val_path: str | None,
        test_path: str | None,
        val_fraction: float,
        test_fraction: float,
        split_seed: int,
        vocabulary: TextVocabulary,
        sample_rate_hz: int,
        resample: bool,
        max_seconds: float,
        trim_db: float | None,
    ) -> None:
        check_sound_keys(sample_rate_hz=sample_rate_hz, max_seconds=max_seconds)
        check_fraction("val_fraction", val_fraction)
        check_fraction("test_fraction", test_fraction)
        from_train = (0.0 if val_path else val_fraction) + (0.0 if test_path else test_fraction)
        if from_train >= 1:
            raise InvalidValue("val_fraction", val_fraction, f"leaves no training with test_fraction={test_fraction}")
        learn = _Manifest.read("path", path)
        val = _Manifest.read("val_path", val_path) if val_path else None
        test = _Manifest.read("test_path", test_path) if test_path else None
        manifests = [manifest for manifest in (learn, val, test) if manifest is not None]
        wanted = [column for column in ("text", "label") if column in learn.columns]
        problems = [problem for manifest in manifests for problem in manifest.problems(wanted)]
        problems += _shared_files(manifests)
        problems += _unknown_labels(learn, manifests[1:]) if "label" in wanted else []
        problems += _bad_sounds(manifests, sample_rate_hz, resample, max_seconds)
        refuse_together(problems, " and ".join(str(manifest.file) for manifest in manifests))
        labels = tuple(sorted({row.label for row in learn.rows})) if "label" in wanted else None
        recordings = learn.recordings(wanted, labels)
        total = len({row.sound for row in learn.rows})
        watching = val.recordings(wanted, labels) if val else []
        testing = test.recordings(wanted, labels) if test else []
        if test is None:
            recordings, testing = held_out(recordings, "test_fraction", test_fraction, total, split_seed)
        if val is None:
            recordings, watching = held_out(recordings, "val_fraction", val_fraction, total, split_seed)
        super().__init__(
            train=recordings,
            val=watching,
            test=testing,
            labels=labels,
            vocabulary=vocabulary,
            sample_rate_hz=sample_rate_hz,
            resample=resample,
            max_seconds=max_seconds,
            trim_db=trim_db,
            in_memory=False,
        )


def listed_sounds(path: Path) -> list[Path]:
    """The sound files of a manifest, whatever else it says of them.

    Raises:
        UserError: it cannot be read, or a row names no file, all rows together.
    """
    found = list(READERS[path.suffix.lower()](path))
    problems = [f"{path}, {where} {row}" for where, row in found if isinstance(row, str)]
    rows = [(where, row.get("path")) for where, row in found if isinstance(row, dict)]
    problems += [f"{path}, {where}: path is missing" for where, sound in rows if not sound]
    problems += [
        f"{path}, {where}: path {sound} is not a file"
        for where, sound in rows
        if sound and not (path.parent / sound).is_file()
    ]
    refuse_together(problems, str(path))
    return [path.parent / sound for _, sound in rows if sound]


@dataclass(frozen=True)
class _Row:
    """One row of a manifest; fields that it lacks are empty, those of a wrong type are None."""

    where: str
    sound: Path
    values: Mapping[str, str | None]

    @property
    def label(self) -> str:
        return self.values.get("label") or ""


@dataclass(frozen=True)
class _Manifest:
    """A file of rows.

    Attributes:
        file: where it lies.
        columns: those of `COLUMNS` that it has in any row.
        rows: those that could be read.
        broken: what is wrong with the others.
    """

    file: Path
    columns: set[str]
    rows: Sequence[_Row]
    broken: Sequence[str]

    @classmethod
    def read(cls, key: str, path: str) -> _Manifest:
        file = Path(path).expanduser()
        if file.suffix.lower() not in READERS:
            raise InvalidValue(key, path, f"must end with {' or '.join(READERS)}: it is a manifest of recordings")
        if not file.is_file():
            raise InvalidValue(key, path, "is not a file")
        found = list(READERS[file.suffix.lower()](file))
        broken = [f"{file}, {where} {row}" for where, row in found if isinstance(row, str)]
        rows = [
            _Row(where, file.parent / (row.get("path") or ""), row) for where, row in found if isinstance(row, dict)
        ]
        if not rows:
            refuse_together(broken, str(file))
            raise InvalidValue(key, path, "lists no recordings")
        columns = {column for row in rows for column in row.values}
        if "path" not in columns or not columns & {"text", "label"}:
            raise UserError(f"{file} needs a column path, and text or label or both; it has {_listed(columns)}")
        return cls(file, columns & set(COLUMNS), rows, broken)

    def problems(self, wanted: Sequence[str]) -> Iterator[str]:
        """Rows that cannot be read; columns and values that are missing, given those that training has."""
        yield from self.broken
        lacking = [column for column in wanted if column not in self.columns]
        for column in lacking:
            yield f"{self.file} has no column {column}, which the training manifest has"
        for row in self.rows:
            for column in ("path", *wanted):
                value = row.values.get(column, "")
                if value is None:
                    yield f"{self.file}, {row.where}: {column} is not a string"
                elif not value.strip() and column not in lacking:
                    yield f"{self.file}, {row.where}: {column} is empty"

    def recordings(self, wanted: Sequence[str], labels: tuple[str, ...] | None) -> list[Recording]:
        numbers = {label: number for number, label in enumerate(labels or ())}
        return [
            Recording(row.sound, row.values["text"] if "text" in wanted else None, numbers.get(row.label))
            for row in self.rows
        ]


Rows = Iterator[tuple[str, dict[str, str | None] | str]]
"""Where each row stands, and its values, or what is wrong with it, as a predicate."""


def _csv_rows(file: Path) -> Rows:
    reader = csv.reader(io.StringIO(read_text(file), newline=""), strict=True)
    header: list[str] = []
    number = 0
    try:
        for number, values in enumerate(filter(None, reader), start=1):  # empty lines are no rows
            if number == 1:
                header = [name.strip() for name in values]
                _check_header(file, header)
            elif len(values) == len(header):
                yield f"row {number}", dict(zip(header, values, strict=True))
            else:
                problem = f"has {len(values)} fields, and the header {len(header)}; text with commas goes in quotes"
                yield f"row {number}", problem
    except csv.Error as error:
        yield f"row {number + 1}", f"(up to line {reader.line_num}) is not CSV, nor is what follows: {error}"


def _check_header(file: Path, header: Sequence[str]) -> None:
    twice = sorted({name for name in header if header.count(name) > 1})
    if twice:
        raise UserError(f"{file} has a column twice: {', '.join(twice)}")
    if "path" not in header or not {"text", "label"} & set(header):
        raise UserError(
            f"{file} needs a column path, and text or label or both; its first row, the header, has {_listed(header)}"
        )


def _jsonl_rows(file: Path) -> Rows:
    for number, line in enumerate(read_text(file).split("\n"), start=1):
        if not line.strip():
            continue
        try:
            values = json.loads(line)
        except (ValueError, RecursionError) as error:
            yield f"line {number}", f"is not JSON: {error}"
            continue
        if isinstance(values, dict):
            yield f"line {number}", {key: _text(key, value) for key, value in values.items()}
        else:
            yield f"line {number}", 'is not an object, as {"path": "a.wav", "text": "yes"} is'


READERS: dict[str, Callable[[Path], Rows]] = {".csv": _csv_rows, ".jsonl": _jsonl_rows}


def _text(key: str, value: Any) -> str | None:
    if key == "label" and isinstance(value, int):
        return str(value)
    return value if isinstance(value, str) else None


def _listed(columns: Iterable[str]) -> str:
    return ", ".join(sorted(columns)) or "none"


def _shared_files(manifests: Sequence[_Manifest]) -> Iterator[str]:
    """Recordings that are in two manifests, which would train on what is to be held out."""
    first: dict[Path, str] = {}
    for manifest in manifests:
        for row in manifest.rows:
            if row.values.get("path") and row.sound in first:
                yield f"{manifest.file}, {row.where}: path {row.values['path']} is in {first[row.sound]}, too"
        for row in manifest.rows:
            first.setdefault(row.sound, f"{manifest.file}, {row.where}")


def _unknown_labels(learn: _Manifest, others: Sequence[_Manifest]) -> Iterator[str]:
    known = {row.label for row in learn.rows if row.label}
    for manifest in others:
        for row in manifest.rows:
            if row.label and row.label not in known:
                yield (
                    f"{manifest.file}, {row.where}: label {row.label} is not among the {len(known)} of the training "
                    f"manifest; {nearest(row.label, known)}"
                )


def _bad_sounds(
    manifests: Sequence[_Manifest], sample_rate_hz: int, resample: bool, max_seconds: float
) -> Iterator[str]:
    """What the headers of the files say is wrong; a file is looked at once."""
    seen: set[Path] = set()
    for manifest in manifests:
        for row in track(manifest.rows, "checking recordings"):
            if not (row.values.get("path") or "").strip() or row.sound in seen:
                continue
            seen.add(row.sound)
            try:
                check_sound(row.sound, sample_rate_hz=sample_rate_hz, resample=resample, max_seconds=max_seconds)
            except UserError as error:
                yield f"{manifest.file}, {row.where}: path: {error}"
