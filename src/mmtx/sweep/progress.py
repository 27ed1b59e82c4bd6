"""The progress of a run, from the end of its ``metrics.jsonl``."""

from dataclasses import dataclass
from pathlib import Path

from mmtx.run.run_record import rows_of

TAIL_BYTES = 16384


@dataclass(frozen=True)
class Progress:
    """The progress of a run.

    Attributes:
        step: last logged.
        metric: newest value of the requested metric.
        steps_per_second: over the lines that were read.
    """

    step: int | None
    metric: float | None
    steps_per_second: float | None


def read_progress(folder: Path, metric: str | None) -> Progress:
    """Reads the last lines only, and skips incomplete ones."""
    try:
        with (folder / "metrics.jsonl").open("rb") as file:
            size = file.seek(0, 2)
            file.seek(max(0, size - TAIL_BYTES))
            lines = file.read().split(b"\n")[1 if size > TAIL_BYTES else 0 : -1]
    except OSError:
        return Progress(None, None, None)
    rows = list(rows_of(lines))
    if not rows:
        return Progress(None, None, None)
    first, last = rows[0], rows[-1]
    seconds, steps = last["time"] - first["time"], last["step"] - first["step"]
    values = [row[metric] for row in rows if row.get(metric) is not None] if metric else []
    return Progress(last["step"], values[-1] if values else None, steps / seconds if seconds > 0 and steps else None)
