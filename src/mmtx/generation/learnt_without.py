"""Whether a model has learnt to do without what it is to be guided by."""

from collections.abc import Mapping
from typing import Any

from mmtx.decoding.guided import check_guidance
from mmtx.errors import InvalidValue
from mmtx.generation.trained import Trained
from mmtx.run.checkpoint_content import read_checkpoint
from mmtx.run.directory import newest_checkpoint


def check_learnt_without(trained: Trained, objective: Any, scales: Mapping[str, float | int]) -> None:
    """Raises InvalidValue for a name of `guidance` that the training never left out: what a model computes without it
    would mean nothing."""
    if not scales:
        return
    check_guidance(scales, trained.learner.model.names, objective.writes)
    shares = read_checkpoint(newest_checkpoint(trained.path))["mmtx"]["config"].get("modality_dropout") or {}
    for name, scale in scales.items():
        if not shares.get(name):
            problem = f"leads away from what the model computes without '{name}', which it has never done without"
            raise InvalidValue(f"guidance.{name}", scale, problem, f"train with modality_dropout={{{name}: 0.1}}")
