"""What a run ran on."""

from __future__ import annotations

import os
import platform
import shlex
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

PACKAGES = ("mmtx", "torch", "torchvision", "torchaudio", "lightning", "hydra-core", "omegaconf", "wandb", "numpy")


def describe(seed: int) -> dict[str, Any]:
    """Command line, git commit, versions, seed and devices."""
    import torch

    return {
        "command": shlex.join(["mmtx", *sys.argv[1:]]),
        "directory": os.getcwd(),
        "git": _git(),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "versions": {name: _version(name) for name in PACKAGES},
        "seed": seed,
        "devices": {
            "cpu": platform.processor() or platform.machine(),
            "num_threads": torch.get_num_threads(),
            "gpus": [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())],
        },
    }


def _git() -> dict[str, Any] | None:
    """Commit of the working directory, and whether it has changes that are not committed."""
    try:
        commit = _run("git", "rev-parse", "HEAD")
        return {"commit": commit, "dirty": bool(_run("git", "status", "--porcelain"))}
    except (OSError, subprocess.SubprocessError):
        return None


def _run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True, cwd=Path.cwd())
    return done.stdout.strip()


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
