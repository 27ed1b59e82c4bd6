"""Whether a model has learnt to do without what it is to be guided by."""

from collections.abc import Mapping
from typing import Any

from mmtx.config.schema import Config
from mmtx.decoding.guided import check_guidance
from mmtx.errors import InvalidValue
from mmtx.learner import Learner


def check_learnt_without(config: Config, learner: Learner, objective: Any, scales: Mapping[str, float | int]) -> None:
    """Raises InvalidValue for a name of `guidance` that the training never left out: what a model computes without it
    would mean nothing.

    Args:
        config: of the training.
        learner: that was trained.
        objective: of the learner, that is guided.
        scales: of the names.
    """
    if not scales:
        return
    check_guidance(scales, learner.model.names, objective.writes)
    shares = config.get("modality_dropout") or {}
    for name, scale in scales.items():
        if not shares.get(name):
            problem = f"leads away from what the model computes without '{name}', which it has never done without"
            raise InvalidValue(f"guidance.{name}", scale, problem, f"train with modality_dropout={{{name}: 0.1}}")
