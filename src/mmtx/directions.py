"""Which way a metric is better: whatever reports it declares that once, and all that choose by it go by that."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from mmtx.errors import InvalidValue, nearest

Direction = Literal["min", "max"]
"""Lower is better, or higher."""

Directions = Mapping[str, Direction | None]
"""``{metric: direction}``; None: neither is better in itself, as with the length of an episode."""

DECLARE = "an objective of your own declares what it reports: directions = {'NAME': 'max'}, or 'min', or None"
"""What to do about a metric that nothing declares."""

PLAYED = ("return", "return_normalised", "success_rate", "episode_length")

KNOWN: dict[str, Direction | None] = {
    **dict.fromkeys(("loss", "perplexity", "bits_per_byte", "wer", "cer", "per", "too_long"), "min"),
    **dict.fromkeys(("skipped_samples", "skipped_steps", "loss_spikes"), "min"),
    **dict.fromkeys(("accuracy", "exact_match", "bleu", "recall@1", "recall@5"), "max"),
    **dict.fromkeys(("return", "return_normalised", "success_rate", "fill", "tokens_per_second"), "max"),
    **dict.fromkeys(("lr", "epoch", "grad_norm", "tokens", "episodes", "episode_length"), None),
    **dict.fromkeys(f"{name}_sd" for name in PLAYED),
}
"""Of mmtx's own metrics, by the last part of their names."""


def known(*names: str) -> dict[str, Direction | None]:
    """The directions of some of mmtx's own metrics, for what reports them."""
    return {name: KNOWN[name] for name in names}


def direction_of(
    metric: str,
    given: str | None,
    directions: Directions,
    *,
    keys: tuple[str, str],
    words: Mapping[Direction, str] | None = None,
) -> Direction:
    """The direction of a metric: the one declared, or the one given where neither is better in itself.

    Args:
        metric: by its whole name.
        given: the direction in a setting, in one of the `words`; None: none.
        directions: that are declared.
        keys: of the settings that hold the metric and the direction.
        words: of the directions in that setting; None: min and max.

    Raises:
        InvalidValue: nothing declares the metric; or what is given contradicts what is declared, or is needed.
    """
    words = words or {"min": "min", "max": "max"}
    if metric not in directions:
        problem = f"is declared by nothing in this run; {nearest(metric, directions)}; {DECLARE}"
        raise InvalidValue(keys[0], metric, problem)
    declared = directions[metric]
    if declared is None and given is None:
        hint = f"say {keys[1]}={words['max']} or {keys[1]}={words['min']}"
        raise InvalidValue(keys[0], metric, f"is not better for being more or less; {hint}")
    if declared is not None and given not in (None, words[declared]):
        better = {"min": "lower", "max": "higher"}[declared]
        raise InvalidValue(keys[1], given, f"contradicts {keys[0]}={metric}, which is better {better}", words[declared])
    found: Direction = declared or ("min" if given == words["min"] else "max")
    return found


def check_directions(directions: Mapping[str, object]) -> None:
    """Raises InvalidValue for a declaration that is no direction."""
    for metric, direction in directions.items():
        if direction not in ("min", "max", None):
            raise InvalidValue(f"directions.{metric}", direction, "must be 'min', 'max' or None")
