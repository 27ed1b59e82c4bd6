"""A checkpoint for another set than it was trained on: fewer names, or more."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from mmtx.batch import Spec
from mmtx.config.compose import compose
from mmtx.errors import UserError
from mmtx.experiment import rebuild
from mmtx.learner import Learner
from mmtx.run.checkpoint_content import read_checkpoint, specs_of, weights_of

OF_A_NAME = ("model.tokenizers.", "model.type_embeddings.", "model.position_embeddings.", "model.clock_embeddings.")
"""Where weights stand that belong to one name of the set, or to its clock. The rest is shared by all."""


def load_set(
    file: Path | str, names: Sequence[str], specs: Mapping[str, Spec], plugins: Sequence[str] = ()
) -> tuple[Learner, list[str]]:
    """The model of a checkpoint with another set, in eval mode, and the names that are new to it.

    Args:
        file: the checkpoint.
        names: the set. Those of the checkpoint keep their order and come first.
        specs: what the data declares, for what is new to the checkpoint.
        plugins: packages besides mmtx whose classes the config may name.

    Raises:
        UserError: the objectives make no sense for this set, or what all names share does not fit.
    """
    checkpoint = read_checkpoint(Path(file))
    config = checkpoint["mmtx"]["config"]
    fresh = [name for name in names if name not in config["modality"]]
    nodes = {name: node for name, node in config["modality"].items() if name in names}
    config = {**config, "modality": {**nodes, **(_new_nodes(fresh) if fresh else {})}}
    learner = rebuild(config, {**specs, **specs_of(checkpoint, plugins)}, plugins)
    take(learner, weights_of(checkpoint))
    return learner, fresh


def take(learner: Learner, weights: Mapping[str, Tensor]) -> list[str]:
    """Loads what fits. Names of the set that the weights lack stay as they are, and names that they have besides are
    left behind.

    Returns:
        Keys that stay as they are.

    Raises:
        UserError: something that all names share is missing, left over, or of another shape.
    """
    own = learner.state_dict()
    apart = [key for key in own.keys() ^ weights.keys() if not key.startswith(OF_A_NAME)]
    apart += [key for key in own.keys() & weights.keys() if own[key].shape != weights[key].shape]
    if apart:
        raise UserError(f"the checkpoint does not fit this set: {', '.join(sorted(apart)[:3])} differ")
    learner.load_state_dict({key: value for key, value in weights.items() if key in own}, strict=False)
    return sorted(own.keys() - weights.keys())


def _new_nodes(names: Sequence[str]) -> dict[str, Any]:
    """The configs of names as ``conf/modality`` has them."""
    return compose(["data=digits", f"modality=[{','.join(names)}]"])["modality"]
