"""From a learner of mmtx to the files of its public family."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmtx.errors import UserError
from mmtx.interop.families import FAMILIES
from mmtx.interop.family import Config, Family, Files
from mmtx.interop.importing import lay_out
from mmtx.interop.links import write
from mmtx.interop.weights import write_safetensors
from mmtx.learner import Learner

COMPARED = ("backbone", "encoder", "encode", "modality", "objective")
FREE = {
    *("dropout", "drop_path", "init_std", "compile", "flex", "activation_checkpointing", "window", "multiple_of"),
    *("weight", "label_smoothing", "mixup", "metrics", "beam_size", "length_penalty", "share", "augment", "context"),
    *("val_episodes", "test_episodes", "target_returns", "temperature", "share", "prompt", "suppress", "references"),
}
"""Keys that change nothing in what the weights say."""


def write_public(learner: Learner, folder: Path | str) -> None:
    """Writes ``config.json``, ``model.safetensors`` and, where there is one, ``tokenizer.json``.

    Raises:
        UserError: the model is of no public family, with what stands in the way.
    """
    family, config = family_of(learner)
    rest = (learner.origin or {}).get("rest")
    weights = write(family.links(config), learner.state_dict(), rest)
    if config["architectures"] == [family.body]:
        weights = {key.removeprefix(family.prefix): value for key, value in weights.items()}
    place = Path(folder).expanduser()
    place.mkdir(parents=True, exist_ok=True)
    write_safetensors(weights, place / "model.safetensors")
    said = {"model_type": family.name, "dtype": "float32", **config}
    (place / "config.json").write_text(json.dumps(said, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    for spec in learner.specs.values():
        tokenizer = (spec.vocabulary.state() if spec.vocabulary is not None else {}).get("tokenizer")
        if isinstance(tokenizer, str):
            (place / "tokenizer.json").write_text(tokenizer, encoding="utf-8")


def family_of(learner: Learner) -> tuple[Family, Config]:
    """The family that a learner is of, and its config there.

    Raises:
        UserError: it is of none, with what stands in the way.
    """
    if learner.origin is not None:
        return FAMILIES[learner.origin["family"]], dict(learner.origin["config"])
    if learner.config is None:
        raise UserError("this learner was not loaded, so its config is not known")
    reasons = []
    for family in FAMILIES.values():
        try:
            return family, _config_of(family, learner)
        except KeyError as error:
            reasons.append(f"{family.name}: there is no {str(error.args[0])}")
        except (UserError, AssertionError, IndexError, AttributeError, TypeError) as error:
            reasons.append(f"{family.name}: {error}")
    raise UserError("\n".join(["this model is of no public family:", *(f"  - {reason}" for reason in reasons)]))


def _config_of(family: Family, learner: Learner) -> Config:
    """The config that would be imported as the learner's own."""
    assert learner.config is not None
    config = {**family.defaults, **family.config(learner.config, learner.specs)}
    again = lay_out(family, family.describe(config, Files(None, "", {})))
    found = [line for key in COMPARED for line in _unlike(learner.config[key], again[key], key)]
    if found:
        raise UserError("; ".join(found))
    return config


def _unlike(ours: Any, again: Any, path: str) -> list[str]:
    """Where two trees differ in what matters."""
    if path.rpartition(".")[2] in FREE:
        return []
    if isinstance(ours, Mapping) and isinstance(again, Mapping):
        return [line for key in {**ours, **again} for line in _unlike(ours.get(key), again.get(key), f"{path}.{key}")]
    is_near = isinstance(ours, float | int) and isinstance(again, float | int) and abs(ours - again) < 1e-9
    return [] if ours == again or is_near else [f"{path}={ours}, there {again}"]
