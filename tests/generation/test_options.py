"""Options of ``mmtx generate`` that cannot be, that a run does not take, or that do not go together."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import pytest

from mmtx.errors import UserError
from mmtx.generation.chat import chat
from mmtx.generation.coded_films import draw_films
from mmtx.generation.episodes import play_episodes
from mmtx.generation.films import continue_films
from mmtx.generation.generate import COMMON, GENERATING, generate, known_ways
from mmtx.generation.own import generate_own
from mmtx.generation.pictures import draw_pictures
from mmtx.generation.sounds import make_sounds
from mmtx.generation.transcript import transcribe
from mmtx.generation.translation import translate
from mmtx.learner import Learner
from mmtx.objectives.flow import Flow
from mmtx.objectives.masked_diffusion import MaskedDiffusion
from mmtx.objectives.next_token import NextToken

LEARNER = Learner.__new__(Learner)
object.__setattr__(LEARNER, "objectives", {"classify": None})


def unmade(kind: type) -> Any:
    """An objective of which nothing but its kind is looked at."""
    objective = kind.__new__(kind)
    for attribute in ("writes", "action", "read", "num_episodes", "target_returns"):
        object.__setattr__(objective, attribute, None)
    return objective


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A model that generates by the given functions, in their order in the table."""

    def made_of(*functions: Any) -> None:
        found = [way._replace(objective=unmade(way.objective)) for way in known_ways() if way.function in functions]
        monkeypatch.setattr("mmtx.generation.generate.ways", lambda learner: found)
        monkeypatch.setattr("mmtx.generation.generate.computing", lambda learner, **keys: nullcontext())

    return made_of


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"repetition_penalty": None}, "repetition_penalty=null is not a number$"),
        ({"repetition_penalty": 10**400}, "repetition_penalty=1000.* is not a number$"),
        ({"overlap_seconds": None, "audio": "a.wav"}, "overlap_seconds=null is not a number$"),
        ({"seed": None}, "seed=null is not an integer$"),
        ({"seed": 2**64}, "seed=18446744073709551616 must lie in 0..18446744073709551615"),
        ({"seed": -1}, "seed=-1 must lie in 0"),
        ({"episodes": None}, "episodes=null is not an integer$"),
        ({"episodes": 0}, "episodes=0 must lie in 1"),
        ({"target_return": [1, None]}, r"target_return=\[1,null\] is not a number or a list of numbers or null"),
        ({"max_new_tokens": True}, "max_new_tokens=true is not an integer$"),
        ({"resample": 1, "audio": "a.wav"}, "resample=1 is not true or false"),
        ({"plugins": None}, "plugins=null is not a list of texts"),
        ({"device": "tpu"}, "device=tpu is not .*cuda"),
        ({"precision": "fp8"}, "precision=fp8 is not .*bf16-true"),
    ],
)
def test_a_value_that_cannot_be_is_refused(options: dict[str, Any], message: str, model: Any) -> None:
    model(*(function for _, function in GENERATING))
    with pytest.raises(UserError, match=f"^{message}"):
        generate("run", LEARNER, options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"resample": True, "prompt": "be"}, "prompt=be cannot be given beside resample=True; give one of them"),
        ({"audio": "a.wav", "prompt": "be"}, "prompt=be cannot be given beside audio=a.wav; give one of them"),
        ({"audio": "a.wav", "index": 0}, "index=0 cannot be given beside audio=a.wav; give one of them"),
        ({"resample": True}, "resample needs audio=..., which is not given"),
    ],
)
def test_options_that_do_not_go_together_are_refused(options: dict[str, Any], message: str, model: Any) -> None:
    model(transcribe, translate)
    with pytest.raises(UserError) as error:
        generate("run", LEARNER, options)
    assert str(error.value) == message


@pytest.mark.parametrize(
    ("function", "option", "hint"),
    [
        (generate_own, "episodes", ""),
        (generate_own, "beam_size", ""),
        (generate_own, "max_new_token", "; did you mean 'max_new_tokens'?"),
        (translate, "episodes", ""),
        (play_episodes, "prompt", ""),
    ],
)
def test_an_option_that_a_run_does_not_take_lists_those_that_it_takes(
    function: Any, option: str, hint: str, model: Any
) -> None:
    model(function)
    options = (key for way in known_ways() if way.function is function for key in way.options)
    with pytest.raises(UserError) as error:
        generate("run", LEARNER, {option: 1})
    taken = ", ".join(dict.fromkeys([*options, *COMMON]))
    assert str(error.value) == f"{option}=1 is no option of run, which takes {taken}{hint}"


def test_a_model_that_generates_nothing_and_one_that_lacks_its_sound(model: Any) -> None:
    model()
    with pytest.raises(UserError, match="^run generates nothing: its objectives are classify$"):
        generate("run", LEARNER, {"prompt": "be"})
    model(transcribe)
    with pytest.raises(UserError, match="^run needs audio=..., which is not given$"):
        generate("run", LEARNER, {})


def test_every_option_has_a_type_and_a_line() -> None:
    for way in known_ways():
        for key, option in way.options.items():
            assert option.line and option.annotation is not Any, key


def test_what_objectives_of_mmtx_offer() -> None:
    """Of each function, options of its own and of the methods that it calls, whichever objective has them."""
    options = {way.method if way.function is generate_own else way.function: set(way.options) for way in known_ways()}
    filters = {"temperature", "top_k", "top_p", "min_p"}
    penalties = {"repetition_penalty", "frequency_penalty", "presence_penalty"}
    of_text = {"max_new_tokens", *filters, *penalties, "guidance", "grammar", "schema"}
    of_stream = {"cache_size", "keep_first", "notes", "note_marks"}
    of_search = {"beam_size", "length_penalty"}
    given, of_passes = {"prompt", "infill", "blank", "length", "write"}, {"num_steps", "grid", "order", "block_size"}
    drawn = {"out", "label", "prompt", "index", "count", *filters, *penalties, "guidance", *of_passes}
    assert options == {
        play_episodes: {"part", "episodes", "target_return", "out", *filters},
        transcribe: {"audio", "resample", "overlap_seconds", *of_text, *of_search},
        NextToken.generate: {"prompt", "image", "index", *of_text, *of_stream},
        Flow.generate: {"image", "index", "guidance", "num_steps", "solver", "count", "length"},
        **dict.fromkeys((draw_pictures, make_sounds), {*drawn, "solver"}),
        draw_films: drawn,
        continue_films: {"frames", "index", "out", "length", "num_steps", "solver"},
        MaskedDiffusion.generate: {"image", "index", "guidance", *filters, *given, *of_passes},
        chat: {"messages", "template", "image", "index", *of_text, *of_stream},
        translate: {"prompt", "image", "index", *of_text, *of_search},
    }
