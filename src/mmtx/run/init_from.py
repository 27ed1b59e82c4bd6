"""The key ``init_from``: the weights of another run, or of a public model, taken over at the start."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from mmtx.config.overrides import written
from mmtx.config.schema import Config, stack_node
from mmtx.errors import InvalidValue
from mmtx.learner import Learner
from mmtx.nn.backbone import Backbone
from mmtx.nn.low_rank_update import measure_magnitudes
from mmtx.nn.quantised import store
from mmtx.run.offer import Offer, in_floats, offer_of, read_other
from mmtx.run.weight_shapes import coded, of_experts, resampled, shared_rows, tables

UPDATED = ".parametrizations.weight.original"
"""How the weight of a linear map is called that has a low-rank update."""

NO_MATTER = (
    *("activation_checkpointing", "augment", "clock", "compile", "context", "dim", "drop_path", "dropout", "expansion"),
    *("flex", "init_std", "layer_scale", "multiple_of", "num_layers", "num_registers", "share"),
)
"""Keys that do not change what a weight means: those of training, and those that its shape shows."""


@dataclass(frozen=True)
class Report:
    """What became of the weights.

    Attributes:
        place: whose they were.
        key: that names the place; none is empty.
        matched: taken as they are.
        by_name: rows taken by the names of classes that both know, and how many of all.
        resampled: tables of positions, made longer or shorter.
        upcycled: of a dense feed-forward, taken for each expert (Komatsuzaki et al. 2022, arXiv 2212.05055).
        grown: rows for new codes behind those that are taken as they are, each the mean of these.
        new: of this run alone.
        left: of the other alone.
        set_otherwise: keys by which the other computes with its weights, or prepares its inputs, in another way.
    """

    place: str
    key: str = "init_from"
    matched: list[str] = field(default_factory=list)
    by_name: list[str] = field(default_factory=list)
    resampled: list[str] = field(default_factory=list)
    upcycled: list[str] = field(default_factory=list)
    grown: list[str] = field(default_factory=list)
    new: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)
    set_otherwise: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        header = f"{self.key}={self.place}" if self.key else self.place
        lines = [f"{header}: {len(self.matched)} weights matched"]
        for what in ("by_name", "resampled", "upcycled", "grown", "new", "left", "set_otherwise"):
            names = getattr(self, what)
            lines += [f"  {what.replace('_', ' ')}: {', '.join(names)}"] if names else []
        return "\n".join(lines)


def initialise_from(learner: Learner, place: str, plugins: list[str], config: Config | None = None) -> Report:
    """Takes over, in place, every weight that another learner has by the same name and shape.

    Objectives may have other names. Rows that belong to classes go by the classes' names, never by their places; a
    table of another vocabulary's ids is not taken. Tables of positions are resampled; embeddings of types that are new
    begin at zero, so that the names that were there before keep their outputs.

    Args:
        learner: of this run.
        place: a run or checkpoint of mmtx, a public folder or file, or an address of either on a hub.
        plugins: packages besides mmtx whose classes the other config may name.
        config: of this run, to be compared with that of the other.

    Raises:
        UserError: it cannot be read.
        InvalidValue: nothing of its backbone fits.
    """
    other, report = read_other(place, plugins), Report(place)
    take(learner, lambda key: True, offer_of(other), report)
    if config is not None and other.config is not None:
        report.set_otherwise.extend(set_otherwise(_in_common(config, other.config), _in_common(other.config, config)))
    check_any_fits(report, learner.model.backbone, other.model.backbone, "model.backbone.", "backbone")
    return report


@torch.no_grad()
def take(learner: Learner, may_take: Callable[[str], bool], offer: Offer, report: Report) -> None:
    """Takes over, in place, what fits of an offer, and reports it.

    Args:
        learner: of this run.
        may_take: whether a weight of that name here may be overwritten.
        offer: by the same names.
        report: is filled.
    """
    theirs, taken = offer.weights, set()
    values, in_fewer_bits = in_floats(learner)
    codes, experts, grids = coded(learner), of_experts(learner), tables(learner)
    for key, value in values.items():
        if not may_take(key):
            continue
        own = key.replace(UPDATED, ".weight")
        name = _counterpart(own, value, theirs, is_coded=own in codes)
        rows = None
        if name is not None and own in codes and name in offer.coded:
            rows = shared_rows(learner.specs[codes[own]], offer.coded[name])
        if name is not None and rows and theirs[name].shape[1:] == value.shape[1:]:
            mine, others = zip(*rows, strict=True)
            value[list(mine)] = theirs[name][list(others)]
            report.by_name.append(f"{key} ({len(rows)} of {len(value)})")
        elif name is not None and rows is None and theirs[name].shape == value.shape:
            value.copy_(theirs[name])
            report.matched.append(key)
        elif name is not None and own in experts and theirs[name].shape == value.shape[1:]:
            value.copy_(theirs[name].expand_as(value))
            report.upcycled.append(key)
        elif name is not None and name in offer.tables and key in grids and theirs[name].shape[1] == value.shape[1]:
            value.copy_(resampled(theirs[name], offer.tables[name], grids[key]))
            report.resampled.append(key)
        else:
            if key.startswith("model.type_embeddings.") or key.endswith(".type_embedding"):
                value.zero_()
            report.new.append(key)
            continue
        taken.add(name)
    for key, linear in in_fewer_bits.items():
        if may_take(key):
            store(linear, values[key])
    measure_magnitudes(learner)
    report.left.extend(key for key in theirs if key not in taken)


def check_any_fits(report: Report, want: Backbone, have: Backbone, prefix: str, key: str) -> None:
    """Raises InvalidValue where nothing of the blocks of a stack was taken.

    Args:
        report: what was taken.
        want: the stack here.
        have: that of the other.
        prefix: of the names of its weights here.
        key: of the stack here.
    """
    if any(name.startswith(f"{prefix}blocks.") for name in report.matched):
        return
    problem = (
        f"has a backbone of width {have.dim} and {len(have.blocks)} layers, of which nothing fits "
        f"{key}.dim={want.dim} and {key}.num_layers={len(want.blocks)}"
    )
    raise InvalidValue(report.key, report.place, problem)


def _in_common(config: Mapping[str, Any], other: Mapping[str, Any]) -> Config:
    """The part of a config that decides how weights are used and that another may have too."""
    kept: Config = {
        "modality": {name: node for name, node in config["modality"].items() if name in other["modality"]},
        "backbone": stack_node(config, "backbone"),
        "data": {key: config["data"][key] for key in ("fit", "trim_db", "return_scale") if key in config["data"]},
    }
    return kept | ({"encoder": stack_node(config, "encoder")} if config["encode"] and other["encode"] else {})


def set_otherwise(own: Any, other: Any, path: str = "") -> Iterator[str]:
    """``key=value (there value)`` where both have a key, and unequal values that matter."""
    if isinstance(own, Mapping) and isinstance(other, Mapping) and own.get("_target_") == other.get("_target_"):
        for key in own:
            if key in other and key not in NO_MATTER:
                yield from set_otherwise(own[key], other[key], f"{path}.{key}" if path else key)
    elif not _equal(own, other):
        yield f"{path}={_shown(own)} (there {_shown(other)})"


def _equal(one: Any, other: Any) -> bool:
    """One number for all channels is as many equal ones."""
    if isinstance(one, list) != isinstance(other, list):
        several, single = (one, other) if isinstance(one, list) else (other, one)
        return all(value == single for value in several)
    return one == other


def _shown(node: Any) -> str:
    target = node.get("_target_") if isinstance(node, Mapping) else None
    return target.rpartition(".")[2] if isinstance(target, str) else written(node)


def _counterpart(key: str, value: Tensor, theirs: Mapping[str, Tensor], *, is_coded: bool) -> str | None:
    """The same name there; of an objective's weights, the only one that is called so in any objective. Where rows go by
    their names, there may be more or fewer."""
    if key in theirs:
        return key
    if not key.startswith("objectives."):
        return None
    rest = key.split(".", 2)[2]
    alike = [k for k, v in theirs.items() if k.startswith("objectives.") and k.split(".", 2)[2] == rest]
    first = 1 if is_coded else 0
    return alike[0] if len(alike) == 1 and theirs[alike[0]].shape[first:] == value.shape[first:] else None
