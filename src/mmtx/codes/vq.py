"""Vector quantisation: codes are learnt vectors, and the nearest one is taken."""

from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from mmtx.codes.quantiser import Quantised, Quantiser, in_float32, straight_through
from mmtx.errors import check_at_least, check_fraction

EPSILON = 1e-5
"""Added to the count of each code, so that one without vectors is divided by something."""


class VQ(Quantiser):
    """The nearest of learnt vectors (van den Oord et al. 2017, arXiv 1711.00937).

    No gradient changes the codebook: after each step a code moves to the moving average of the vectors that chose it
    (appendix A.1 there), over all of the step. A code that is hardly chosen any more is dead: it is put beside the one
    with the largest summed error, at the distance of that one's vectors, so that the two share them (Linde, Buzo and
    Gray 1980).

    Args:
        dim: of vectors.
        num_codes: in the codebook.
        decay: of the moving averages.
        commitment: weight of the squared distance between vectors and their codes in the loss.
        dead_below: a code is dead when fewer vectors choose it in a step, on average; 0: none ever is.
    """

    roles = {"codebook": "embedding", "count": "state", "total": "state"}
    on_every_rank = ("codebook", "count", "total")
    directions: Tensor

    def __init__(self, *, dim: int, num_codes: int, decay: float, commitment: float, dead_below: float) -> None:
        super().__init__()
        check_at_least("dim", dim, 1)
        check_at_least("num_codes", num_codes, 2)
        check_fraction("decay", decay)
        check_at_least("commitment", commitment, 0)
        check_at_least("dead_below", dead_below, 0)
        self.dim, self.num_codes, self.decay = dim, num_codes, decay
        self.commitment, self.dead_below = commitment, dead_below
        self.codebook = nn.Parameter(torch.randn(num_codes, dim) * dim**-0.5, requires_grad=False)
        self.count = nn.Parameter(torch.ones(num_codes), requires_grad=False)
        self.total = nn.Parameter(self.codebook.detach().clone(), requires_grad=False)
        generator = torch.Generator().manual_seed(0)  # the same on every rank, whatever its seed
        self.register_buffer("directions", torch.randn(num_codes, dim, generator=generator), persistent=False)

    @property
    def settings(self) -> dict[str, Any]:
        keys = ("dim", "num_codes", "decay", "commitment", "dead_below")
        return {key: getattr(self, key) for key in keys}

    def forward(self, x: Float[Tensor, "... d"]) -> Quantised:
        with torch.autocast(x.device.type, enabled=False):
            x = in_float32(x)
            ids = torch.cdist(x.detach().flatten(0, -2), self.codebook.to(x.dtype)).argmin(-1).view(x.shape[:-1])
            codes = self.vectors_of(ids).to(x.dtype)
            commitment = self.commitment * (x - codes).square().mean(-1)
            return Quantised(straight_through(x, codes), ids, commitment)

    def vectors_of(self, ids: Int[Tensor, "..."]) -> Float[Tensor, "... d"]:
        return self.codebook[ids]

    @property
    def follows(self) -> dict[str, int]:
        return {"count": self.num_codes, "error": self.num_codes, "total": self.num_codes * self.dim}

    @torch.no_grad()
    def sums(self, x: Float[Tensor, "... d"], ids: Int[Tensor, "..."], real: Bool[Tensor, "..."]) -> dict[str, Tensor]:
        """Of each code: how many vectors chose it, their squared distances, the vectors."""
        rows, of, weight = in_float32(x).flatten(0, -2), ids.flatten(), real.flatten().to(torch.float32)
        error = (rows - self.codebook[of]).square().sum(-1)
        nothing = torch.zeros(self.num_codes, device=x.device)
        return {
            "count": nothing.index_add(0, of, weight),
            "error": nothing.index_add(0, of, weight * error.float()),
            "total": torch.zeros_like(self.codebook).index_add(0, of, (weight[:, None] * rows).float()).flatten(),
        }

    @torch.no_grad()
    def follow(self, sums: Mapping[str, Tensor], left_out: Float[Tensor, ""]) -> None:
        count = self.count.double().lerp(sums["count"], 1 - self.decay)
        total = self.total.double().lerp(sums["total"].view(self.num_codes, self.dim), 1 - self.decay)
        smoothed = (count + EPSILON) / (count.sum() + self.num_codes * EPSILON) * count.sum()
        codebook = total / smoothed[:, None]
        if self.dead_below:
            dead = count < self.dead_below
            count = torch.where(dead, 2 * self.dead_below, count)  # alive until the average falls by half
            codebook = torch.where(dead[:, None], self._beside_the_worst(codebook, sums, dead), codebook)
            total = torch.where(dead[:, None], codebook * count[:, None], total)
        self._set(left_out > 0, codebook=codebook, count=count, total=total)

    def _beside_the_worst(
        self, codebook: Float[Tensor, "K d"], sums: Mapping[str, Tensor], dead: Bool[Tensor, " K"]
    ) -> Float[Tensor, "K d"]:
        """A place for each dead code: the first beside the code with the largest summed error, and so on, anew from the
        first when all codes that were chosen have one beside them."""
        worst, chosen = sums["error"].argsort(descending=True), (sums["count"] > 0).sum().clamp(min=1)
        source = worst[(dead.cumsum(0) - 1).clamp(min=0) % chosen]
        spread = (sums["error"] / sums["count"].clamp(min=1) / self.dim).sqrt()[source]
        return codebook[source] + spread[:, None] * self.directions.to(codebook.dtype)

    def _set(self, stays: Bool[Tensor, ""], **values: Tensor) -> None:
        for name, value in values.items():
            parameter = self.get_parameter(name)
            parameter.copy_(torch.where(stays, parameter, value.to(parameter.dtype)))
