"""What the axes of a weight stand for: rows for codes, a place of a grid each, one of all experts."""

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from mmtx.batch import Spec
from mmtx.data.text.vocabulary import same_ids
from mmtx.errors import InvalidValue
from mmtx.learner import Learner
from mmtx.nn.linear_by_group import LinearByGroup
from mmtx.nn.positions import Learned


def coded(learner: Learner) -> dict[str, str]:
    """The weights that have a row for each code of a name of the data, with that name."""
    tokenizers = {
        f"model.tokenizers.{name}.{key}": name
        for name in learner.model.names
        for key in learner.model.tokenizer(name).coded
    }
    objectives = {
        f"objectives.{name}.{key}": of
        for name in learner.objectives
        for key, of in learner.objective(name).coded.items()
    }
    return {**tokenizers, **objectives}


def shared_rows(own: Spec, other: Spec) -> list[tuple[int, int]] | None:
    """The codes of classes that both know, as each counts them; None where all codes mean the same, as far as there are
    names to compare."""
    if own.vocabulary is not None and other.vocabulary is not None:
        return None if same_ids(own.vocabulary, other.vocabulary) else []
    if own.vocabulary is not None or other.vocabulary is not None:
        return []
    if own.class_names == other.class_names:
        return None
    places = {label: code for code, label in enumerate(other.class_names or ())}
    return [(code, places[label]) for code, label in enumerate(own.class_names or ()) if label in places]


def of_experts(learner: Learner) -> set[str]:
    """The weights that have one for each expert in the place of a dense feed-forward's."""
    modules = (name for name, module in learner.named_modules() if isinstance(module, LinearByGroup))
    return {f"{name}.{key}" for name in modules for key in ("weight", "bias")}


def tables(learner: Learner) -> dict[str, tuple[int, ...]]:
    """Learned positions of names, those within their own encoders included, and their extents."""
    learned = {name: module for name, module in learner.named_modules() if isinstance(module, Learned)}
    of_names = {
        name: module.extent
        for name, module in learned.items()
        if name.startswith("model.position_embeddings.") or name.endswith(".positions")
    }
    return {f"{name}.table.weight": extent for name, extent in of_names.items()}


def resampled(table: Float[Tensor, "old D"], old: tuple[int, ...], new: tuple[int, ...]) -> Float[Tensor, "new D"]:
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
