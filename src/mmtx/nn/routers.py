"""Which experts a token takes. Axes: T tokens, E experts, k that a token takes."""

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from mmtx.errors import InvalidValue, check_at_least


@dataclass(frozen=True)
class Routing:
    """What a router gives.

    Attributes:
        logits: of all experts.
        probability: of all experts; sums to 1.
        chosen: the experts of each token, the best first.
        weight: what the output of each is multiplied by.
    """

    logits: Float[Tensor, "T E"]
    probability: Float[Tensor, "T E"]
    chosen: Int[Tensor, "T k"]
    weight: Float[Tensor, "T k"]


class Router(nn.Module, ABC):
    """A linear map from tokens to experts, and the choice of the best k. Computed in float32. Made by
    ``router(dim, num_experts)``.

    Args:
        dim: width D.
        num_experts: E.
        top_k: experts that a token takes.
        normalise: divide the weights of a token by their sum.
        scale: of the weights.
        num_groups: experts are in as many groups, of which a token takes experts of the best alone: those whose two
            best experts have the largest sum (DeepSeek-AI 2024, arXiv 2412.19437, section 2.1.2).
        top_groups: how many groups.
    """

    roles = {"weight": "head"}
    """Its outputs are as many at any width, as those of a head."""

    def __init__(
        self,
        dim: int,
        num_experts: int,
        *,
        top_k: int,
        normalise: bool,
        scale: float,
        num_groups: int,
        top_groups: int,
    ) -> None:
        super().__init__()
        check_at_least("top_k", top_k, 1)
        check_at_least("top_groups", top_groups, 1)
        check_at_least("num_groups", num_groups, top_groups)
        if num_experts % num_groups:
            raise InvalidValue("num_groups", num_groups, f"does not divide num_experts={num_experts}")
        if top_k > (within := num_experts // num_groups * top_groups):
            raise InvalidValue("top_k", top_k, f"is more than the {within} experts that a token may take")
        self.top_k, self.normalise, self.scale = top_k, normalise, scale
        self.num_groups, self.top_groups = num_groups, top_groups
        self.weight = nn.Parameter(torch.empty(num_experts, dim))
        nn.init.normal_(self.weight, std=dim**-0.5)

    @abstractmethod
    def scores(self, logits: Float[Tensor, "T E"]) -> tuple[Float[Tensor, "T E"], Float[Tensor, "T E"]]:
        """Of all experts: what weights are, and what the best are chosen by."""

    def forward(self, x: Float[Tensor, "T D"]) -> Routing:
        with torch.autocast(x.device.type, enabled=False):
            dtype = torch.promote_types(x.dtype, torch.float32)
            logits = self.logits(x.to(dtype))
            scores, preferred = self.scores(logits)
            chosen = self._in_best_groups(preferred.detach()).topk(self.top_k, dim=-1).indices
            weight = scores.gather(-1, chosen)
            if self.normalise:
                weight = weight / weight.sum(-1, keepdim=True).clamp(min=torch.finfo(dtype).tiny)
            return Routing(logits, scores / scores.sum(-1, keepdim=True), chosen, self.scale * weight)

    def logits(self, x: Float[Tensor, "T D"]) -> Float[Tensor, "T E"]:
        """Of all experts, in the type of `x`."""
        return F.linear(x, self.weight.to(x.dtype))

    def _in_best_groups(self, preferred: Float[Tensor, "T E"]) -> Float[Tensor, "T E"]:
        """The same, minus infinity where an expert's group is not among the best."""
        if self.top_groups == self.num_groups:
            return preferred
        groups = preferred.unflatten(-1, (self.num_groups, -1))
        of_group = groups.topk(min(2, groups.shape[-1]), dim=-1).values.sum(-1)
        best = torch.zeros_like(of_group, dtype=torch.bool).scatter(-1, of_group.topk(self.top_groups).indices, True)
        return groups.masked_fill(~best[..., None], -torch.inf).flatten(-2)


class SoftmaxRouter(Router):
    """Weights are softmax probabilities (Shazeer et al. 2017, arXiv 1701.06538). Normalised ones are a softmax over the
    chosen, as in Mixtral and gpt-oss; as they are, in OLMoE.

    Args:
        bias: a learned bias of the logits, as in gpt-oss.
    """

    roles = {**Router.roles, "bias": "bias"}

    def __init__(
        self,
        dim: int,
        num_experts: int,
        *,
        top_k: int,
        normalise: bool,
        scale: float,
        num_groups: int,
        top_groups: int,
        bias: bool = False,  # absent in stored configs of earlier versions
    ) -> None:
        super().__init__(
            dim,
            num_experts,
            top_k=top_k,
            normalise=normalise,
            scale=scale,
            num_groups=num_groups,
            top_groups=top_groups,
        )
        self.bias = nn.Parameter(torch.zeros(num_experts)) if bias else None

    def logits(self, x: Float[Tensor, "T D"]) -> Float[Tensor, "T E"]:
        logits = super().logits(x)
        return logits if self.bias is None else logits + self.bias.to(x.dtype)

    def scores(self, logits: Float[Tensor, "T E"]) -> tuple[Float[Tensor, "T E"], Float[Tensor, "T E"]]:
        probability = logits.softmax(-1)
        return probability, probability


class SigmoidRouter(Router):
    """Weights are sigmoids, each for itself; experts are chosen by these plus a bias, which no gradient changes: after
    each step of training it rises where an expert had fewer tokens than the mean, and falls where it had more, so that
    no loss has to balance them (Wang et al. 2024, arXiv 2408.15664; DeepSeek-V3, arXiv 2412.19437, section 2.1.2).

    Args:
        bias_rate: by how much, in a step; DeepSeek-V3: 0.001.
    """

    roles = {**Router.roles, "bias": "bias"}
    on_every_rank = ("bias",)

    def __init__(
        self,
        dim: int,
        num_experts: int,
        *,
        top_k: int,
        normalise: bool,
        scale: float,
        num_groups: int,
        top_groups: int,
        bias_rate: float,
    ) -> None:
        super().__init__(
            dim,
            num_experts,
            top_k=top_k,
            normalise=normalise,
            scale=scale,
            num_groups=num_groups,
            top_groups=top_groups,
        )
        check_at_least("bias_rate", bias_rate, 0)
        self.bias_rate = bias_rate
        self.bias = nn.Parameter(torch.zeros(num_experts), requires_grad=False)

    def scores(self, logits: Float[Tensor, "T E"]) -> tuple[Float[Tensor, "T E"], Float[Tensor, "T E"]]:
        scores = logits.sigmoid()
        return scores, scores + self.bias.to(scores.dtype)

    @torch.no_grad()
    def follow(self, load: Float[Tensor, " E"], left_out: Float[Tensor, ""]) -> None:
        """Moves the bias towards equal loads; its mean stays 0.

        Args:
            load: assignments to each expert, of the whole step.
            left_out: 1 where the step does not count.
        """
        move = self.bias_rate * (load.mean() - load).sign()
        self.bias.add_(torch.where(left_out > 0, 0, move - move.mean()).to(self.bias.dtype))
