"""The loss of a step as a mean over all its predictions, whatever the ranks, micro-batches and ragged lengths."""

from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from mmtx.batch import Batch
from mmtx.learner import Learner
from mmtx.objectives.base import Score


def count_predictions(
    learner: Learner, prepared: Sequence[Mapping[str, Batch]], device: torch.device
) -> Float[Tensor, " objectives"]:
    """How many predictions the micro-batches of this rank hold for each objective, or the sum of their weights, before
    any is made.

    Args:
        prepared: of each micro-batch, what `Learner.prepare` gives.
        device: of the counts.
    """
    counts = torch.zeros(len(learner.objectives), device=device)
    for index, name in enumerate(learner.objectives):
        for batch in (batches[name] for batches in prepared if name in batches):
            counts[index] += learner.objective(name).count(batch)
    return counts


def normalised_loss(
    learner: Learner, scores: Mapping[str, Score], counts: Float[Tensor, " objectives"], num_ranks: int
) -> Float[Tensor, ""]:
    """What a micro-batch adds to the mean loss of the step, from the counts of the whole step. Gradients are averaged
    over ranks afterwards, hence the factor."""
    count_of = dict(zip(learner.objectives, counts, strict=True))
    losses = [
        learner.objective(name).weight
        * score.loss_sum
        * (num_ranks / torch.where(count_of[name] > 0, count_of[name], 1))
        for name, score in scores.items()
    ]
    return torch.stack(losses).sum()


def zero_of_all_parameters(learner: Learner) -> Float[Tensor, ""]:
    """Zero, with a gradient for every parameter that learns. Ranks wait for each other's gradients, also where one of
    them had no samples of a part; and a parameter without a gradient would miss the weight decay of the step."""
    learned = [parameter for parameter in learner.parameters() if parameter.requires_grad]
    return 0.0 * torch.stack([parameter.flatten()[0] for parameter in learned]).sum()
