"""Where the time of a few steps goes: a trace for viewers, and a table."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.callbacks import Callback
from torch.profiler import ProfilerAction, ProfilerActivity, profile

WARM_UP = 5
"""Steps before the first that is traced: compilation, the first batches of workers, growing memory."""
TRACED = 3
LONGEST_TABLE = 25


class StepProfile(Callback):
    """Traces three steps of rank 0 with torch.profiler, after five that a process begins with, into ``profile/``:
    ``trace.json.gz``, which chrome://tracing and Perfetto open, and ``table.txt``. An evaluation among these steps ends
    the trace. A run that has a profile keeps it.

    Args:
        run_dir: of the run.
    """

    def __init__(self, run_dir: Path) -> None:
        self.folder, self._done = run_dir / "profile", 0
        self._profiler: profile | None = None

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: Any, *_: Any) -> None:
        if self._done == WARM_UP and trainer.is_global_zero and not self.folder.exists():
            os.environ.setdefault("KINETO_LOG_LEVEL", "6")  # else the tracer prints lines about itself
            activities = [ProfilerActivity.CPU, *[ProfilerActivity.CUDA] * (pl_module.device.type == "cuda")]
            self._profiler = profile(activities=activities, schedule=_whole, profile_memory=True)
            self._profiler.start()

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: Any, *_: Any) -> None:
        self._done += 1
        if self._profiler is not None and self._done < WARM_UP + TRACED:
            self._profiler.step()  # marks where the next one begins
        elif self._profiler is not None:
            self._write(trainer.global_step)

    def on_validation_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        if self._profiler is not None:
            self._write(trainer.global_step)

    def on_train_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        self.on_validation_start(trainer, pl_module)
        if trainer.is_global_zero and self._done <= WARM_UP and not self.folder.exists():
            print(f"no profile: only {self._done} steps were left, and the first {WARM_UP} warm up", flush=True)

    def on_exception(self, trainer: pl.Trainer, pl_module: Any, exception: BaseException) -> None:
        if self._profiler is not None:
            self._profiler.stop()
            self._profiler = None

    def _write(self, last: int) -> None:
        """Whole or not at all."""
        profiler, self._profiler = self._profiler, None
        assert profiler is not None
        profiler.stop()
        partial = self.folder.with_suffix(".partial")
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir()
        first = last - (self._done - WARM_UP) + 1
        steps = f"step {last}" if first == last else f"steps {first} to {last}"
        (partial / "table.txt").write_text("\n\n".join([steps, *_tables(profiler)]) + "\n")
        profiler.export_chrome_trace(str(partial / "trace.json.gz"))
        os.replace(partial, self.folder)
        print(f"profile of {steps}: {self.folder / 'table.txt'}  {self.folder / 'trace.json.gz'}", flush=True)


def _whole(_: int) -> ProfilerAction:
    """All steps from start to stop are one trace."""
    return ProfilerAction.RECORD


def _tables(profiler: profile) -> Iterator[str]:
    """Operators by what they themselves take."""
    averages, on_gpu = profiler.key_averages(), ProfilerActivity.CUDA in profiler.activities
    device = "device" if on_gpu else "cpu"
    kinds = {"time of the device": "self_device_time_total"} if on_gpu else {}
    kinds |= {"time of the host": "self_cpu_time_total", "memory": f"self_{device}_memory_usage"}
    for title, key in kinds.items():
        yield f"by {title}\n{averages.table(sort_by=key, row_limit=LONGEST_TABLE, max_name_column_width=60)}"
