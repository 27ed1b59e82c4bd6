"""Trajectories in a file of one's own, or in a folder of Minari's."""

from __future__ import annotations

import json
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy

from mmtx.data.episodes.gym_world import GymWorld, check_env
from mmtx.data.episodes.recorded import Recorded
from mmtx.data.episodes.source import Episodes, EpisodeSource, Windowing
from mmtx.data.files.unpacked import check_unpacked
from mmtx.errors import InvalidValue, UserError
from mmtx.world import World

FIELDS = ("observations", "actions", "rewards", "terminations", "truncations")
OTHER_NAMES = {"terminals": "terminations", "timeouts": "truncations"}
"""Those of D4RL."""

MISSING = "HDF5 files are read by h5py, which is not installed: pip install 'mmtx[rl]'"


@dataclass(frozen=True)
class TrajectoryFile:
    """What is in a file.

    Attributes:
        steps: of all episodes end to end, or of each.
        num_actions: classes of actions, where the file says.
        env: id of the environment, where the file says.
        reference_returns: of a random and of an expert policy, where the file says.
    """

    steps: Recorded | Sequence[Recorded]
    num_actions: int | None = None
    env: str | None = None
    reference_returns: tuple[float, float] | None = None


class Trajectories(EpisodeSource):
    """Names: ``return``, ``reward``, ``state``, ``action``; see `mmtx.data.EpisodeSource`.

    The file is an ``.npz`` or HDF5 (``.hdf5``, ``.h5``) with ``observations actions rewards terminations`` and perhaps
    ``truncations`` of all steps of all episodes end to end; D4RL's ``terminals`` and ``timeouts`` are the same. An
    episode ends where one of the two is true; steps after the last end are left out, as what they would have earned is
    not known. Or it is the folder of a Minari dataset, in its HDF5 format. Actions are classes where they are integers,
    one a step, and numbers where they are floats. Nothing is ever unpickled.

    Args:
        path: the file or folder.
        env: id of the Gymnasium environment that a model acts in; null: the one that a Minari dataset names, or none.
        num_actions: classes of discrete actions; null: as the environment of a Minari dataset has, or as many as occur.
        reference_returns: of a random and of an expert policy; null: those that a Minari dataset names, or none.
        context: steps of a window at most.
        max_steps: that an episode may have.
        return_scale: what returns and rewards are divided by.
        val_fraction: of the episodes, held out to watch training; 0: none.
        split_seed: which ones.
    """

    def __init__(
        self,
        *,
        path: str,
        env: str | None,
        num_actions: int | None,
        reference_returns: list[float] | None,
        context: int,
        max_steps: int,
        return_scale: float,
        val_fraction: float,
        split_seed: int,
    ) -> None:
        windowing = Windowing(context, max_steps, return_scale, val_fraction, split_seed)
        if num_actions is not None and num_actions < 1:
            raise InvalidValue("num_actions", num_actions, "must be at least 1, or null")
        reference = None if reference_returns is None else _reference("reference_returns", reference_returns)
        if env is not None:
            check_env(env)
        file = Path(path).expanduser()
        recording = read_trajectories(file)
        self.env = env or recording.env
        self._reference_returns = reference or recording.reference_returns
        episodes = Episodes.of(
            recording.steps,
            where=str(file),
            num_actions=recording.num_actions if num_actions is None else num_actions,
            max_steps=max_steps,
        )
        found = episodes.num_actions
        if found is not None and num_actions is None:
            kept = self.learnt.statistic("action", "classes", lambda: found, partial(_more_classes, found))
            episodes = replace(episodes, num_actions=kept)
        super().__init__(episodes, windowing)
        if self.env is not None:
            self._check_world(self.env, file, is_named=env is not None)

    @property
    def can_play(self) -> bool:
        return self.env is not None

    @property
    def reference_returns(self) -> tuple[float, float] | None:
        return self._reference_returns

    def world(self, num_episodes: int) -> World:
        """So many episodes side by side.

        Raises:
            UserError: no environment is known, it cannot be made, or it is not that of the data.
        """
        if self.env is None:
            raise UserError("data.env=null: there is nothing to act in; give the Gymnasium environment of the data")
        return GymWorld.of(self, self.env, num_episodes)

    def _check_world(self, env: str, file: Path, *, is_named: bool) -> None:
        """Makes a world at once, rather than at the first validation."""
        try:
            GymWorld.of(self, env, 1).close()
        except UserError as error:
            if is_named:
                raise
            hint = f"to learn without acting, read its steps alone: data=trajectories data.path={_steps_of(file)}"
            raise UserError(f"{error}; it is the environment that {file} names; {hint}") from None


def _more_classes(found: int, kept: int) -> str | None:
    return None if found <= kept else f"this data has {found} classes, and that of the run {kept}"


def read_trajectories(file: Path) -> TrajectoryFile:
    """What a file or folder of trajectories holds.

    Raises:
        UserError: it is not there, or is something else.
    """
    if file.is_dir():
        return _read_minari(file)
    if not file.is_file():
        raise InvalidValue("path", file, "is not there")
    read = READERS.get(file.suffix.lower())
    if read is None:
        raise InvalidValue("path", file, f"is not a folder of Minari's, and does not end in {', '.join(READERS)}")
    return read(file)


def _read_npz(file: Path) -> TrajectoryFile:
    if not zipfile.is_zipfile(file):
        raise UserError(f"{file} cannot be read as an .npz file: it is no archive")
    try:
        with numpy.load(file, allow_pickle=False) as arrays:
            check_unpacked(file, sum(member.file_size for member in arrays.zip.infolist()))
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
    with _opened(file) as opened:
        if any(key.startswith("episode_") for key in opened):
            return TrajectoryFile(_episodes(opened, file))
        return TrajectoryFile(
            {name: _values(opened[key], f"{file}: {key}") for name, key in _names(opened, file).items()}
        )


READERS: dict[str, Callable[[Path], TrajectoryFile]] = {".npz": _read_npz, ".hdf5": _read_hdf5, ".h5": _read_hdf5}
"""By the ends of file names."""


def _names(keys: Any, file: Path) -> dict[str, str]:
    """Our names of the fields in a file, and those it has for them."""
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
    """A dataset of Minari's: ``data/metadata.json`` and ``data/main_data.hdf5``. Only read, never run: the environment
    that it describes is known by its id alone."""
    file = _steps_of(folder)
    try:
        metadata = json.loads(file.with_name("metadata.json").read_text(encoding="utf-8"))
        spaces = [_described(metadata.get(f"{name}_space")) for name in ("observation", "action")]
        env = _described(metadata.get("env_spec")).get("id")
    except (OSError, ValueError, AttributeError) as error:
        raise UserError(f"{folder} is not the folder of a Minari dataset: metadata.json: {error}") from None
    kept = metadata.get("data_format", "hdf5")
    if kept != "hdf5":
        raise UserError(f"{folder} is kept in the format {kept}; mmtx reads Minari's HDF5")
    if len(spaces[0].get("shape", [])) > 1:
        raise UserError(f"{folder}: observations are pictures of shape {spaces[0]['shape']}, not vectors")
    with _opened(file) as opened:
        steps = _episodes(opened, folder)
    first = spaces[1].get("start", 0)
    if first:
        steps = [{**episode, "actions": episode["actions"] - first} for episode in steps]
    scores = [metadata.get("ref_min_score"), metadata.get("ref_max_score")]
    reference = None if None in scores else _reference("reference_returns", scores)
    return TrajectoryFile(steps, spaces[1].get("n"), env, reference)


def _steps_of(folder: Path) -> Path:
    return (folder / "data" if (folder / "data").is_dir() else folder) / "main_data.hdf5"


def _described(text: str | None) -> dict[str, Any]:
    described = json.loads(text) if text else {}
    if not isinstance(described, dict):
        raise ValueError(f"it describes a space or an environment as {text}")
    return described


def _episodes(opened: Any, where: Path) -> list[dict[str, Any]]:
    numbers = sorted(int(key.removeprefix("episode_")) for key in opened if key.startswith("episode_"))
    episodes = []
    for number in numbers:
        group, place = opened[f"episode_{number}"], f"{where}, episode {number}"
        missing = [name for name in FIELDS[:3] if name not in group]
        if missing:
            raise UserError(f"{place}: {', '.join(missing)} is missing")
        episodes.append({name: _values(group[name], f"{place}: {name}") for name in FIELDS[:3]})
    return episodes


def _values(held: Any, where: str) -> Any:
    """An array, or the arrays of a dictionary side by side in the order of its keys."""
    if hasattr(held, "keys"):
        parts = [_values(held[key], f"{where}.{key}") for key in sorted(held)]
        if not parts or len({len(part) for part in parts}) > 1:
            raise UserError(f"{where} has parts of {[len(part) for part in parts]} steps")
        return numpy.concatenate([part.reshape(len(part), -1) for part in parts], 1)
    if held.dtype.kind not in "biuf" or not held.shape:
        raise UserError(f"{where} holds {held.dtype} of shape {held.shape}, not numbers for each step")
    return held[()]


@contextmanager
def _opened(file: Path) -> Iterator[Any]:
    try:
        import h5py
    except ImportError:
        raise UserError(MISSING) from None
    try:
        with h5py.File(file, "r") as opened:
            sizes: list[int] = []
            opened.visititems(lambda _, held: sizes.append(getattr(held, "nbytes", 0)))
            check_unpacked(file, sum(sizes))
            yield opened
    except UserError:
        raise
    except (OSError, KeyError, ValueError, TypeError, RuntimeError, MemoryError) as error:
        raise UserError(f"{file} cannot be read as an HDF5 file: {error}") from None


def _reference(key: str, returns: Sequence[float]) -> tuple[float, float]:
    if len(returns) != 2 or not returns[0] < returns[1]:
        raise InvalidValue(key, list(returns), "must be two: of a random policy, and the larger one of an expert")
    return float(returns[0]), float(returns[1])
