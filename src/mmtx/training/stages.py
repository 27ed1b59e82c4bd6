"""What of a model is trained at which steps."""

from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

from mmtx.errors import InvalidValue
from mmtx.learner import Learner
from mmtx.parts import patterns_of

KEYS = {"steps", "train"}


class Stages:
    """Stages of a run: in each only some parameters are trained, and after the last all are, but for what is frozen.

    The others get no gradient, so that no optimiser steps or decays them, and their state in it begins when they are
    trained. Which stage a step is in follows from its number alone: a run that was stopped goes on the same. Gradients
    are computed for all, as several ranks and recorded passes have to know beforehand which there are; what no
    stage trains belongs into ``freeze``, which computes none.

    Args:
        stages: ``{"steps": N, "train": [words]}`` each, see `mmtx.parts`.
        learner: whose parameters.

    Raises:
        InvalidValue: a word is of no parameter that learns.
    """

    def __init__(self, stages: Sequence[Mapping[str, Any]], learner: Learner) -> None:
        named = dict(learner.named_parameters(remove_duplicate=False))
        self._resting = []
        stop = 0
        for index, stage in enumerate(stages):
            stop += stage["steps"]
            trained = set[int]()
            for word in stage["train"]:
                patterns = patterns_of(learner, word)
                found = {id(p) for name, p in named.items() if any(fnmatchcase(name, each) for each in patterns)}
                if not any(id(p) in found and p.requires_grad for p in named.values()):
                    raise InvalidValue(f"stages[{index}].train", word, "is of no parameter that learns")
                trained |= found
            self._resting.append((stop, [p for p in learner.parameters() if id(p) not in trained]))

    def rest(self, step: int) -> None:
        """Takes the gradients from what is not trained at a step, counted from 0."""
        resting = next((parameters for stop, parameters in self._resting if step < stop), [])
        for parameter in resting:
            parameter.grad = None


def check_stages(stages: Sequence[Mapping[str, Any]]) -> None:
    """Raises InvalidValue where a stage is not so many steps of some parameters."""
    for index, stage in enumerate(stages):
        steps, train = stage.get("steps"), stage.get("train")
        if set(stage) != KEYS or not isinstance(train, list) or not train:
            example = "{steps: 400, train: [image.projector]}"
            raise InvalidValue(f"stages[{index}]", dict(stage), "has to name steps and what it trains", example)
        if not isinstance(steps, int) or steps < 1:
            raise InvalidValue(f"stages[{index}].steps", steps, "must be a number of steps above 0")
