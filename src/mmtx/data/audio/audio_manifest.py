"""Recordings listed in a file, with their texts or classes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mmtx.data.audio.recordings import Recording, Recordings, check_sound_keys
from mmtx.data.audio.sound_file import check_sound
from mmtx.data.files.same_content import first_of_same
from mmtx.data.files.table import Row, Table, read_table
from mmtx.data.stratified import held_out
from mmtx.data.text.vocabulary import TextVocabulary
from mmtx.errors import InvalidValue, UserError, check_fraction, nearest, refuse_together
from mmtx.process.stopping import track


class AudioManifest(Recordings):
    """Names: ``audio``, and ``text`` or ``label`` or both, as the training manifest has them.

    A manifest is a table (``.csv``, ``.tsv``, ``.jsonl``), as `mmtx.data.files.table.read_table` reads it: ``path``
    (of a sound file, from the manifest's folder or absolute), ``text``, ``label``; what else it has is ignored. A file
    may stand in it several times, with several texts, and is never dealt out to two splits; nor are files that hold the
    same. The classes are the labels of the training manifest, in the order of their names. Everything that is wrong
    with a manifest is reported at once, and so is what the headers of the sound files say; files are decoded when they
    are asked for.

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
        val = _Manifest.read("val_path", val_path, learn.has) if val_path else None
        test = _Manifest.read("test_path", test_path, learn.has) if test_path else None
        manifests = [manifest for manifest in (learn, val, test) if manifest is not None]
        problems = [problem for manifest in manifests for problem in manifest.problems(learn.has)]
        first = first_of_same(sound for manifest in manifests for _, sound in manifest.sounds())
        problems += _shared_files(manifests, first)
        labels = None
        if "label" in learn.has:
            labels = self.learnt.classes("label", sorted(learn.labels))
            problems += _unknown_labels(labels, manifests[1:])
        problems += _bad_sounds(manifests, sample_rate_hz, resample, max_seconds)
        refuse_together(problems, " and ".join(str(manifest.file) for manifest in manifests))
        recordings = learn.recordings(labels)
        total = len({first[recording.file] for recording in recordings})
        watching = val.recordings(labels) if val else []
        testing = test.recordings(labels) if test else []
        if test is None:
            recordings, testing = held_out(recordings, first, "test_fraction", test_fraction, total, split_seed)
        if val is None:
            recordings, watching = held_out(recordings, first, "val_fraction", val_fraction, total, split_seed)
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
    table = read_table("audio", str(path), texts=["path"], labels=[])
    if "path" not in table.columns:
        raise UserError(f"{path} needs a column path; it has {_listed(table.columns)}")
    rows = [(row.where, row.values["path"].strip()) for row in table.rows if "path" in row.values]
    lost = [f"{where}: path {sound} is not a file" for where, sound in rows if not (path.parent / sound).is_file()]
    refuse_together([*table.problems, *lost], str(path))
    return [path.parent / sound for _, sound in rows]


@dataclass(frozen=True)
class _Manifest:
    """A table of recordings; `has` are those of the wanted columns that it has: text or label or both."""

    table: Table
    has: Sequence[str]

    @classmethod
    def read(cls, key: str, path: str, wanted: Sequence[str] = ("text", "label")) -> _Manifest:
        texts = ["path", *(column for column in wanted if column == "text")]
        table = read_table(key, path, texts=texts, labels=[column for column in wanted if column == "label"])
        if "path" not in table.columns or not {"text", "label"} & set(table.columns):
            raise UserError(
                f"{table.file} needs a column path, and text or label or both; it has {_listed(table.columns)}"
            )
        return cls(table, [column for column in wanted if column in table.columns])

    @property
    def file(self) -> Path:
        return self.table.file

    @property
    def labels(self) -> set[str]:
        return {row.values["label"] for row in self.table.rows if "label" in row.values}

    def problems(self, wanted: Sequence[str]) -> Iterator[str]:
        yield from self.table.problems
        for column in wanted:
            if column not in self.has:
                yield f"{self.file} has no column {column}, which the training manifest has"

    def sounds(self) -> Iterator[tuple[Row, Path]]:
        """Rows whose path can be read, and where it leads."""
        for row in self.table.rows:
            if "path" in row.values:
                yield row, self.file.parent / row.values["path"].strip()

    def recordings(self, labels: tuple[str, ...] | None) -> list[Recording]:
        numbers = {label: number for number, label in enumerate(labels or ())}
        return [
            Recording(sound, row.values.get("text"), numbers.get(row.values.get("label", "")))
            for row, sound in self.sounds()
        ]


def _listed(columns: Iterable[str]) -> str:
    return ", ".join(sorted(columns)) or "none"


def _shared_files(manifests: Sequence[_Manifest], first: Mapping[Path, Path]) -> Iterator[str]:
    """Recordings that are in two manifests, which would train on what is to be held out."""
    places: dict[Path, tuple[Path, str]] = {}
    for manifest in manifests:
        for row, sound in manifest.sounds():
            other, where = places.get(first[sound], (sound, ""))
            if where:
                named = "is" if sound == other else f"holds the same as {other}, which is"
                yield f"{row.where}: path {row.values['path']} {named} in {where}, too"
        for row, sound in manifest.sounds():
            places.setdefault(first[sound], (sound, row.where))


def _unknown_labels(known: Sequence[str], others: Sequence[_Manifest]) -> Iterator[str]:
    for manifest in others:
        for row in manifest.table.rows:
            label = row.values.get("label")
            if label is not None and label not in known:
                yield (
                    f"{row.where}: label {label} is not among the {len(known)} of the training manifest; "
                    f"{nearest(label, known)}"
                )


def _bad_sounds(
    manifests: Sequence[_Manifest], sample_rate_hz: int, resample: bool, max_seconds: float
) -> Iterator[str]:
    """What the headers of the files say is wrong; a file is looked at once."""
    seen: set[Path] = set()
    for manifest in manifests:
        for row, sound in track(manifest.sounds(), "checking recordings"):
            if sound in seen:
                continue
            seen.add(sound)
            try:
                check_sound(sound, sample_rate_hz=sample_rate_hz, resample=resample, max_seconds=max_seconds)
            except UserError as error:
                yield f"{row.where}: path: {error}"
