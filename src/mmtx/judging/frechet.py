"""How far two sets of features are apart."""

import torch
from jaxtyping import Float
from torch import Tensor


def frechet_distance(one: Float[Tensor, "n d"], other: Float[Tensor, "m d"]) -> float:
    """The squared Fréchet distance between the normal distributions that have the means and covariances of two sets
    (Dowson and Landau 1982; of features of pictures, Heusel et al. 2017, arXiv 1706.08500): ``|m - n|^2 + tr(S + T - 2
    (S T)^(1/2))``. In float64; fewer samples than features are enough, and the fewer there are, the larger it is.
    """
    one, other = one.double(), other.double()
    means, (s, t) = one.mean(0) - other.mean(0), (each.T.cov() for each in (one, other))
    root = _root(s)
    shared = torch.linalg.eigvalsh(root @ t @ root).clamp(min=0).sqrt().sum()  # the trace of (S T)^(1/2)
    return float(means.square().sum() + s.trace() + t.trace() - 2 * shared)


def _root(covariance: Float[Tensor, "d d"]) -> Float[Tensor, "d d"]:
    """The symmetric square root."""
    values, vectors = torch.linalg.eigh(covariance)
    return (vectors * values.clamp(min=0).sqrt()) @ vectors.T
