"""Writes the low-rank updates of a learner as the library peft has them, over the public model that it began with."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mmtx.errors import UserError
from mmtx.interop.atomic_output import atomic_folder
from mmtx.interop.exporting import check_all_linked, family_of
from mmtx.interop.family import Config, Family
from mmtx.interop.links import Link, Weights, changed, write
from mmtx.interop.peft_config import CONFIG, PREFIX, WEIGHTS
from mmtx.interop.peft_places import Place, places
from mmtx.interop.weights import write_safetensors
from mmtx.learner import Learner
from mmtx.nn.low_rank_update import LowRank, original_of, updates_of
from mmtx.nn.stacked_linear import ALL

MERGED = "--format hf writes the whole model, updates made part of its weights"


def write_adapters(learner: Learner, folder: Path | str) -> None:
    """Writes ``adapter_config.json`` and ``adapter_model.safetensors``. What learns besides the updates is in them as a
    whole (``modules_to_save``).

    Raises:
        UserError: the model has no updates, is of no public family, or has learnt what peft has no place for.
    """
    family, config = family_of(learner)
    updated = {f"{name}.weight": module for name, module in learner.named_modules() if updates_of(module)}
    if not updated:
        raise UserError(f"this model has no low-rank updates (lora); {MERGED}")
    links = family.module_links(config)
    state = {key: value for key, value in learner.state_dict().items() if ".parametrizations." not in key}
    check_all_linked(family, links, state)
    found = places(links, {key: original_of(module).shape for key, module in updated.items()}, updated)
    if missing := {*updated} - {place.ours for place in found.values()}:
        raise UserError(f"{family.name} has no linear map for {', '.join(sorted(missing))}; {MERGED}")
    named = _Names(family, config)
    parts = {
        named.module(theirs): (update, place)
        for theirs, place in found.items()
        for update in updates_of(updated[place.ours])
        if _holds(update, place)
    }
    whole = _whole(learner, links, state, config)
    modules = {named.module(name) for name in whole}
    weights = {f"{PREFIX}{named.weight(name)}": value for name, value in whole.items()}
    for module, (update, place) in parts.items():
        weights |= _tensors(f"{PREFIX}{module}", update, place)
    described = _config(learner, parts, sorted(modules))
    with atomic_folder(Path(folder).expanduser(), conflicting=("adapter_model.bin",)) as target:
        write_safetensors(weights, target / WEIGHTS)
        (target / CONFIG).write_text(json.dumps(described, indent=2) + "\n", encoding="utf-8")


class _Names:
    """The names that modules have in `transformers`."""

    def __init__(self, family: Family, config: Config) -> None:
        self.family, self.prefix = family, family.prefix if config["architectures"] == [family.body] else ""

    def weight(self, name: str) -> str:
        return changed(name, self.family.modules).removeprefix(self.prefix)

    def module(self, name: str) -> str:
        return self.weight(name).rpartition(".")[0]


def _holds(update: LowRank, place: Place) -> bool:
    """Whether an update is of the rows that a map of theirs is."""
    return update.rows == ALL or bool(((place.rows >= update.rows.start) & (place.rows < update.rows.stop)).all())


def _tensors(module: str, update: LowRank, place: Place) -> Weights:
    """Updates of all rows are those of each map that these are divided into, with the same inputs."""
    rows = place.rows - (update.rows.start or 0)
    found = {f"{module}.lora_A.weight": update.down[:, place.columns], f"{module}.lora_B.weight": update.up[rows]}
    return found | ({} if update.magnitude is None else {f"{module}.lora_magnitude_vector": update.magnitude[rows]})


def _whole(learner: Learner, links: Sequence[Link], state: Weights, config: Config) -> Weights:
    """Weights of theirs that learn besides updates, and all others of the modules that they are of."""
    of_updates = {id(p) for each in learner.modules() if isinstance(each, LowRank) for p in each.parameters()}
    learns = {name for name, p in learner.named_parameters() if p.requires_grad and id(p) not in of_updates}
    touched = [link for link in links if learns & {*link.ours}]
    names = [name for link in touched for name in link.theirs]
    tied = [link.ours[0] for link in touched if config.get("tie_word_embeddings") and ".tokenizers." in link.ours[0]]
    bare = [link.ours[0] for link in touched if not all(name.endswith((".weight", ".bias")) for name in link.theirs)]
    if tied or bare:
        raise UserError(f"{(tied or bare)[0]} learns, and peft has no place for it; {_freeze((tied or bare)[0])}")
    modules = {name.rpartition(".")[0] for name in names}
    own = [link for link in links if modules & {name.rpartition(".")[0] for name in link.theirs}]
    if split := {key for link in own for key in link.ours} - {*state}:
        raise UserError(f"{', '.join(sorted(split))} learn besides their updates; {_freeze('*')}")
    return write(own, state, (learner.origin or {}).get("rest"))


def _freeze(pattern: str) -> str:
    return f"freeze=['{pattern}'] keeps what the run began with, and {MERGED}"


def _config(learner: Learner, parts: Mapping[str, tuple[LowRank, Place]], whole: Sequence[str]) -> dict[str, Any]:
    config = learner.config or {}
    lora, begun = config.get("lora") or {}, str(config.get("init_from") or "").removeprefix("hub://")
    base, _, revision = begun.partition("@")
    updates = {module: update for module, (update, _) in parts.items()}
    stabilised = bool(lora.get("rank_stabilised"))
    ranks = {module: update.down.shape[0] for module, update in updates.items()}
    over = {module: rank**0.5 if stabilised else rank for module, rank in ranks.items()}
    alphas = {module: round(update.scale * over[module], 9) for module, update in updates.items()}
    rank, alpha = (Counter(values.values()).most_common(1)[0][0] for values in (ranks, alphas))
    return {
        "peft_type": "LORA",
        "base_model_name_or_path": base or None,
        "revision": revision or None,
        "inference_mode": True,
        "r": rank,
        "rank_pattern": {module: own for module, own in ranks.items() if own != rank},
        "lora_alpha": alpha,
        "alpha_pattern": {module: own for module, own in alphas.items() if own != alpha},
        "use_rslora": stabilised,
        "use_dora": any(update.magnitude is not None for update in updates.values()),
        "lora_dropout": max(update.dropout for update in updates.values()),
        "fan_in_fan_out": any(place.transposed for _, place in parts.values()),
        "target_modules": list(parts),
        "modules_to_save": list(whole) or None,
        "bias": "none",
    }
