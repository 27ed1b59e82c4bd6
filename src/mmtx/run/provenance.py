"""What a run ran on."""

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
    """Commit of the working directory, or else of the checkout that mmtx runs from, and whether it has changes that are
    not committed."""
    for folder in (Path.cwd(), Path(__file__).parent):
        try:
            commit = _run(folder, "git", "rev-parse", "HEAD")
            return {"commit": commit, "dirty": bool(_run(folder, "git", "status", "--porcelain"))}
        except (OSError, subprocess.SubprocessError):
            continue
    return None


def _run(folder: Path, *command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True, cwd=folder)
    return done.stdout.strip()


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
