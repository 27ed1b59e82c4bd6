"""The one function behind ``mmtx generate``: objectives and given options decide what a trained model generates."""

import difflib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from mmtx.config.options import REQUIRED, Option, checked, options_of
from mmtx.errors import InvalidValue, UserError
from mmtx.generation.continuation import continue_text
from mmtx.generation.episodes import play_episodes
from mmtx.generation.rest_of_set import INPUTS
from mmtx.generation.trained import Trained
from mmtx.generation.transcript import transcribe
from mmtx.generation.translation import translate
from mmtx.learner import Learner
from mmtx.objectives.action import Action
from mmtx.objectives.base import Objective
from mmtx.objectives.ctc import CTC
from mmtx.objectives.next_token import NextToken
from mmtx.objectives.seq2seq import Seq2Seq
from mmtx.run.checkpoint_content import load

GENERATING: tuple[tuple[type[Objective], Callable[..., str]], ...] = (
    (Action, play_episodes),
    (Seq2Seq, transcribe),
    (CTC, transcribe),
    (NextToken, continue_text),
    (Seq2Seq, translate),
)
"""Objectives, and the functions that generate with them: the first one that takes all given options does."""

COMMON = options_of(Trained)
"""Options of all of them."""

OF_SEARCH = {"max_new_tokens", "beam_size", "length_penalty"}


class Way(NamedTuple):
    """A function, the objective that it generates with, and its options as far as the set has what they bring."""

    function: Callable[..., str]
    objective: Objective
    options: Mapping[str, Option]

    @property
    def required(self) -> set[str]:
        return {key for key, option in self.options.items() if option.default is REQUIRED}


def generate(path: str, given: Mapping[str, Any]) -> str:
    """What the model of a run writes, or how its episodes went.

    Args:
        path: run directory or checkpoint.
        given: options, not yet checked.

    Raises:
        UserError: the model generates nothing, does not take an option, or lacks one that it needs.
    """
    common = checked({key: value for key, value in given.items() if key in COMMON}, COMMON)
    trained = Trained(path, load(path, common.get("plugins", ())), **common)
    own = {key: value for key, value in given.items() if key not in COMMON}
    way = _chosen(trained, ways(trained.learner), own)
    return way.function(trained, way.objective, **checked(own, way.options))


def ways(learner: Learner) -> list[Way]:
    """All that a learner can generate."""
    found = []
    for kind, function in GENERATING:
        for objective in learner.objectives.values():
            writes_ids = isinstance(objective, NextToken) and objective.head.vocabulary is None
            if isinstance(objective, kind) and not writes_ids:
                options, absent = options_of(function), _absent(learner, objective)
                way = Way(function, objective, {key: o for key, o in options.items() if key not in absent})
                if all(key in way.options or o.default is not REQUIRED for key, o in options.items()):
                    found.append(way)
    return found


def _absent(learner: Learner, objective: Objective) -> set[str]:
    """Options that would bring what is not in the set, where a text that is only written is no input; or search."""
    output = objective.text if isinstance(objective, Seq2Seq) else None
    inputs = [learner.model.tokenizer(name) for name in learner.model.names if name != output]
    absent = {key for key, kind in INPUTS.items() if not any(isinstance(each, kind) for each in inputs)}
    absent |= {"index"} if len(learner.model.names) == 1 else set()
    return absent | (OF_SEARCH if isinstance(objective, CTC) else set())


def _chosen(trained: Trained, ways: Sequence[Way], given: Mapping[str, Any]) -> Way:
    for way in ways:
        if way.required <= given.keys() <= way.options.keys():
            return way
    if not ways:
        raise UserError(f"{trained.path} generates nothing: its objectives are {', '.join(trained.learner.objectives)}")
    taken = list(dict.fromkeys(key for options in (*(way.options for way in ways), COMMON) for key in options))
    for key, value in given.items():
        if key not in taken:
            close = difflib.get_close_matches(key, taken, n=1, cutoff=0.7)
            hint = f"; did you mean '{close[0]}'?" if close else ""
            raise UserError(f"{key}={value} is no option of {trained.path}, which takes {', '.join(taken)}{hint}")
    nearest = min(ways, key=lambda way: len(given.keys() - way.options.keys()))
    for key, value in given.items():
        if key not in nearest.options:
            other = next(other for other in given if other in nearest.options)
            raise InvalidValue(key, value, f"cannot be given beside {other}={given[other]}; give one of them")
    missing = ", ".join(f"{key}=..." for key in nearest.required - given.keys())
    raise UserError(f"{', '.join(given) or trained.path} needs {missing}, which is not given")
