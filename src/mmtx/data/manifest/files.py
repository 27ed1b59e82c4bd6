"""Pictures, sounds and films: files that a table names, or that lie in it."""

from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor
from torch.nn import Identity

from mmtx.batch import Field, Spec
from mmtx.data.audio.recordings import SoundKeys
from mmtx.data.files.cells import shown
from mmtx.data.files.file_bytes import FileBytes
from mmtx.data.image.decode_image import Fit, decode_image
from mmtx.data.image.image_folder import MOST_PIXELS
from mmtx.data.image.native_fit import NativeFit
from mmtx.data.manifest.kind import FileContent, Kind
from mmtx.data.tables.rows import Rows
from mmtx.data.video.video_file import read_video
from mmtx.errors import InvalidValue, UserError, check_at_least, check_within


class FileColumn(Kind):
    """A file of each row: its path from the folder of the table, its bytes, or both, as `datasets` writes them:
    ``{"bytes": ..., "path": ...}``; or a list of one of these."""

    def parse(self, cell: object) -> str | bytes:
        cell = only_file(cell)
        if isinstance(cell, list):
            raise ValueError(f"is a list of {len(cell)} files; a row has one, or null")
        if isinstance(cell, dict):
            cell = cell.get("bytes") or cell.get("path")
        if cell is None:
            raise ValueError("is missing")
        if not isinstance(cell, str | bytes):
            raise ValueError(f"is {shown(cell)}, neither a path nor bytes")
        if not cell.strip():
            raise ValueError("is empty")
        return cell

    def content(self, rows: Rows, row: int, cell: object) -> FileContent:
        """The file of a cell. Raises `ValueError` where there is none, with the column and a predicate."""
        value = self.read((cell,))[0]
        if isinstance(value, bytes):
            return FileBytes(f"{rows.where(row)}: {self.columns[0]}", value)
        file = rows.file(row).parent / Path(str(value).strip()).expanduser()
        if not is_file(file):
            raise ValueError(f"{self.columns[0]} {value} is not a file")
        return file

    def problem(self, file: FileContent, error: UserError) -> str:
        """What is wrong with a file, with its column."""
        return str(error) if isinstance(file, FileBytes) else f"{self.columns[0]}: {error}"

    def check(self, file: FileContent) -> None:
        """Raises `UserError` for a file that `fields` would refuse, as far as that shows without decoding it."""

    @property
    @abstractmethod
    def spec(self) -> Spec:
        """What it becomes."""

    @abstractmethod
    def fields(self, file: FileContent, split: str) -> dict[str, Tensor]:
        """The fields of a file. Raises `UserError` where it cannot be read."""


@dataclass(frozen=True)
class PictureKeys:
    """What all pictures share, checked before any is read.

    Args:
        size: side of the square in pixels; pictures that keep their shape have no such.
        channels: 1 for grey or 3 for RGB.
        fit: how a picture is brought to it.
        augment: applied to training pictures.
        max_pixels: larger pictures are refused when they are read.
        max_frames: of a film; of a longer one, so many that are equally far apart.

    Raises:
        InvalidValue: a key is outside its limits.
    """

    size: int
    channels: int
    fit: Fit | NativeFit
    augment: Callable[[Tensor], Tensor] | None
    max_pixels: int
    max_frames: int

    def __post_init__(self) -> None:
        check_at_least("size", self.size, 1)
        if self.channels not in (1, 3):
            raise InvalidValue("channels", self.channels, "must be 1 (grey) or 3 (RGB)")
        if isinstance(self.fit, Fit) and self.fit.side is not None and self.fit.side < self.size:
            raise InvalidValue("fit.side", self.fit.side, f"leaves less than size={self.size}", str(self.size))
        check_within("max_pixels", self.max_pixels, 1, MOST_PIXELS)
        check_at_least("max_frames", self.max_frames, 1)


class PictureColumn(FileColumn):
    """A picture of each row."""

    def __init__(self, columns: Sequence[str], keys: PictureKeys) -> None:
        super().__init__(columns)
        self.keys = keys

    @property
    def spec(self) -> Spec:
        if isinstance(self.keys.fit, NativeFit):
            return self.keys.fit.spec(self.keys.channels)
        return Spec({"pixels": Field((self.keys.channels, self.keys.size, self.keys.size), self.keys.fit.dtype)})

    def fields(self, file: FileContent, split: str) -> dict[str, Tensor]:
        keys, size = self.keys, (self.keys.size, self.keys.size)
        pixels = decode_image(file, size=size, channels=keys.channels, max_pixels=keys.max_pixels, fit=keys.fit)
        pixels = keys.augment(pixels) if keys.augment and split == "train" else pixels
        return keys.fit.fields(pixels) if isinstance(keys.fit, NativeFit) else {"pixels": pixels}


class VideoColumn(FileColumn):
    """A film of each row.

    Raises:
        InvalidValue: pictures keep their shape, or are augmented, each by itself.
    """

    def __init__(self, columns: Sequence[str], keys: PictureKeys) -> None:
        super().__init__(columns)
        if not isinstance(keys.fit, Fit):
            raise InvalidValue("fit", type(keys.fit).__name__, "is for pictures; frames have one size", "square")
        if not isinstance(keys.augment, Identity | None):
            raise InvalidValue("augment", type(keys.augment).__name__, "is for pictures, each by itself", "none")
        self.keys, self.fit = keys, keys.fit

    @property
    def spec(self) -> Spec:
        shape = (None, self.keys.channels, self.keys.size, self.keys.size)
        return Spec({"frames": Field(shape, self.fit.dtype, max_length=self.keys.max_frames)})

    def fields(self, file: FileContent, split: str) -> dict[str, Tensor]:
        keys, size = self.keys, (self.keys.size, self.keys.size)
        limits = {"max_frames": keys.max_frames, "max_pixels": keys.max_pixels}
        return {"frames": read_video(file, size=size, channels=keys.channels, fit=self.fit, **limits)}


class SoundColumn(FileColumn):
    """A sound of each row."""

    def __init__(self, columns: Sequence[str], keys: SoundKeys) -> None:
        super().__init__(columns)
        self.keys = keys

    @property
    def spec(self) -> Spec:
        return self.keys.spec

    def check(self, file: FileContent) -> None:
        self.keys.check(file)

    def fields(self, file: FileContent, split: str) -> dict[str, Tensor]:
        return {"waveform": self.keys.read(file)}


def read_fields(column: FileColumn, rows: Rows, row: int, cell: object, split: str) -> dict[str, Tensor]:
    """The fields of a cell. Raises `UserError` with its row and column."""
    try:
        file = column.content(rows, row, cell)
        try:
            return column.fields(file, split)
        except UserError as error:
            raise ValueError(column.problem(file, error)) from None
    except ValueError as error:
        raise UserError(located(rows.where(row), str(error))) from None


def only_file(cell: object) -> object:
    """The one file of a cell that lists files; any other cell as it is."""
    return cell[0] if isinstance(cell, list) and len(cell) == 1 else cell


def is_file(path: Path) -> bool:
    """Whether there is such a file. Names that no file can have are none."""
    try:
        return path.is_file()
    except (OSError, ValueError):  # too long, or with a NUL
        return False


def located(where: str, problem: str) -> str:
    """A problem with its row, which that of a file within a table begins with."""
    return problem if problem.startswith(where) else f"{where}: {problem}"
