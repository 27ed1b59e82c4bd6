"""Files of trajectories: ``.npz``, HDF5, Parquet, and the folders of Minari and LeRobot."""

import json
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy

from mmtx.data.episodes.lerobot_files import is_lerobot, read_lerobot
from mmtx.data.episodes.recorded_steps import Recorded
from mmtx.data.files.decompression import check_expansion
from mmtx.errors import InvalidValue, UserError

FIELDS = ("observations", "actions", "rewards", "terminations", "truncations")
OTHER_NAMES = {"terminals": "terminations", "timeouts": "truncations"}
"""D4RL's names of fields."""

PARQUET = ".parquet"

MISSING = "HDF5 files are read by h5py, which is not installed: pip install 'mmtx[rl]'"


@dataclass(frozen=True)
class TrajectoryFile:
    """The content of a file.

    Attributes:
        steps: of all episodes, concatenated, or of each.
        num_actions: number of classes of actions, if the file has it.
        env: id of the environment, likewise.
        reference_returns: of a random and of an expert policy, likewise.
    """

    steps: Recorded | Sequence[Recorded]
    num_actions: int | None = None
    env: str | None = None
    reference_returns: tuple[float, float] | None = None


def read_trajectories(file: Path, observations: Sequence[str] | None = None) -> TrajectoryFile:
    """Reads a file or folder of trajectories.

    Args:
        file: or folder.
        observations: columns of Parquet files, see `read_lerobot`.

    Raises:
        UserError: it is missing, or has another format.
    """
    if file.suffix.lower() == PARQUET or is_lerobot(file):
        if not file.exists():
            raise InvalidValue("path", file, "is not there")
        return TrajectoryFile(read_lerobot(file, observations))
    if observations is not None:
        raise InvalidValue(
            "observations", [*observations], f"names columns of Parquet files, and {file} is none", "null"
        )
    if file.is_dir():
        return _read_minari(file)
    if not file.is_file():
        raise InvalidValue("path", file, "is not there")
    read = READERS.get(file.suffix.lower())
    if read is None:
        raise InvalidValue(
            "path", file, f"is no folder of Minari's or LeRobot's, and does not end in {', '.join([*READERS, PARQUET])}"
        )
    return read(file)


def _read_npz(file: Path) -> TrajectoryFile:
    if not zipfile.is_zipfile(file):
        raise UserError(f"{file} cannot be read as an .npz file: it is no archive")
    try:
        with numpy.load(file, allow_pickle=False) as arrays:
            check_expansion(file, sum(member.file_size for member in arrays.zip.infolist()))
            return TrajectoryFile({name: _array(arrays, key, file) for name, key in _names(arrays.files, file).items()})
    except UserError:
        raise
    except (
        *(OSError, EOFError, ValueError, TypeError, SyntaxError, RuntimeError, LookupError, MemoryError),
        *(AttributeError, zipfile.BadZipFile, zlib.error, struct.error),
    ) as error:
        raise UserError(f"{file} cannot be read as an .npz file: {error}") from None


def _array(arrays: Mapping[str, Any], key: str, file: Path) -> Any:
    try:
        return arrays[key]
    except ValueError as error:
        if "pickle" in str(error):
            problem = "holds Python objects, which are never unpickled; save it as an array of numbers"
            raise UserError(f"{file}: {key} {problem}") from None
        raise


def _read_hdf5(file: Path) -> TrajectoryFile:
    with _open_hdf5(file) as hdf5:
        if any(key.startswith("episode_") for key in hdf5):
            return TrajectoryFile(_episodes(hdf5, file))
        return TrajectoryFile({name: _values(hdf5[key], f"{file}: {key}") for name, key in _names(hdf5, file).items()})


READERS: dict[str, Callable[[Path], TrajectoryFile]] = {".npz": _read_npz, ".hdf5": _read_hdf5, ".h5": _read_hdf5}
"""By suffix."""


def _names(keys: Any, file: Path) -> dict[str, str]:
    """``{our name of a field: the file's key}``."""
    found = {OTHER_NAMES.get(key, key): key for key in keys if OTHER_NAMES.get(key, key) in FIELDS}
    twice = [f"{other} and {name}" for other, name in OTHER_NAMES.items() if {other, name} <= set(keys)]
    if twice:
        raise UserError(f"{file} has {', '.join(twice)}, which are two names of one field; take one out")
    missing = [name for name in FIELDS[:-1] if name not in found]
    if missing:
        raise UserError(f"{file} has no {', '.join(missing)}; it has {', '.join(sorted(keys)) or 'nothing'}")
    return found


# --- Minari -----------------------------------------------------------------------------------------------------------


def _read_minari(folder: Path) -> TrajectoryFile:
    """A dataset of Minari: ``data/metadata.json`` and ``data/main_data.hdf5``. No code in it is run; of its environment
    only the id is used."""
    file = steps_file(folder)
    try:
        metadata = json.loads(file.with_name("metadata.json").read_text(encoding="utf-8"))
        spaces = [_json_object(metadata.get(f"{name}_space")) for name in ("observation", "action")]
        env = _json_object(metadata.get("env_spec")).get("id")
    except (OSError, ValueError, AttributeError) as error:
        raise UserError(f"{folder} is not the folder of a Minari dataset: metadata.json: {error}") from None
    stored = metadata.get("data_format", "hdf5")
    if stored != "hdf5":
        raise UserError(f"{folder} is kept in the format {stored}; mmtx reads Minari's HDF5")
    if len(spaces[0].get("shape", [])) > 1:
        raise UserError(f"{folder}: observations are pictures of shape {spaces[0]['shape']}, not vectors")
    with _open_hdf5(file) as hdf5:
        steps = _episodes(hdf5, folder)
    first = spaces[1].get("start", 0)
    if first:
        steps = [{**episode, "actions": episode["actions"] - first} for episode in steps]
    scores = [metadata.get("ref_min_score"), metadata.get("ref_max_score")]
    reference = None if None in scores else checked_reference("reference_returns", scores)
    return TrajectoryFile(steps, spaces[1].get("n"), env, reference)


def steps_file(folder: Path) -> Path:
    return (folder / "data" if (folder / "data").is_dir() else folder) / "main_data.hdf5"


def _json_object(text: str | None) -> dict[str, Any]:
    content = json.loads(text) if text else {}
    if not isinstance(content, dict):
        raise ValueError(f"it describes a space or an environment as {text}")
    return content


def _episodes(hdf5: Any, where: Path) -> list[dict[str, Any]]:
    numbers = sorted(int(key.removeprefix("episode_")) for key in hdf5 if key.startswith("episode_"))
    episodes = []
    for number in numbers:
        group, place = hdf5[f"episode_{number}"], f"{where}, episode {number}"
        missing = [name for name in FIELDS[:3] if name not in group]
        if missing:
            raise UserError(f"{place}: {', '.join(missing)} is missing")
        episodes.append({name: _values(group[name], f"{place}: {name}") for name in FIELDS[:3]})
    return episodes


def _values(node: Any, where: str) -> Any:
    """An array, or those of a dictionary, concatenated along the features in the order of its keys."""
    if hasattr(node, "keys"):
        parts = [_values(node[key], f"{where}.{key}") for key in sorted(node)]
        if not parts or len({len(part) for part in parts}) > 1:
            raise UserError(f"{where} has parts of {[len(part) for part in parts]} steps")
        return numpy.concatenate([part.reshape(len(part), -1) for part in parts], 1)
    if node.dtype.kind not in "biuf" or not node.shape:
        raise UserError(f"{where} holds {node.dtype} of shape {node.shape}, not numbers for each step")
    return node[()]


@contextmanager
def _open_hdf5(file: Path) -> Iterator[Any]:
    try:
        import h5py
    except ImportError:
        raise UserError(MISSING) from None
    try:
        with h5py.File(file, "r") as hdf5:
            sizes: list[int] = []
            hdf5.visititems(lambda _, node: sizes.append(getattr(node, "nbytes", 0)))
            check_expansion(file, sum(sizes))
            yield hdf5
    except UserError:
        raise
    except (OSError, KeyError, ValueError, TypeError, RuntimeError, MemoryError) as error:
        raise UserError(f"{file} cannot be read as an HDF5 file: {error}") from None


def checked_reference(key: str, returns: Sequence[float]) -> tuple[float, float]:
    if len(returns) != 2 or not returns[0] < returns[1]:
        raise InvalidValue(key, list(returns), "must be two: of a random policy, and the larger one of an expert")
    return float(returns[0]), float(returns[1])
