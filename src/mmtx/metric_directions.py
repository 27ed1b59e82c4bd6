"""Whether lower or higher values of a metric are better: declared once, by what reports it."""

from collections.abc import Mapping
from typing import Literal

from mmtx.errors import InvalidValue, nearest

Direction = Literal["min", "max"]
"""Lower is better, or higher."""

Directions = Mapping[str, Direction | None]
"""``{metric: direction}``; None: neither is better, as with the length of an episode."""

DECLARE = "an objective of your own declares what it reports: directions = {'NAME': 'max'}, or 'min', or None"
"""The hint for a metric that nothing declares."""

PLAYED = ("return", "return_normalised", "success_rate", "episode_length")

KNOWN: dict[str, Direction | None] = {
    **dict.fromkeys(("loss", "perplexity", "bits_per_byte", "wer", "cer", "per", "too_long"), "min"),
    **dict.fromkeys(("skipped_samples", "skipped_steps", "loss_spikes", "data_wait", "memory_gib"), "min"),
    **dict.fromkeys(("mae", "rmse", "mse", "rmsd", "squared_error", "nats"), "min"),
    **dict.fromkeys(("ssim", "lddt"), "max"),
    "mse_of_copy": None,
    **dict.fromkeys(("r2", "mAP", "f1_micro", "f1_macro"), "max"),
    **dict.fromkeys(("codes_used", "code_perplexity"), "max"),
    **dict.fromkeys(("accuracy", "exact_match", "bleu", "recall@1", "recall@5"), "max"),
    **dict.fromkeys(("return", "return_normalised", "success_rate", "fill", "tokens_per_second", "mfu"), "max"),
    **dict.fromkeys(("lr", "epoch", "grad_norm", "tokens", "episodes", "episode_length"), None),
    **dict.fromkeys(f"{name}_sd" for name in PLAYED),
}
"""Of mmtx's own metrics, by the last component of their names."""


def known(*names: str) -> dict[str, Direction | None]:
    """The directions of some of mmtx's own metrics."""
    return {name: KNOWN[name] for name in names}


def direction_of(
    metric: str,
    given: str | None,
    directions: Directions,
    *,
    keys: tuple[str, str],
    words: Mapping[Direction, str] | None = None,
) -> Direction:
    """The declared direction of a metric, or the given one where neither is declared to be better.

    Args:
        metric: by its whole name.
        given: the direction in a setting, in one of the `words`; None: none.
        directions: the declared ones.
        keys: of the settings that hold the metric and the direction.
        words: of the directions in that setting; None: min and max.

    Raises:
        InvalidValue: nothing declares the metric; or the given direction contradicts the declared one, or is missing.
    """
    words = words or {"min": "min", "max": "max"}
    if metric not in directions:
        problem = f"is declared by nothing in this run; {nearest(metric, directions)}; {DECLARE}"
        raise InvalidValue(keys[0], metric, problem)
    declared = directions[metric]
    if declared is None and given is None:
        hint = f"set {keys[1]}={words['max']} or {keys[1]}={words['min']}"
        raise InvalidValue(keys[0], metric, f"is not better for being more or less; {hint}")
    if declared is not None and given not in (None, words[declared]):
        better = {"min": "lower", "max": "higher"}[declared]
        raise InvalidValue(keys[1], given, f"contradicts {keys[0]}={metric}, which is better {better}", words[declared])
    found: Direction = declared or ("min" if given == words["min"] else "max")
    return found


def check_directions(directions: Mapping[str, object]) -> None:
    """Raises InvalidValue for a declared value that is no direction."""
    for metric, direction in directions.items():
        if direction not in ("min", "max", None):
            raise InvalidValue(f"directions.{metric}", direction, "must be 'min', 'max' or None")
