"""What is known of a linear map from the examples before each step: exact estimators, to hold a model against."""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

Inputs = Float[Tensor, "B n d"]
Answers = Float[Tensor, "B n"]


def least_squares(x: Inputs, y: Answers) -> Answers:
    """The answer to each input by the linear map that fits the examples before it best; of those that fit alike, the
    smallest (minimum norm). Before the first example, 0. In float64, on the CPU, as all here."""
    return _of_every_step(x, y, lambda inputs, answers: torch.linalg.pinv(inputs) @ answers)


def ridge(x: Inputs, y: Answers, penalty: float) -> Answers:
    """Ridge regression on the examples before each input. With the variance of the noise over that of the weights as
    the penalty, it is the posterior mean of dense normal weights.

    Args:
        penalty: lambda of ``(X'X + lambda I)^-1 X'y``; above 0.
    """

    def weights(inputs: Tensor, answers: Tensor) -> Tensor:
        regular = inputs.mT @ inputs + penalty * torch.eye(inputs.shape[-1], dtype=inputs.dtype)
        return torch.linalg.solve(regular, inputs.mT @ answers)

    return _of_every_step(x, y, weights)


def gradient_step(x: Inputs, y: Answers, penalty: float) -> Answers:
    """One step of gradient descent from 0, on half the sum of squared errors of the examples before each input.

    Its size is that of the least expected error for inputs and weights of independent standard normal numbers: after n
    examples of d numbers ``1 / (n + d + 1 + penalty)``, as the mean of ``X'X X'X`` is ``n (n + d + 1) I``.

    Args:
        penalty: variance of the noise over that of the weights.
    """
    size = x.shape[-1]

    def weights(inputs: Tensor, answers: Tensor) -> Tensor:
        return inputs.mT @ answers / (inputs.shape[1] + size + 1 + penalty)

    return _of_every_step(x, y, weights)


def pool_posterior(x: Inputs, y: Answers, tasks: Float[Tensor, "M d"], noise_variance: float) -> Answers:
    """The posterior mean where the weights are one of M known tasks, all equally likely (Raventos et al. 2023, arXiv
    2306.15063): the best that can be done on tasks of the pool.

    Args:
        tasks: their weights.
        noise_variance: of the answers; above 0.
    """
    x, y, tasks = x.double(), y.double(), tasks.double()
    logs, answers = x.new_zeros(len(x), len(tasks)), torch.empty_like(y)
    for step in range(x.shape[1]):
        of_tasks = x[:, step] @ tasks.T
        answers[:, step] = (logs.softmax(1) * of_tasks).sum(1)
        logs -= (y[:, step, None] - of_tasks).square() / (2 * noise_variance)
    return answers


def _of_every_step(x: Inputs, y: Answers, weights: Callable[[Tensor, Tensor], Tensor]) -> Answers:
    """Answers of the map that `weights` gives for the examples before each step."""
    x, y = x.double(), y.double()
    answers = torch.zeros_like(y)
    for step in range(1, x.shape[1]):
        fitted = weights(x[:, :step], y[:, :step, None])
        answers[:, step] = (x[:, step] * fitted[..., 0]).sum(-1)
    return answers
