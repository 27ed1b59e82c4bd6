"""The model at the start of a run, ``checkpoints/reference.ckpt``, for objectives that compare with it."""

from pathlib import Path
from typing import Any

from mmtx.errors import UserError
from mmtx.learner import Learner
from mmtx.process.launch import launch
from mmtx.run.checkpoint_content import read_checkpoint, weights_of
from mmtx.run.checkpoint_file import stored_hash, write_checkpoint
from mmtx.run.directory import RunDirectory


def keep_reference(learner: Learner, run: RunDirectory, contents: dict[str, Any]) -> str | None:
    """Freezes a copy of the model as the run begins with it, and writes the checkpoint of step 0.

    Args:
        learner: before its first step.
        run: where to.
        contents: what checkpoints hold beside the state.

    Returns:
        The hash of the file, which every checkpoint holds; None on ranks that write none.
    """
    learner.freeze_reference()
    if not launch().is_main:
        return None
    weights = {f"learner.{name}": value for name, value in learner.state_dict().items()}
    described = {**contents, "step": 0, "metrics": {}, "log_lines": 0}
    write_checkpoint(run.reference, {"mmtx": described, "state_dict": weights})
    return stored_hash(run.reference)


def load_reference(learner: Learner, file: Path, expected: str | None) -> None:
    """Gives a loaded learner the reference of its run.

    Args:
        learner: of any later step.
        file: the run's ``reference.ckpt``.
        expected: its hash, as a checkpoint of the run has it; None, as that of step 0: whatever is there.

    Raises:
        UserError: it is not there, or is another.
    """
    names = ", ".join(name for name in learner.objectives if learner.objective(name).uses_reference)
    if not file.is_file():
        raise UserError(f"{file} is not there: {names} compares with it; put back the one that the run has written")
    if expected is not None and stored_hash(file) != expected:
        raise UserError(f"{file} is not the one that this run has written, and {names} compares with it; put that back")
    weights = weights_of(read_checkpoint(file))
    reference = learner.freeze_reference()
    reference.load_state_dict({name: weights[f"model.{name}"] for name in reference.state_dict()})
