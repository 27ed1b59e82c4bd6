"""W&B's own file of an offline run, read back by tests: a log of protocol buffers in the framing of LevelDB."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

MAGIC_BYTES = 7
BLOCK_BYTES = 32 * 1024
HEADER = struct.Struct("<IHB")  # checksum, length, kind
FULL, LAST = 1, 4


@dataclass
class WandbFile:
    """What one file holds.

    Attributes:
        rows: of metrics, in order, without W&B's own columns; rows of pictures and tables are not among them.
        media: rows of pictures and tables.
        config: of the run.
        summary: what was set by name.
        run: id, project, group, job type, name and tags.
        exit_code: None if the process ended without one.
    """

    rows: list[dict[str, Any]] = field(default_factory=list)
    media: list[dict[str, Any]] = field(default_factory=list)
    config: dict[str, Any] = field(default_factory=dict)
    summary: dict[str, Any] = field(default_factory=dict)
    run: dict[str, Any] = field(default_factory=dict)
    exit_code: int | None = None


def read_wandb_file(file: Path) -> WandbFile:
    """Reads as much as there is: a file that was cut off ends where its last whole record ends."""
    from google.protobuf.message import DecodeError
    from wandb.proto import wandb_internal_pb2

    protocol: Any = wandb_internal_pb2  # its classes are made when it is imported
    content = WandbFile()
    for data in _records(file.read_bytes()):
        record = protocol.Record()
        try:
            record.ParseFromString(data)
        except DecodeError:
            break
        _take(content, record)
    return content


def _take(content: WandbFile, record: Any) -> None:
    match record.WhichOneof("record_type"):
        case "history":
            row = {_key(item): json.loads(item.value_json) for item in record.history.item}
            row = {name: value for name, value in row.items() if not name.startswith("_")}
            (content.media if any(name.startswith("samples/") for name in row) else content.rows).append(row)
        case "run":
            run = record.run
            content.config |= {_key(item): json.loads(item.value_json) for item in run.config.update}
            content.run = {
                "id": run.run_id,
                "project": run.project,
                "group": run.run_group,
                "job_type": run.job_type,
                "name": run.display_name,
                "tags": list(run.tags),
            }
        case "summary":
            content.summary |= {_key(item): json.loads(item.value_json) for item in record.summary.update}
        case "exit":
            content.exit_code = record.exit.exit_code


def _key(item: Any) -> str:
    return item.key or "/".join(item.nested_key)


def _records(data: bytes) -> Iterator[bytes]:
    position, record = MAGIC_BYTES, b""
    while position + HEADER.size <= len(data):
        left = BLOCK_BYTES - position % BLOCK_BYTES
        if left < HEADER.size:  # the rest of a block is filling
            position += left
            continue
        _, length, kind = HEADER.unpack_from(data, position)
        position += HEADER.size
        if kind == 0 or position + length > len(data):
            return
        record += data[position : position + length]
        position += length
        if kind in (FULL, LAST):
            yield record
            record = b""
