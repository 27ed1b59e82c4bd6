"""Reads low-rank updates that the library peft has written, over the public model that they were learnt on."""

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from mmtx.data.files.supported_keys import defaults, refusals, refuse
from mmtx.errors import UserError
from mmtx.experiment import rebuild
from mmtx.interop.exporting import family_of
from mmtx.interop.family import Config, Family
from mmtx.interop.links import Link, Weights, changed, read, write
from mmtx.interop.peft_config import CONFIG, KEYS, PREFIX, WEIGHTS, of_module
from mmtx.interop.peft_places import Place, places
from mmtx.interop.weights import read_weights
from mmtx.learner import Learner
from mmtx.nn.low_rank import Target, targets_of
from mmtx.nn.low_rank_update import original_of, updates_of

TENSOR = re.compile(r"(.+)\.(lora_A|lora_B|lora_magnitude_vector)(?:\.weight)?")


@dataclass(frozen=True)
class Update:
    """What a file has of one linear map of theirs."""

    module: str
    place: Place
    down: Float[Tensor, "rank in"]
    up: Float[Tensor, "out rank"]
    magnitude: Float[Tensor, " out"] | None


def with_adapters(base: Learner, folder: Path | str) -> Learner:
    """A public model with the updates of a folder, beside its weights, which they leave as they are.

    Args:
        base: as `mmtx.from_pretrained` gives it.
        folder: with ``adapter_config.json`` and ``adapter_model.safetensors``, or ``adapter_model.bin``.

    Raises:
        UserError: they cannot be read, have what mmtx cannot follow, or are of another model.
    """
    place = Path(folder).expanduser()
    described, weights = _described(place), _weights(place)
    family, config = family_of(base)
    links = family.module_links(config)
    state, rest = base.state_dict(), (base.origin or {}).get("rest")
    updates, whole = _sorted(family, links, {key: value.shape for key, value in state.items()}, weights, str(place))
    if whole:
        theirs = write(links, state, rest)
        _check_whole(whole, theirs, str(place))
        state |= read(links, theirs | whole)
    lora, targets = _lora(base, described, updates)
    learner = rebuild({**(base.config or {}), "freeze": _frozen(base, links, whole), "lora": lora}, base.specs)
    learner.origin = base.origin
    learner.load_state_dict({**learner.state_dict(), **_renamed(state, learner)})
    for target, update in zip(targets, updates, strict=True):
        _copy(learner, target, update)
    return learner


def _frozen(base: Learner, links: Sequence[Link], whole: Weights) -> list[str]:
    """The parameters that stay: all but those that the file has as a whole, which learn besides the updates."""
    learnt = {key for link in links if {*link.theirs} & {*whole} for key in link.ours}
    return [name for name, _ in base.named_parameters() if name not in learnt] if learnt else ["*"]


def _described(folder: Path) -> Config:
    try:
        config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{folder / CONFIG} cannot be read: {error}") from None
    if not isinstance(config, dict):
        raise UserError(f"{folder / CONFIG} is not an object of JSON")
    refuse([*refusals(config, KEYS, CONFIG)], str(folder))
    return {**defaults(KEYS), **{key: value for key, value in config.items() if value is not None}}


def _weights(folder: Path) -> Weights:
    file = next((f for f in (folder / WEIGHTS, folder / "adapter_model.bin") if f.is_file()), None)
    if file is None:
        raise UserError(f"{folder} holds no {WEIGHTS}")
    return {key.removeprefix(PREFIX): value for key, value in read_weights(file)[0].items()}


def _sorted(
    family: Family, links: Sequence[Link], shapes: dict[str, torch.Size], weights: Weights, where: str
) -> tuple[list[Update], Weights]:
    """Updates, each with its place; and weights that are there as a whole, by the names of files."""
    parts: dict[str, Weights] = {}
    whole: Weights = {}
    for key, value in weights.items():
        found = TENSOR.fullmatch(key)
        if found is None and ".lora_" in key:
            raise UserError(f"{where}: {key} is of another kind of update than one of a linear map")
        if found is not None:
            parts.setdefault(found[1], {})[found[2]] = value
        else:
            whole[changed(key, family.renames)] = value
    canonical = {module: changed(f"{module}.weight", family.renames) for module in parts}
    known = places(links, shapes, {*canonical.values()})
    if strange := [module for module, name in canonical.items() if name not in known]:
        raise UserError(f"{where}: this {family.name} has no linear map {', '.join(strange)}")
    return [_update(module, known[canonical[module]], own, where) for module, own in parts.items()], whole


def _update(module: str, place: Place, own: Weights, where: str) -> Update:
    if not {"lora_A", "lora_B"} <= {*own}:
        raise UserError(f"{where}: {module} has {', '.join(own)} alone; an update has lora_A and lora_B")
    update = Update(module, place, own["lora_A"], own["lora_B"], own.get("lora_magnitude_vector"))
    shapes = (update.up.shape[0], update.down.shape[1])
    if shapes != (len(place.rows), len(place.columns)):
        raise UserError(f"{where}: {module} is a map of {shapes}, here {(len(place.rows), len(place.columns))}")
    return update


def _check_whole(whole: Mapping[str, Tensor], theirs: Mapping[str, Tensor], where: str) -> None:
    for name, value in whole.items():
        if name not in theirs:
            raise UserError(f"{where}: modules_to_save has {name}, which this model does not have")
        if value.shape != theirs[name].shape:
            shapes = f"{list(value.shape)} there and {list(theirs[name].shape)} here"
            raise UserError(f"{where}: modules_to_save has {name}, which is {shapes}; num_labels=N is of a head's rows")


def _lora(base: Learner, config: Config, updates: Sequence[Update]) -> tuple[Config, list[Target]]:
    """The choice of ``lora`` that makes these updates, and the target of each."""
    targets = _targets(base, updates)
    names = [target.name for target in targets]
    ranks = {name: len(update.down) for name, update in zip(names, updates, strict=True)}
    for update, rank in zip(updates, ranks.values(), strict=True):
        declared = of_module(config, "rank", update.module)
        if declared != rank:
            raise UserError(f"{update.module} has rank {rank}, and by {CONFIG} {declared}")
    alphas = {name: float(of_module(config, "alpha", u.module)) for name, u in zip(names, updates, strict=True)}
    rank, alpha = Counter(ranks.values()).most_common(1)[0][0], Counter(alphas.values()).most_common(1)[0][0]
    return {
        "_target_": "mmtx.nn.LoRA",
        "rank": rank,
        "alpha": alpha,
        "targets": names,
        "roles": None,
        "rank_stabilised": bool(config["use_rslora"]),
        "magnitudes": bool(config["use_dora"]),
        "dropout": float(config["lora_dropout"]),
        "ranks": {name: own for name, own in ranks.items() if own != rank},
        "alphas": {name: own for name, own in alphas.items() if own != alpha},
    }, targets


def _targets(base: Learner, updates: Sequence[Update]) -> list[Target]:
    """The linear map of ours, or the matrix in it, that each updates."""
    by_rows: dict[tuple[str, int, int], Target] = {}
    for target in targets_of(base):
        start, stop, _ = target.rows.indices(len(original_of(target.linear)))
        by_rows.setdefault((target.weight, start, stop), target)
    found = []
    for update in updates:
        rows = update.place.rows
        first, last = int(rows.min()), int(rows.max()) + 1
        key = (update.place.ours, first, last)
        if len(rows) != last - first or key not in by_rows:
            raise UserError(f"{update.module} is in {update.place.ours}, but no matrix of it that can have updates")
        found.append(by_rows[key])
    return found


def _renamed(state: Weights, learner: Learner) -> Weights:
    """The state of a model without updates, by the names in one that has them."""
    updated = {f"{name}.weight" for name, module in learner.named_modules() if updates_of(module)}
    return {
        key.removesuffix("weight") + "parametrizations.weight.original" if key in updated else key: value
        for key, value in state.items()
    }


@torch.no_grad()
def _copy(learner: Learner, target: Target, theirs: Update) -> None:
    """Fills in an update."""
    linear = learner.get_submodule(target.weight.removesuffix(".weight"))
    (ours,) = [update for update in updates_of(linear) if update.rows == target.rows]
    rows = theirs.place.rows - (target.rows.start or 0)
    ours.down[:, theirs.place.columns] = theirs.down
    ours.up[rows] = theirs.up
    if ours.magnitude is not None:
        if theirs.magnitude is None:
            raise UserError(f"{theirs.module} has no lora_magnitude_vector, and by {CONFIG} use_dora=true")
        ours.magnitude[rows] = theirs.magnitude
