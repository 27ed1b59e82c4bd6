"""The real command line, in a process of its own."""

import os
import subprocess
import sys
from pathlib import Path

TINY = ["backbone.dim=32", "backbone.num_layers=1", "backbone.num_heads=2", "data/augment=none", "log_every_steps=1"]


def mmtx(*arguments, cwd, timeout=180, env=None):
    """Runs ``mmtx`` in `cwd`, with W&B off unless `env` says otherwise. Gives the finished process."""
    environment = {
        **os.environ,
        "WANDB_MODE": "disabled",
        "OMP_NUM_THREADS": "1",
        "CUDA_VISIBLE_DEVICES": "",
        **(env or {}),
    }
    environment = {key: value for key, value in environment.items() if value is not None}
    command = [str(Path(sys.executable).parent / "mmtx"), *arguments]
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=timeout)


def text_of(done):
    return f"exit code {done.returncode}\n{done.stdout}\n{done.stderr}"
