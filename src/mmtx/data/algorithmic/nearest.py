"""What the examples before each step say of its class, by distances: estimators to hold a model against."""

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor

Inputs = Float[Tensor, "N n d"]
Labels = Int64[Tensor, "N n"]


def nearest_neighbour(x: Inputs, y: Labels) -> Labels:
    """The label of the nearest example; before the first, 0."""
    answers = torch.zeros_like(y)
    for step in range(1, x.shape[1]):
        nearest = torch.cdist(x[:, step, None], x[:, :step])[:, 0].argmin(1)
        answers[:, step] = y.gather(1, nearest[:, None])[:, 0]
    return answers


def nearest_mean(x: Inputs, y: Labels, classes: int) -> Labels:
    """The class of whose examples the mean is the nearest, of those that have any (Snell et al. 2017, arXiv 1703.05175,
    without what they learn); before the first example, 0."""
    answers = torch.zeros_like(y)
    members = F.one_hot(y, classes).to(x.dtype)
    for step in range(1, x.shape[1]):
        own = members[:, :step]
        counts = own.sum(1)
        means = torch.einsum("Nkc,Nkd->Ncd", own, x[:, :step]) / counts.clamp(min=1)[..., None]
        distances = torch.cdist(x[:, step, None], means)[:, 0]
        answers[:, step] = distances.masked_fill(counts == 0, torch.inf).argmin(1)
    return answers
