"""Recordings listed in a table, with texts or classes."""

from pathlib import Path

from mmtx.data.audio.recordings import SoundKeys
from mmtx.data.manifest.columns import ColumnKeys
from mmtx.data.manifest.files import is_file
from mmtx.data.manifest.splits import SplitKeys
from mmtx.data.manifest.table_source import TableSource
from mmtx.data.manifest.texts import TextColumn, TextKeys
from mmtx.data.tables.text_rows import TextRows
from mmtx.data.text.vocabulary import TextVocabulary
from mmtx.errors import UserError, refuse_together

READERS = {"text": "text", "label": "classes"}
"""Names of columns that are read where they are there, and their kinds."""


class AudioManifest(TableSource):
    """Names: ``audio``, and ``text`` or ``label`` or both, as the training manifest has them.

    A manifest is a table of any kind: ``path`` (of a sound file, from the manifest's folder or absolute), ``text``,
    ``label``, as those of training have them; other columns are ignored. A file may have several rows, with several
    texts, and is never in two splits; nor are files with the same content. The classes are the labels of the training
    manifest, in the order of their names.

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
        super().__init__(
            columns=ColumnKeys({"audio": "path"}, {"audio": "sound"}, READERS, fewest_classes=1, key=None),
            splits=SplitKeys(path, val_path, test_path, val_fraction, test_fraction, split_seed, split_seed),
            texts=TextKeys(vocabulary, max_length=None),
            sounds=SoundKeys(sample_rate_hz, resample, max_seconds, trim_db),
        )


def listed_sounds(path: Path) -> list[Path]:
    """The sound files of a manifest of text, whatever its other columns.

    Raises:
        UserError: it cannot be read, or rows have no file, all rows together.
    """
    rows, column = TextRows("audio", str(path)), TextColumn(["path"])
    if "path" not in rows.columns:
        refuse_together(rows.problems(), str(path))
        raise UserError(f"{path} needs a column path; it has {', '.join(rows.columns) or 'none'}")
    found, problems = [], list(rows.problems())
    for row, cells in enumerate(rows.scan(column.columns)):
        try:
            found.append(path.parent / str(column.read(cells)[0]).strip())
            if not is_file(found[-1]):
                raise ValueError(f"path {cells[0]} is not a file")
        except ValueError as error:
            problems.append(f"{rows.where(row)}: {error}")
    refuse_together(problems, str(path))
    return found
