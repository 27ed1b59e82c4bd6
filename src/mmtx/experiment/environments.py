"""Environments of the data, for objectives that learn in them."""

from mmtx.data.base import Source
from mmtx.environment import Playable
from mmtx.errors import UserError
from mmtx.learner import Learner
from mmtx.objectives.capabilities import LearnsByActing


def let_act(learner: Learner, source: Source) -> None:
    """Gives each objective that learns by acting the datasets in whose environments it does.

    Raises:
        UserError: a dataset that it applies to has no environment.
    """
    for part, own in source.parts.items():
        for name in learner.applying(own.specs):
            objective = learner.objective(name)
            if not isinstance(objective, LearnsByActing):
                continue
            if not isinstance(own, Playable):
                where = f"data.parts.{part}" if part else "data"
                raise UserError(f"{where} has no environment to act in, from which '{name}' learns; objective=[action]")
            objective.play_in(part, own)
