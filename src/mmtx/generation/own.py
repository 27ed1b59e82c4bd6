"""What an objective generates in its own way."""

from typing import Any

from mmtx.batch import Batch
from mmtx.data.collate import collate
from mmtx.generation.rest_of_set import inputs_of, rest_of_set
from mmtx.generation.trained import Trained
from mmtx.objectives.capabilities import Generates


def generate_own(
    trained: Trained, objective: Generates, *, image: str | None = None, index: int | None = None, **options: Any
) -> str:
    """What an objective generates, given whatever else is in the set.

    Args:
        trained: the model.
        objective: that generates.
        image: a picture file to generate from
        index: or a sample, counted from 0, of the run's test (or validation) data
        options: of the objective.

    Raises:
        UserError: an option cannot be, or one that is needed is not given.
    """
    batch = rest_as_batch(trained, objective.writes, image, index)
    return objective.generate(trained.learner.model, batch, trained.generator(), **options)


def rest_as_batch(trained: Trained, written: str | None, image: str | None, index: int | None) -> Batch:
    """A batch of one sample without what is written, on the model's device."""
    learner = trained.learner
    rest = rest_of_set(trained, inputs_of(learner, written), image, index)
    return trained.sent(collate([rest], {name: learner.specs[name] for name in rest}))
