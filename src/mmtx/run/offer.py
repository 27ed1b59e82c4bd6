"""The weights of another learner, which one may begin with."""

import copy
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from torch import Tensor, nn

from mmtx.batch import Spec
from mmtx.interop import from_pretrained
from mmtx.learner import Learner
from mmtx.nn.low_rank_update import merge_updates, original_of
from mmtx.nn.quantised import quantised, stored_parts
from mmtx.run.checkpoint_content import load
from mmtx.run.directory import is_run
from mmtx.run.weight_shapes import coded, tables


class Offer(NamedTuple):
    """The weights of another learner, by the names that they have in this one.

    Attributes:
        weights: their values.
        coded: of those with a row for each code of a name of the data, its spec.
        tables: of those that are learned positions, the extent.
    """

    weights: Mapping[str, Tensor]
    coded: Mapping[str, Spec]
    tables: Mapping[str, tuple[int, ...]]


def read_other(place: str, plugins: list[str]) -> Learner:
    """The learner of a run, or of a public model, with low-rank updates added to its weights."""
    other = copy.deepcopy(load(place, plugins) if is_run(place) else from_pretrained(place))
    merge_updates(other)
    return other


def offer_of(other: Learner, renamed: Callable[[str], str | None] = lambda key: key) -> Offer:
    """What another learner offers.

    Args:
        other: as `read_other` gives it.
        renamed: from its names of weights to ours; None: it is not offered.
    """
    made = (other.origin or {}).get("made", ())  # of no public weights
    found = {key: renamed(key) for key in other.state_dict() if key not in made}

    def by_our_names(values: Mapping[str, Any]) -> dict[str, Any]:
        return {ours: values[key] for key, ours in found.items() if ours is not None and key in values}

    specs = {key: other.specs[name] for key, name in coded(other).items()}
    return Offer(by_our_names(other.state_dict()), by_our_names(specs), by_our_names(tables(other)))


def in_floats(learner: Learner) -> tuple[dict[str, Tensor], dict[str, nn.Module]]:
    """The state of a learner, with its weights in fewer bits as they were before; and the maps that those are of."""
    state, found = dict(learner.state_dict()), dict[str, nn.Module]()
    for name, module in learner.named_modules():
        if quantised(module) is not None:
            for part in stored_parts(module):
                del state[f"{name}.parametrizations.weight.{part}"]
            state[f"{name}.weight"], found[f"{name}.weight"] = original_of(module), module
    return state, found
