"""Files of ``samples/`` in Lightning's own loggers, as far as each can show them."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.loggers import MLFlowLogger, TensorBoardLogger


def log_files(logger: Any, files: Iterable[Path], step: int) -> None:
    """Shows pictures, texts and sounds in TensorBoard; keeps all files in MLflow; gives pictures to whatever has the
    method ``log_image``, as Lightning's logger of W&B. Others show metrics alone."""
    for file in files:
        tag = f"samples/{file.stem.rpartition('_step')[0]}"
        if isinstance(logger, TensorBoardLogger):
            _show_in_tensorboard(logger.experiment, file, tag, step)
        elif isinstance(logger, MLFlowLogger):
            for each in (file, *_sounds(file)):
                logger.experiment.log_artifact(logger.run_id, str(each), "samples")
        elif hasattr(logger, "log_image") and file.suffix == ".png":
            logger.log_image(tag, [str(file)])


def _show_in_tensorboard(writer: Any, file: Path, tag: str, step: int) -> None:
    """A film is not shown: its frames stand in the picture beside it."""
    if file.suffix == ".png":
        from matplotlib.image import imread

        writer.add_image(tag, imread(file)[..., :3], step, dataformats="HWC")
    elif file.suffix == ".jsonl":
        writer.add_text(tag, _table(file), step)
    for sound in _sounds(file):
        import soundfile

        samples, rate_hz = soundfile.read(sound, dtype="float32")
        writer.add_audio(f"{tag}/{sound.stem.rpartition('_')[2]}", torch.from_numpy(samples)[None], step, rate_hz)


def _sounds(file: Path) -> list[Path]:
    """Those that lie beside a file of texts, ``name_0.wav`` for its first line."""
    if file.suffix != ".jsonl":
        return []
    beside = (file.with_name(f"{file.stem}_{i}.wav") for i in range(len(file.read_bytes().splitlines())))
    return [sound for sound in beside if sound.is_file()]


def _table(file: Path) -> str:
    """Lines of JSON as a table of Markdown."""
    rows = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    columns = list(rows[0]) if rows else []
    cells = [columns, ["---"] * len(columns), *([row.get(column, "") for column in columns] for row in rows)]
    return "\n".join("| " + " | ".join(str(cell).replace("|", "\\|") for cell in line) + " |" for line in cells)
