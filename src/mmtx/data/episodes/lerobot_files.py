"""Steps of robots in Parquet files, as LeRobot lays them out."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy

from mmtx.data.episodes.recorded_steps import Recorded
from mmtx.data.files.decompression import check_expansion
from mmtx.data.tables.arrow import reading
from mmtx.errors import InvalidValue, UserError

STATE, ACTION, EPISODE, FRAME, REWARD = "observation.state", "action", "episode_index", "frame_index", "next.reward"


def is_lerobot(folder: Path) -> bool:
    """Whether a folder is a dataset of LeRobot's."""
    return (folder / "meta" / "info.json").is_file() and (folder / "data").is_dir()


def read_lerobot(path: Path, observations: Sequence[str] | None) -> list[Recorded]:
    """The steps of each episode, in the order of their numbers. Without `REWARD`, rewards are 0.

    Args:
        path: a Parquet file, or the folder of a dataset, of which all files under ``data`` are read.
        observations: columns that together are the observation, in this order; None: `STATE`. Others are not read.

    Raises:
        UserError: a file cannot be read, a column is missing or has wrong values, or steps of an episode are missing.
    """
    files = sorted((path / "data").rglob("*.parquet")) if path.is_dir() else [path]
    if not files:
        raise InvalidValue("path", path, "has no Parquet files under data")
    names = [STATE] if observations is None else list(observations)
    if not names or len(set(names)) < len(names):
        raise InvalidValue("observations", names, "must name one or several columns, each once")
    parts = [_columns(file, [*names, ACTION, EPISODE, FRAME]) for file in files]
    _check_same_columns(files, parts)
    steps = {name: _joined(parts, name, path) for name in parts[0]}
    order = numpy.lexsort((steps[FRAME], steps[EPISODE]))
    steps = {name: values[order] for name, values in steps.items()}
    ends = [*numpy.flatnonzero(numpy.diff(steps[EPISODE])) + 1, len(order)]
    begins = [0, *ends[:-1]]
    seen = numpy.concatenate([steps[name].reshape(len(order), -1) for name in names], axis=1)
    rewards = steps.get(REWARD, numpy.zeros(len(order)))
    for begin, end in zip(begins, ends, strict=True):
        _check_frames(steps[FRAME][begin:end], f"{path}, episode {steps[EPISODE][begin]}")
    return [
        {"observations": seen[begin:end], "actions": steps[ACTION][begin:end], "rewards": rewards[begin:end]}
        for begin, end in zip(begins, ends, strict=True)
    ]


def _columns(file: Path, needed: Sequence[str]) -> dict[str, Any]:
    """Arrays of these columns, and of `REWARD` where there is one."""
    with reading(file) as arrow:
        metadata = arrow.parquet.read_metadata(file)
        groups = [metadata.row_group(i) for i in range(metadata.num_row_groups)]
        check_expansion(file, sum(group.total_byte_size for group in groups))
        if not metadata.num_rows:
            raise UserError(f"{file} has no steps")
        there = metadata.schema.to_arrow_schema().names
        missing = [name for name in needed if name not in there]
        if missing:
            raise UserError(f"{file} has no {', '.join(missing)}; it has {', '.join(there) or 'nothing'}")
        table = arrow.parquet.read_table(file, columns=[*needed, *(name for name in [REWARD] if name in there)])
        return {name: _array(arrow, table.column(name), f"{file}: {name}") for name in table.column_names}


def _array(arrow: Any, column: Any, where: str) -> Any:
    """Numbers of each step, or as many in each."""
    column = column.combine_chunks()
    is_list = any(kind(column.type) for kind in (arrow.types.is_list, arrow.types.is_large_list))
    if is_list and len(column.drop_null().value_lengths().unique()) > 1:
        raise UserError(f"{where} has steps of unequal sizes")
    flat = column.flatten() if is_list or arrow.types.is_fixed_size_list(column.type) else column
    if column.null_count or flat.null_count:
        raise UserError(f"{where} lacks {column.null_count + flat.null_count} values")
    values = flat.to_numpy(zero_copy_only=False)
    return values if flat is column else values.reshape(len(column), -1)


def _check_same_columns(files: Sequence[Path], parts: Sequence[Mapping[str, Any]]) -> None:
    for file, part in zip(files, parts, strict=True):
        if part.keys() != parts[0].keys():
            has, other = (file, files[0]) if REWARD in part else (files[0], file)
            raise UserError(f"{has} has {REWARD}, and {other} has not")


def _joined(parts: Sequence[Mapping[str, Any]], name: str, path: Path) -> Any:
    shapes = {part[name].shape[1:] for part in parts}
    if len(shapes) > 1:
        raise UserError(f"{path}: {name} has steps of unequal sizes in its files")
    return numpy.concatenate([part[name] for part in parts])


def _check_frames(frames: Any, where: str) -> None:
    """Raises UserError unless they count from 0."""
    wrong = numpy.flatnonzero(frames != numpy.arange(len(frames)))
    if len(wrong):
        raise UserError(f"{where}: {FRAME} is {frames[wrong[0]]}, where {wrong[0]} follows")
