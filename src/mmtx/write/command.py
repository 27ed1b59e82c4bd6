"""What ``mmtx generate`` does with a run, which follows from its objectives and from what is given."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from mmtx.errors import InvalidValue, UserError
from mmtx.learner import Learner
from mmtx.objectives.action import Action
from mmtx.objectives.ctc import CTC
from mmtx.objectives.next_token import NextToken
from mmtx.objectives.seq2seq import Seq2Seq
from mmtx.run.loading import load

DEFAULTS: dict[str, Any] = {
    "prompt": None,
    "image": None,
    "audio": None,
    "index": None,
    "max_new_tokens": None,
    "temperature": 1.0,
    "top_k": None,
    "top_p": None,
    "beam_size": None,
    "length_penalty": None,
    "resample": False,
    "overlap_seconds": 1.0,
    "part": None,
    "episodes": 10,
    "target_return": None,
    "out": None,
    "seed": 0,
    "cache": True,
    "plugins": [],
}
"""The options of the command."""

TEXTS = ("prompt", "image", "audio", "out", "part")
"""Options whose values are taken as they are written."""

INTEGERS = {"max_new_tokens": 1, "index": 0, "beam_size": 1, "episodes": 1, "top_k": 1, "seed": 0}
"""Options that are whole numbers, and the least that each may be."""

OF_ACTING = ("part", "episodes", "target_return", "out")
OF_SAMPLING = ("temperature", "top_k", "top_p")
OF_SOUND = ("resample", "overlap_seconds")
OF_SAMPLES = ("prompt", "image", "index")
OF_BOTH = ("seed", "cache", "plugins")
LARGEST = 2**31 - 1
"""Of whole numbers other than the seed, whose limit is torch's own."""
LARGEST_SEED = 2**64 - 1


def write(place: str, options: Mapping[str, Any]) -> str:
    """What the model of a run writes, or what comes of its acting.

    Raises:
        UserError: it does neither, or something it needs is not given.
    """
    _check(options)
    learner = load(place, options["plugins"])
    objectives = list(learner.objectives.values())
    given = [key for key, default in DEFAULTS.items() if options[key] != default and key not in OF_BOTH]
    acts = any(isinstance(o, Action) for o in objectives)
    if acts and set(given) <= set(OF_ACTING):
        from mmtx.write.episodes import write_episodes

        return write_episodes(place, learner, options)
    for key in given:
        if key in OF_ACTING:
            raise InvalidValue(key, options[key], "is for models that act, and given nothing to write about")
        if key in OF_SOUND and options["audio"] is None:
            raise InvalidValue(key, options[key], "is for audio=FILE, which is not given")
        if key in OF_SAMPLES and options["audio"] is not None:
            raise InvalidValue(key, options[key], "says nothing beside audio=FILE; give one of them")
    written = next((o for o in objectives if isinstance(o, NextToken)), None)
    continues = written is not None and written.head.vocabulary is not None and options["audio"] is None
    for key in given:
        if key in OF_SAMPLING and not continues:
            raise InvalidValue(
                key, options[key], "is for models that continue a text (next_token); this one draws nothing"
            )
    if options["audio"] is not None:
        return _transcribe(learner, options)
    if continues:
        assert written is not None
        from mmtx.write.continuation import continue_text

        return continue_text(place, learner, written, options)
    seq2seq = next((o for o in objectives if isinstance(o, Seq2Seq)), None)
    if seq2seq is not None:
        from mmtx.write.translation import translate

        return translate(place, learner, seq2seq, options)
    if any(isinstance(o, CTC) for o in objectives):
        raise UserError("this model writes down what it hears: audio=FILE")
    if acts:
        others = ", ".join(key for key in given if key not in OF_ACTING)
        raise UserError(f"{place} acts, and writes no text: it takes {', '.join(OF_ACTING)}, not {others}")
    raise UserError(f"{place} writes no text: its objectives are {', '.join(learner.objectives)}")


def _check(options: Mapping[str, Any]) -> None:
    """Raises InvalidValue for what is not of its type."""
    for key, least in INTEGERS.items():
        value = options[key]
        if _is_left_out(key, value):
            continue
        if not isinstance(value, int) or isinstance(value, bool) or value < least:
            raise InvalidValue(key, value, f"must be an integer of at least {least}")
        largest = LARGEST_SEED if key == "seed" else LARGEST
        if value > largest:
            raise InvalidValue(key, value, f"must be at most {largest}")
    for key in ("temperature", "top_p", "length_penalty", "overlap_seconds"):
        if not _is_left_out(key, options[key]) and not _is_finite(options[key]):
            raise InvalidValue(key, options[key], "must be a number, and finite")
    for key in ("resample", "cache"):
        if not isinstance(options[key], bool):
            raise InvalidValue(key, options[key], "is neither true nor false")
    if options["plugins"] is None:
        raise InvalidValue("plugins", None, "is no list of packages", "plugins=[]")


def _is_left_out(key: str, value: object) -> bool:
    """null stands for nothing only where nothing is the default."""
    return value is None and DEFAULTS[key] is None


def _is_finite(value: object) -> bool:
    """Whether it is a number that a float can hold."""
    try:
        return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    except OverflowError:
        return False


def _transcribe(learner: Learner, options: Mapping[str, Any]) -> str:
    from mmtx.write.transcript import transcribe

    objectives = list(learner.objectives.values())
    writer = next((o for kind in (Seq2Seq, CTC) for o in objectives if isinstance(o, kind)), None)
    if writer is None:
        named = ", ".join(learner.objectives)
        raise UserError(f"audio={options['audio']}: this model writes down no sound; its objectives are {named}")
    return transcribe(learner, writer, options)
