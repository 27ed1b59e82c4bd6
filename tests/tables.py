"""The same rows as a file of any kind."""

import csv
import io
import json
import tarfile
from pathlib import Path
from typing import Any

import numpy
import pyarrow
import pyarrow.parquet
import soundfile
from PIL import Image

Row = dict[str, Any]
FILES = ("picture", "sound")
"""Columns of files: their content is bytes."""
SUFFIX = {"picture": "png", "sound": "wav"}


def png(seed: int, side: int = 8) -> bytes:
    """A picture of one colour."""
    stream = io.BytesIO()
    Image.new("RGB", (side, side), (seed * 37 % 256, seed * 91 % 256, seed * 13 % 256)).save(stream, "PNG")
    return stream.getvalue()


def wav(seed: int) -> bytes:
    """A sound of noise, an eighth of a second."""
    stream = io.BytesIO()
    samples = numpy.random.default_rng(seed).integers(-8000, 8000, 2000).astype(numpy.int16)
    soundfile.write(stream, samples, 16_000, format="WAV")
    return stream.getvalue()


def write_table(folder: Path, kind: str, rows: list[Row], group: int = 7) -> Path:
    """Writes rows to a file of a kind, and returns the path. Files lie beside a text, and within everything else.

    Args:
        folder: to write to.
        kind: csv, tsv, jsonl, parquet, datasets or tar.
        rows: of the table.
        group: rows of a row group, of a batch, or of a shard.
    """
    folder.mkdir(parents=True, exist_ok=True)
    return {"parquet": _parquet, "datasets": _datasets, "tar": _tar}.get(kind, _text)(folder, kind, rows, group)


def _text(folder: Path, kind: str, rows: list[Row], group: int) -> Path:
    file = folder / f"table.{kind}"
    listed = [{key: _beside(folder, key, value, i) for key, value in row.items()} for i, row in enumerate(rows)]
    if kind == "jsonl":
        file.write_text("".join(json.dumps(row) + "\n" for row in listed))
        return file
    with open(file, "w", newline="") as stream:
        writer = csv.DictWriter(stream, list(rows[0]), delimiter="\t" if kind == "tsv" else ",", quotechar='"')
        writer.writeheader()
        writer.writerows([{k: json.dumps(v) if isinstance(v, list) else v for k, v in row.items()} for row in listed])
    return file


def _beside(folder: Path, column: str, value: Any, row: int) -> Any:
    if not isinstance(value, bytes):
        return value
    file = folder / "files" / f"{row}.{SUFFIX[column]}"
    file.parent.mkdir(exist_ok=True)
    file.write_bytes(value)
    return f"files/{file.name}"


def _parquet(folder: Path, kind: str, rows: list[Row], group: int) -> Path:
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), folder / "table.parquet", row_group_size=group)
    return folder / "table.parquet"


def _datasets(folder: Path, kind: str, rows: list[Row], group: int) -> Path:
    """As ``Dataset.save_to_disk`` of `datasets` writes it: Arrow streams, classes as their numbers."""
    home = folder / "saved"
    home.mkdir()
    names = sorted({row["kind"] for row in rows if "kind" in row})
    stored = [_as_stored(row, names) for row in rows]
    table = pyarrow.Table.from_pylist(stored)
    shards = [table.slice(0, len(rows) // 2), table.slice(len(rows) // 2)]
    files = [f"data-{number:05d}-of-00002.arrow" for number in range(2)]
    for file, shard in zip(files, shards, strict=True):
        with pyarrow.OSFile(str(home / file), "wb") as stream, pyarrow.ipc.new_stream(stream, shard.schema) as writer:
            writer.write_table(shard, max_chunksize=group)
    features = {"kind": {"names": names, "_type": "ClassLabel"}} if names else {}
    (home / "dataset_info.json").write_text(json.dumps({"features": features}))
    (home / "state.json").write_text(json.dumps({"_data_files": [{"filename": file} for file in files]}))
    return home


def _as_stored(row: Row, names: list[str]) -> Row:
    stored = {key: {"bytes": value, "path": None} if key in FILES else value for key, value in row.items()}
    return {**stored, "kind": names.index(row["kind"])} if "kind" in row else stored


def _tar(folder: Path, kind: str, rows: list[Row], group: int) -> Path:
    """As WebDataset has them: several shards; what is no file and no text is in a member of JSON."""
    shards = folder / "shards"
    shards.mkdir()
    for start in range(0, len(rows), group):
        with tarfile.open(shards / f"{start:05d}.tar", "w") as tar:
            for number, row in enumerate(rows[start : start + group], start):
                files = {SUFFIX[key]: value for key, value in row.items() if key in FILES}
                rest = {key: value for key, value in row.items() if key not in (*FILES, "text")}
                texts = {"txt": str(row["text"]).encode()} if "text" in row else {}
                for suffix, content in {**files, **texts, "json": json.dumps(rest).encode()}.items():
                    member = tarfile.TarInfo(f"{number:06d}.{suffix}")
                    member.size = len(content)
                    tar.addfile(member, io.BytesIO(content))
    return shards


def columns_of(kind: str, columns: dict[str, Any]) -> dict[str, Any]:
    """Columns as a file of a kind calls them."""
    own = {"text": "txt", **SUFFIX} if kind == "tar" else {}
    return {name: own.get(column, column) if isinstance(column, str) else column for name, column in columns.items()}
