"""Which way each metric is better that a run may log."""

from mmtx.acting.policy_eval import acting_directions
from mmtx.data.base import Source
from mmtx.errors import InvalidValue
from mmtx.evaluate import stage_directions, under
from mmtx.learner import Learner
from mmtx.metric_directions import KNOWN, Direction, check_directions, known

OF_STEPS = ("lr", "epoch", "grad_norm", "fill", "tokens_per_second", "skipped_steps", "loss_spikes")
OF_DEVICES = ("mfu", "memory_gib", "data_wait")
OF_COSTS = {"costs": "memory_gib", "costs/written": "tokens_per_second"}
OF_NAMES = ("grad_norm", "tokens", "tokens_per_second")


def metric_directions(learner: Learner, source: Source) -> dict[str, Direction | None]:
    """Of a learner that is trained on this data, ``{whole name: direction}``.

    Raises:
        InvalidValue: an objective declares what is no direction.
    """
    for name in learner.objectives:
        try:
            check_directions(learner.objective(name).directions)
        except InvalidValue as error:
            raise error.under(f"objective.{name}") from None
    found = _of_training(learner) | stage_directions(learner, "train", list(learner.objectives))
    for stage in ("train", "val", "test"):
        for part, own in source.parts.items():
            found |= stage_directions(learner, under(stage, part), learner.applying(own.specs))
            found |= {f"{under(stage, part)}/{name}": d for name, d in acting_directions(learner, own, stage).items()}
        found |= {f"{stage}/{name}": direction for name, direction in known("loss", "skipped_samples").items()}
    return found


def _of_training(learner: Learner) -> dict[str, Direction | None]:
    of_steps = {f"train/{key}": direction for key, direction in known(*OF_STEPS, *OF_DEVICES).items()}
    of_steps |= {f"{under}/{name}": KNOWN[name] for under, name in OF_COSTS.items()}
    of_names = known(*OF_NAMES).items()
    return of_steps | {f"train/{key}/{name}": way for key, way in of_names for name in learner.model.names}
