"""Datasets of Minari, by name: recorded trajectories of robots, mazes and games."""

import os
import re
import sys
from http.client import HTTPException
from pathlib import Path

from mmtx.data.episodes.trajectories import Trajectories
from mmtx.data.files.public_file import ANSWER_SECONDS, open_address
from mmtx.errors import InvalidValue, UserError
from mmtx.process.deadline import within

MISSING = "datasets of Minari are fetched by its package, which is not installed: pip install 'mmtx[rl]'"
ADDRESS = "https://huggingface.co/farama-minari"
"""The server of Minari's datasets, which is tried first: without a network, Minari itself would wait for minutes."""

MOST_SECONDS = 3600.0
"""Time limit of a download."""

NAME = re.compile(r"([\w-]+/)*[\w-]+-v\d+")


class Minari(Trajectories):
    """Names: ``return``, ``reward``, ``state``, ``action``; see `mmtx.data.Trajectories`.

    Args:
        name: of the dataset (``mujoco/hopper/expert-v0``); it is read from Minari's folder
            (``$MINARI_DATASETS_PATH``, or ``~/.minari/datasets``), and downloaded if it is missing.
        The other keys are those of `Trajectories`, whose null stands for what the dataset declares.
    """

    def __init__(
        self,
        *,
        name: str,
        env: str | None,
        num_actions: int | None,
        reference_returns: list[float] | None,
        context: int,
        max_steps: int,
        return_scale: float,
        val_fraction: float,
        split_seed: int,
    ) -> None:
        super().__init__(
            path=str(_folder(name)),
            env=env,
            num_actions=num_actions,
            reference_returns=reference_returns,
            context=context,
            max_steps=max_steps,
            return_scale=return_scale,
            val_fraction=val_fraction,
            split_seed=split_seed,
        )


def _folder(name: str) -> Path:
    """The folder of a dataset, which is downloaded if it is missing."""
    if not NAME.fullmatch(name):
        raise InvalidValue("name", name, "is not the name of a Minari dataset, as mujoco/hopper/expert-v0 is")
    at = os.environ.get("MINARI_DATASETS_PATH")
    folder = (Path(at) if at else Path.home() / ".minari" / "datasets") / name
    if not (folder / "data").is_dir():
        _download(name, folder)
    return folder


def _download(name: str, folder: Path) -> None:
    """Downloads a dataset, within `MOST_SECONDS`."""
    try:
        import minari
    except ImportError:
        raise UserError(MISSING) from None
    hint = "With the dataset at hand, put it there, or read it with data=trajectories data.path=FOLDER"
    try:
        open_address(ADDRESS, ANSWER_SECONDS).close()
    except (OSError, HTTPException) as error:
        raise UserError(f"{name} is not in {folder}, and {ADDRESS} cannot be reached ({error}). {hint}") from None
    print(f"mmtx: downloading {name} to {folder}", file=sys.stderr, flush=True)
    try:
        within(MOST_SECONDS, lambda: minari.download_dataset(name))
    except Exception as error:  # of whatever the package calls
        raise UserError(f"{name} could not be downloaded to {folder}: {error}. {hint}") from None
