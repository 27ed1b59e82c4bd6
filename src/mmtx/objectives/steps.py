"""The hidden states of a step, of which a name may have several tokens."""

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor


def first_steps(tokens: Float[Tensor, "B n D"], per_step: int, num_steps: int | None) -> Float[Tensor, "B steps D"]:
    """The mean of the tokens of each of the first steps; of all steps where `num_steps` is None."""
    steps = tokens.unflatten(1, (-1, per_step)).mean(2)
    return steps if num_steps is None else F.pad(steps, (0, 0, 0, num_steps - steps.shape[1]))  # a negative one cuts
