"""Rotary positions in config.json: ``rope_theta`` and ``rope_scaling``, or both in ``rope_parameters``."""

from collections.abc import Mapping
from typing import Any

from mmtx.data.files.supported_keys import Keys, only, used
from mmtx.errors import UserError
from mmtx.interop.family import Config
from mmtx.nn.rotary_scaling import yarn_magnitude

PATH = "backbone.positions.rotary"
TRAINED = "original_max_position_embeddings"
KINDS: Mapping[str, tuple[str, Mapping[str, str]]] = {
    "linear": ("LinearScaling", {"factor": "factor"}),
    "dynamic": ("DynamicNTK", {"factor": "factor"}),
    "yarn": (
        "YaRN",
        {
            **{key: key for key in ("factor", "beta_fast", "beta_slow", "truncate", "attention_factor")},
            "trained_length": TRAINED,
        },
    ),
    "llama3": (
        "Llama3",
        {**{key: key for key in ("factor", "low_freq_factor", "high_freq_factor")}, "trained_length": TRAINED},
    ),
}
"""By their name there: our class, and its arguments with their keys."""
WEIGHTS = {"mscale", "mscale_all_dim"}
"""Keys of YaRN from which DeepSeek's `attention_factor` follows."""
YARN = {"beta_fast": 32.0, "beta_slow": 1.0, "truncate": True, "attention_factor": None}
"""What null means there."""


def rope_keys(theta: float) -> Keys:
    """Keys of config.json of a family whose base is `theta` unless a file has it."""
    return {
        "rope_theta": used("base of the rotary positions", theta),
        "rope_scaling": used(
            "scaling of the rotary positions: null, " + ", ".join(f"`{name}`" for name in KINDS), None
        ),
        "rope_parameters": used(
            "both of these, as version 5 of `transformers` writes them; `rope_scaling` goes before"
        ),
        "partial_rotary_factor": only(1, note="heads of which a part turns"),
    }


def with_one_spelling(config: Config) -> Config:
    """The config with ``rope_theta`` and ``rope_scaling``, which every version reads.

    Raises:
        UserError: mmtx cannot follow it.
    """
    config = dict(config)
    newer = config.pop("rope_parameters", None)
    given = dict(config["rope_scaling"] or newer or {})
    kind = given.pop("rope_type", None) or given.get("type") or "default"
    given.pop("type", None)
    config["rope_theta"] = given.pop("rope_theta", None) or config["rope_theta"]
    if given.pop("partial_rotary_factor", None) not in (None, 1):
        raise UserError("partial_rotary_factor: heads of this family turn as a whole")
    _check_keys(kind, given)
    return {**config, "rope_scaling": None if kind == "default" else {"rope_type": kind, **given}}


def _check_keys(kind: str, given: Config) -> None:
    if kind != "default" and kind not in KINDS:
        raise UserError(f"rope_type={kind}: mmtx turns heads by default, {', '.join(KINDS)}")
    known = {*KINDS[kind][1].values()} if kind in KINDS else set()
    unknown = sorted(given.keys() - known - (WEIGHTS if kind == "yarn" else set()))
    if unknown:
        raise UserError(f"rope_type={kind}: unknown key {unknown[0]}={given[unknown[0]]}")


def read_rope(config: Config) -> dict[str, Any]:
    """Our rotary positions, as `{path: value}`, of a config in one spelling.

    Raises:
        UserError: the scaling lacks a key.
    """
    values: dict[str, Any] = {f"{PATH}.base": float(config["rope_theta"]), f"{PATH}.scaling": None}
    theirs = config["rope_scaling"]
    if theirs is None or theirs["rope_type"] == "default":
        return values
    name, arguments = KINDS[theirs["rope_type"]]
    longest = config["max_position_embeddings"]
    usual = {TRAINED: longest} | (YARN if name == "YaRN" else {})
    given = usual | {key: value for key, value in theirs.items() if value is not None}
    if name == "YaRN" and given["attention_factor"] is None:
        given["attention_factor"] = _magnitude(given)
    missing = [key for key in arguments.values() if key not in given]
    if missing:
        raise UserError(f"rope_type={theirs['rope_type']}: {missing[0]} is missing")
    node = {ours: given[key] for ours, key in arguments.items()}
    if name == "DynamicNTK":
        node["trained_length"] = longest
    return values | {f"{PATH}.scaling": {"_target_": f"mmtx.nn.{name}", **node}}


def _magnitude(yarn: Config) -> float | None:
    """The `attention_factor` that follows from two weights; None: the paper's."""
    above, below = yarn.get("mscale"), yarn.get("mscale_all_dim")
    if not (above and below):
        return None
    return yarn_magnitude(yarn["factor"], above) / yarn_magnitude(yarn["factor"], below)


def write_rope(rotary: Mapping[str, Any], longest: int) -> Config:
    """The inverse of `read_rope`: base, scaling and longest text, of our rotary positions.

    Raises:
        UserError: their kind of scaling has no name in public families.
    """
    base = {"rope_theta": rotary["base"], "rope_scaling": None, "max_position_embeddings": longest}
    ours = rotary.get("scaling")
    if ours is None:
        return base
    kind = ours["_target_"].rpartition(".")[2]
    name = next((name for name, (target, _) in KINDS.items() if target == kind), None)
    if name is None:
        raise UserError(f"{PATH}.scaling={kind} has no name in public families")
    theirs = {key: ours[own] for own, key in KINDS[name][1].items() if ours[own] is not None}
    longest = ours["trained_length"] if name == "dynamic" else longest
    return base | {"rope_scaling": {"rope_type": name, **theirs}, "max_position_embeddings": longest}
