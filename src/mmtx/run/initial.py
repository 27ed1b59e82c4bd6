"""Where a run begins: the weights of another run, or of a public model."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from mmtx.errors import InvalidValue
from mmtx.interop import from_pretrained
from mmtx.learner import Learner
from mmtx.nn.lora import merge_updates
from mmtx.nn.positions import Learned
from mmtx.run.loading import load

UPDATED = ".parametrizations.weight.original"
"""How the weight of a linear map is called that has a low-rank update."""


@dataclass(frozen=True)
class Report:
    """What became of the weights.

    Attributes:
        matched: taken as they are.
        resampled: tables of positions, made longer or shorter.
        new: of this run alone.
        left: of the other alone.
    """

    place: str
    matched: list[str] = field(default_factory=list)
    resampled: list[str] = field(default_factory=list)
    new: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        lines = [f"init_from={self.place}: {len(self.matched)} weights matched"]
        for what in ("resampled", "new", "left"):
            names = getattr(self, what)
            lines += [f"  {what}: {', '.join(names)}"] if names else []
        return "\n".join(lines)


@torch.no_grad()
def initialise_from(learner: Learner, place: str, plugins: list[str]) -> Report:
    """Takes over, in place, every weight that another learner has by the same name and shape.

    Objectives may have other names. Tables of positions are resampled; embeddings of types that are new begin at zero,
    so that the names that were there before are heard as before.

    Args:
        learner: of this run.
        place: a run or checkpoint of mmtx, or a public folder or file.
        plugins: packages besides mmtx whose classes the other config may name.

    Raises:
        UserError: it cannot be read.
        InvalidValue: nothing of its backbone fits.
    """
    other = copy.deepcopy(_other(place, plugins))
    merge_updates(other)
    made = (other.origin or {}).get("made", ())  # of no public weights
    theirs = {key: value for key, value in other.state_dict().items() if key not in made}
    ours, report = learner.state_dict(), Report(place)
    taken = set()
    for key, value in ours.items():
        name = _counterpart(key.replace(UPDATED, ".weight"), value, theirs)
        if name is not None and theirs[name].shape == value.shape:
            value.copy_(theirs[name])
            report.matched.append(key)
        elif name is not None and _is_table(key) and theirs[name].shape[1] == value.shape[1]:
            value.copy_(_resampled(theirs[name], _extent(other, key), _extent(learner, key)))
            report.resampled.append(key)
        else:
            if key.startswith("model.type_embeddings."):
                value.zero_()
            report.new.append(key)
            continue
        taken.add(name)
    report.left.extend(key for key in theirs if key not in taken)
    if not any(key.startswith("model.backbone.blocks.") for key in report.matched):
        have, want = other.model.backbone, learner.model.backbone
        problem = (
            f"has a backbone of width {have.dim} and {len(have.blocks)} layers, of which nothing fits "
            f"backbone.dim={want.dim} and backbone.num_layers={len(want.blocks)}"
        )
        raise InvalidValue("init_from", place, problem)
    return report


def _other(place: str, plugins: list[str]) -> Learner:
    path = Path(place).expanduser()
    is_run = path.suffix == ".ckpt" or (path / "checkpoints").is_dir()
    return load(path, plugins) if is_run else from_pretrained(path)


def _counterpart(key: str, value: Tensor, theirs: Mapping[str, Tensor]) -> str | None:
    """The same name there; of an objective's weights, the only one that is called so in any objective."""
    if key in theirs:
        return key
    if not key.startswith("objectives."):
        return None
    rest = key.split(".", 2)[2]
    alike = [k for k, v in theirs.items() if k.startswith("objectives.") and k.split(".", 2)[2] == rest]
    return alike[0] if len(alike) == 1 and theirs[alike[0]].shape == value.shape else None


def _is_table(key: str) -> bool:
    return key.startswith("model.position_embeddings.")


def _extent(learner: Learner, key: str) -> tuple[int, ...]:
    table = learner.model.position_embeddings[key.split(".")[2]]
    assert isinstance(table, Learned)
    return table.extent


def _resampled(table: Float[Tensor, "old D"], old: tuple[int, ...], new: tuple[int, ...]) -> Float[Tensor, "new D"]:
    """Grids bicubically; lines are cut where they become shorter, and drawn out linearly where longer."""
    if len(old) != len(new):
        raise InvalidValue("init_from", list(old), f"is a grid of positions that cannot become {list(new)}")
    if len(old) == 1 and new[0] <= old[0]:
        return table[: new[0]]
    grid = table.T.unflatten(1, old)[None]
    if len(old) == 1:
        return F.interpolate(grid, size=new[0], mode="linear", align_corners=True)[0].T
    resized = F.interpolate(grid, size=new, mode="bicubic", align_corners=False, antialias=True)
    return resized[0].flatten(1).T
