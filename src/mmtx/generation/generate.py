"""The one function behind ``mmtx generate``: what objectives offer and given options decide what a model generates."""

import difflib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import mmtx.objectives
from mmtx.config.options import REQUIRED, Option, checked, grouped, options_of
from mmtx.errors import InvalidValue, UserError
from mmtx.generation.chat import chat
from mmtx.generation.coded_films import draw_films, draws_films
from mmtx.generation.episodes import play_episodes
from mmtx.generation.films import continue_films
from mmtx.generation.own import generate_own
from mmtx.generation.pictures import draw_pictures, draws_pictures
from mmtx.generation.rest_of_set import INPUTS, inputs_of, with_field
from mmtx.generation.sounds import make_sounds, makes_sounds
from mmtx.generation.trained import Trained
from mmtx.generation.transcript import transcribe
from mmtx.generation.translation import translate
from mmtx.learner import Learner
from mmtx.objectives.base import Objective
from mmtx.run.checkpoint_content import read_checkpoint
from mmtx.run.computing import COMPUTING, computing
from mmtx.run.directory import newest_checkpoint
from mmtx.run.learnt_without import check_learnt_without

GENERATING: tuple[tuple[str, Callable[..., str]], ...] = (
    ("draw_codes", draw_pictures),
    ("draw_codes", make_sounds),
    ("draw_codes", draw_films),
    ("make", draw_pictures),
    ("make", make_sounds),
    ("continue_film", continue_films),
    ("act", play_episodes),
    ("plan", play_episodes),
    ("write", transcribe),
    ("generate", generate_own),
    ("answer", chat),
    ("write", translate),
)
"""What an objective may offer, and the functions that generate with it: the first one that takes all given options
does. An option is one of the function, or of the objective's method."""

OF_FILES: Mapping[Callable[..., str], Callable[[Learner, Any], bool]] = {
    draw_pictures: draws_pictures,
    make_sounds: makes_sounds,
    draw_films: draws_films,
}
"""Functions that write one kind of file, and whether an objective of a learner makes what is in it."""

COMMON = {**options_of(Trained), **COMPUTING}
"""Options of all of them."""


class Way(NamedTuple):
    """A function that generates, and the options that it takes.

    Attributes:
        function: of this room.
        objective: that it generates with, or its class.
        method: that the objective offers.
        options: of the function, then of the method, as far as the set has what they bring.
    """

    function: Callable[..., str]
    objective: Any
    method: Callable[..., Any]
    options: Mapping[str, Option]

    @property
    def required(self) -> set[str]:
        return {key for key, option in self.options.items() if option.default is REQUIRED}

    @property
    def summary(self) -> str:
        described = self.method if self.function is generate_own else self.function
        return str(described.__doc__).strip().splitlines()[0]

    def call(self, trained: Trained, options: Mapping[str, Any]) -> str:
        """Generates with options that are checked, and with those common ones that the method takes."""
        common = {key: getattr(trained, key) for key in options_of(self.method).keys() & options_of(Trained).keys()}
        if scales := options.get("guidance"):
            config = read_checkpoint(newest_checkpoint(trained.path))["mmtx"]["config"]
            check_learnt_without(config, trained.learner, self.objective, scales)
        return self.function(trained, self.objective, **common, **grouped(self.method, options))


def generate(path: str, learner: Learner, given: Mapping[str, Any]) -> str:
    """What the model of a run writes, or how its episodes went.

    Args:
        path: run directory or checkpoint.
        learner: what it holds.
        given: options, not yet checked.

    Raises:
        UserError: the model generates nothing, does not take an option, or lacks one that it needs; there is no such
            device.
    """
    common = checked({key: value for key, value in given.items() if key in COMMON}, COMMON)
    where = {key: common.pop(key) for key in COMPUTING if key in common}
    trained = Trained(path, learner, **common)
    own = {key: value for key, value in given.items() if key not in COMMON}
    way = _chosen(trained, ways(learner), own)
    options = checked(own, way.options)
    with computing(learner, **where):
        return way.call(trained, options)


def ways(learner: Learner) -> list[Way]:
    """All that a learner can generate. Of objectives that offer the same, the one with most options is first."""
    objectives = [learner.objective(name) for name in learner.objectives]
    found = []
    for way in _ways(objectives):
        absent = _absent(learner, way)
        if not absent & way.required:
            found.append(way._replace(options={key: each for key, each in way.options.items() if key not in absent}))
    return found


def known_ways() -> list[Way]:
    """All that objectives of mmtx offer, each once, with the options that some of them take."""
    classes = [getattr(mmtx.objectives, name) for name in dir(mmtx.objectives)]
    found: dict[Any, Way] = {}
    for way in _ways([each for each in classes if isinstance(each, type) and issubclass(each, Objective)]):
        key = way.summary
        found[key] = way if key not in found else found[key]._replace(options={**found[key].options, **way.options})
    return list(found.values())


def _ways(objectives: Sequence[Any]) -> list[Way]:
    """All that objectives, or their classes, offer."""
    found = []
    for name, function in GENERATING:
        offered = [(each, getattr(each, name)) for each in objectives if hasattr(each, name)]
        of_each = [Way(function, each, method, _options(function, method)) for each, method in offered]
        found += sorted(of_each, key=lambda way: -len(way.options))
    return found


def _options(function: Callable[..., str], method: Callable[..., Any]) -> dict[str, Option]:
    options = {**options_of(function), **options_of(method)}
    return {key: option for key, option in options.items() if key not in COMMON}


def _absent(learner: Learner, way: Way) -> set[str]:
    """Options of the function that would bring what is not in the set; what is only written is no input."""
    inputs = inputs_of(learner, getattr(way.objective, "writes", None))
    absent = {key for key in INPUTS if not with_field(learner, inputs, key)} | (set() if inputs else {"index"})
    if way.function in OF_FILES and not OF_FILES[way.function](learner, way.objective):
        absent.add("out")  # without which it is no way at all
    if not any(getattr(spec.vocabulary, "chat", None) for spec in learner.specs.values()):
        absent.add("messages")
    return absent & options_of(way.function).keys()


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
