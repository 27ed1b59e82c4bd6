"""Recordings listed in a table, with texts or classes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mmtx.data.audio.recordings import Recording, Recordings, SoundKeys
from mmtx.data.files.duplicates import first_copies
from mmtx.data.files.table import Row, Table, read_table
from mmtx.data.stratified_split import hold_out_files
from mmtx.data.text.vocabulary import TextVocabulary
from mmtx.errors import InvalidValue, UserError, check_fraction, nearest, refuse_together
from mmtx.process.stopping import track


class AudioManifest(Recordings):
    """Names: ``audio``, and ``text`` or ``label`` or both, as the training manifest has them.

    A manifest is a table (``.csv``, ``.tsv``, ``.jsonl``), as `mmtx.data.files.table.read_table` reads it: ``path``
    (of a sound file, from the manifest's folder or absolute), ``text``, ``label``; other columns are ignored. A file
    may have several rows, with several texts, and is never in two splits; nor are files with the same content. The
    classes are the labels of the training manifest, in the order of their names. All errors of the manifests and of the
    headers of the sound files are reported together; files are decoded when their sample is read.

    Args:
        path: the training manifest.
        val_path: the validation manifest; null: `val_fraction` of the training manifest.
        test_path: the test manifest; null: `test_fraction` of the training manifest.
        val_fraction: validation share, stratified by class, without `val_path`; 0: none.
        test_fraction: test share, stratified by class, without `test_path`; 0: none.
        split_seed: of the choice.
        vocabulary: of the texts.
        The other keys are those of `SoundKeys`.
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
        sound = SoundKeys(sample_rate_hz, resample, max_seconds, trim_db)
        check_fraction("val_fraction", val_fraction)
        check_fraction("test_fraction", test_fraction)
        from_train = (0.0 if val_path else val_fraction) + (0.0 if test_path else test_fraction)
        if from_train >= 1:
            raise InvalidValue("val_fraction", val_fraction, f"leaves no training with test_fraction={test_fraction}")
        train = _Manifest.read("path", path)
        val = _Manifest.read("val_path", val_path, train.has) if val_path else None
        test = _Manifest.read("test_path", test_path, train.has) if test_path else None
        manifests = [manifest for manifest in (train, val, test) if manifest is not None]
        problems = [problem for manifest in manifests for problem in manifest.problems(train.has)]
        first = first_copies(file for manifest in manifests for _, file in manifest.sounds())
        problems += _shared_files(manifests, first)
        class_names = None
        if "label" in train.has:
            class_names = self.fitted.classes("label", sorted(train.labels))
            problems += _unknown_labels(class_names, manifests[1:])
        problems += _bad_sounds(manifests, sound)
        refuse_together(problems, " and ".join(str(manifest.file) for manifest in manifests))
        train_part = train.recordings(class_names)
        total = len({first[recording.file] for recording in train_part})
        val_part = val.recordings(class_names) if val else []
        test_part = test.recordings(class_names) if test else []
        if test is None:
            train_part, test_part = hold_out_files(train_part, first, "test_fraction", test_fraction, total, split_seed)
        if val is None:
            train_part, val_part = hold_out_files(train_part, first, "val_fraction", val_fraction, total, split_seed)
        super().__init__(
            train=train_part,
            val=val_part,
            test=test_part,
            class_names=class_names,
            vocabulary=vocabulary,
            sound=sound,
            in_memory=False,
        )


def listed_sounds(path: Path) -> list[Path]:
    """The sound files of a manifest, whatever its other columns.

    Raises:
        UserError: it cannot be read, or rows have no file, all rows together.
    """
    table = read_table("audio", str(path), texts=["path"], labels=[])
    if "path" not in table.columns:
        raise UserError(f"{path} needs a column path; it has {_listed(table.columns)}")
    rows = [(row.where, row.values["path"].strip()) for row in table.rows if "path" in row.values]
    missing = [f"{where}: path {sound} is not a file" for where, sound in rows if not (path.parent / sound).is_file()]
    refuse_together([*table.problems, *missing], str(path))
    return [path.parent / sound for _, sound in rows]


@dataclass(frozen=True)
class _Manifest:
    """A table of recordings; `has` are its columns of content: text or label or both."""

    table: Table
    has: Sequence[str]

    @classmethod
    def read(cls, key: str, path: str, columns: Sequence[str] = ("text", "label")) -> _Manifest:
        texts = ["path", *(column for column in columns if column == "text")]
        table = read_table(key, path, texts=texts, labels=[column for column in columns if column == "label"])
        if "path" not in table.columns or not {"text", "label"} & set(table.columns):
            raise UserError(
                f"{table.file} needs a column path, and text or label or both; it has {_listed(table.columns)}"
            )
        return cls(table, [column for column in columns if column in table.columns])

    @property
    def file(self) -> Path:
        return self.table.file

    @property
    def labels(self) -> set[str]:
        return {row.values["label"] for row in self.table.rows if "label" in row.values}

    def problems(self, columns: Sequence[str]) -> Iterator[str]:
        yield from self.table.problems
        for column in columns:
            if column not in self.has:
                yield f"{self.file} has no column {column}, which the training manifest has"

    def sounds(self) -> Iterator[tuple[Row, Path]]:
        """Rows with a path, and their sound file."""
        for row in self.table.rows:
            if "path" in row.values:
                yield row, self.file.parent / row.values["path"].strip()

    def recordings(self, class_names: tuple[str, ...] | None) -> list[Recording]:
        numbers = {label: number for number, label in enumerate(class_names or ())}
        return [
            Recording(sound, row.values.get("text"), numbers.get(row.values.get("label", "")))
            for row, sound in self.sounds()
        ]


def _listed(columns: Iterable[str]) -> str:
    return ", ".join(sorted(columns)) or "none"


def _shared_files(manifests: Sequence[_Manifest], first: Mapping[Path, Path]) -> Iterator[str]:
    """Problems: recordings that are in two manifests, and so in two splits."""
    owners: dict[Path, tuple[Path, str]] = {}
    for manifest in manifests:
        for row, sound in manifest.sounds():
            other, where = owners.get(first[sound], (sound, ""))
            if where:
                named = "is" if sound == other else f"holds the same as {other}, which is"
                yield f"{row.where}: path {row.values['path']} {named} in {where}, too"
        for row, sound in manifest.sounds():
            owners.setdefault(first[sound], (sound, row.where))


def _unknown_labels(class_names: Sequence[str], others: Sequence[_Manifest]) -> Iterator[str]:
    for manifest in others:
        for row in manifest.table.rows:
            label = row.values.get("label")
            if label is not None and label not in class_names:
                yield (
                    f"{row.where}: label {label} is not among the {len(class_names)} of the training manifest; "
                    f"{nearest(label, class_names)}"
                )


def _bad_sounds(manifests: Sequence[_Manifest], keys: SoundKeys) -> Iterator[str]:
    """Problems that the headers of the files show; each file is checked once."""
    checked: set[Path] = set()
    for manifest in manifests:
        for row, sound in track(manifest.sounds(), "checking recordings"):
            if sound in checked:
                continue
            checked.add(sound)
            try:
                keys.check(sound)
            except UserError as error:
                yield f"{row.where}: path: {error}"
