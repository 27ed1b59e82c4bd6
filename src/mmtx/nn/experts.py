"""A feed-forward half of many experts, of which each token takes a few. Axes as in `routers`."""

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from mmtx.errors import InvalidValue, check_at_least
from mmtx.nn.feed_forward import FeedForward
from mmtx.nn.layer_context import LayerContext
from mmtx.nn.layer_statistics import Output, Statistics
from mmtx.nn.linear_by_group import LinearByGroup, has_single_kernel
from mmtx.nn.mlp import MLP, activated, check_gate, hidden_width
from mmtx.nn.routers import Router, Routing, SigmoidRouter


class Experts(FeedForward):
    """Many an `MLP`, of which each token takes the few that a router chooses, and adds their outputs, weighted (Shazeer
    et al. 2017, arXiv 1701.06538). No token is dropped, however many choose one expert; padding chooses none.

    Weights are those of an `MLP` with one more axis before. One expert of one is that MLP.

    Args:
        dim: width D.
        num_experts: E.
        router: ``router(dim, num_experts)`` makes the router.
        activation: of each expert, as of an `MLP`.
        expansion: hidden width of one expert as a multiple of `dim`.
        multiple_of: the hidden widths are rounded to a multiple of this.
        gated: multiply by a gate in each expert, as in an `MLP`.
        bias: biases in both linear maps of each expert.
        shared_expansion: hidden width of an `MLP` that all tokens take besides, as a multiple of `dim`; None: no.
    """

    writes_residual = ("down.weight",)

    def __init__(
        self,
        dim: int,
        *,
        num_experts: int,
        router: Callable[[int, int], Router],
        activation: nn.Module,
        expansion: float,
        multiple_of: int,
        gated: bool,
        bias: bool,
        shared_expansion: float | None,
    ) -> None:
        super().__init__()
        check_at_least("num_experts", num_experts, 1)
        check_gate(activation, gated)
        hidden = hidden_width(dim, expansion, multiple_of)
        self.num_experts, self.gated, self.activation = num_experts, gated, activation
        self.router = _made_router(router, dim, num_experts)
        self.up = LinearByGroup(num_experts, dim, 2 * hidden if gated else hidden, bias=bias)
        self.stored_together = {"up.weight": {"gate": hidden, "value": hidden}} if gated else {}
        self.down = LinearByGroup(num_experts, hidden, dim, bias=bias)
        keys: dict[str, Any] = {"activation": activation, "multiple_of": multiple_of, "gated": gated, "bias": bias}
        self.shared = None if shared_expansion is None else MLP(dim, expansion=shared_expansion, **keys)

    def forward(self, x: Float[Tensor, "B N D"], context: LayerContext) -> Output:
        """Statistics: ``load``, the assignments to each expert; ``probability`` of each, ``entropy`` of these
        probabilities in nats, and ``squared_logsumexp`` of the router's logits, summed; ``tokens``, how many."""
        tokens, real = x.flatten(0, 1), context.valid.expand(x.shape[:2]).flatten()
        routing = self.router(tokens)
        expert = torch.where(real[:, None], routing.chosen, self.num_experts)
        counts = _counts(expert.flatten(), self.num_experts)
        if torch.compiler.is_exporting():
            added = self._of_every_expert(tokens, expert, routing.weight).view_as(x)
        else:
            added = self._of_chosen(tokens, expert, routing.weight, counts).view_as(x)
        if self.shared is not None:
            added = added + self.shared(x)
        return added, self._statistics(routing, counts, x.shape[:2], context)

    @property
    def share_used(self) -> float:
        """Of the experts, that a token takes."""
        return self.router.top_k / self.num_experts

    @property
    def follows(self) -> dict[str, int]:
        return {"load": self.num_experts} if isinstance(self.router, SigmoidRouter) else {}

    def follow(self, sums: Statistics, left_out: Float[Tensor, ""]) -> None:
        assert isinstance(self.router, SigmoidRouter)
        self.router.follow(sums["load"], left_out)

    def waits(self, device: torch.device, dtype: torch.dtype) -> bool:
        return device.type == "cuda" and not has_single_kernel(device, dtype)

    def _of_chosen(
        self,
        x: Float[Tensor, "T D"],
        expert: Int[Tensor, "T k"],
        weight: Float[Tensor, "T k"],
        counts: Int[Tensor, " E"],
    ) -> Float[Tensor, "T D"]:
        choices = SortedChoices(expert)
        hidden = activated(self.activation, self.up(choices.sort(x), counts), self.gated)
        of_choices = choices.undo(self.down(hidden, counts)).unflatten(0, expert.shape)
        return (of_choices * weight[..., None].to(of_choices.dtype)).sum(1)

    def _of_every_expert(
        self, x: Float[Tensor, "T D"], expert: Int[Tensor, "T k"], weight: Float[Tensor, "T k"]
    ) -> Float[Tensor, "T D"]:
        """The same for a program: ONNX has no stable sort, and no program has operations of mmtx. Every expert computes
        every token, with weight 0 where it was not chosen."""
        shares = weight.new_zeros(x.shape[0], self.num_experts + 1).scatter(1, expert, weight)[:, : self.num_experts]
        hidden = activated(self.activation, self.up.of_every_group(x), self.gated)
        return torch.einsum("etd,te->td", self.down.of_every_group(hidden), shares)

    def _statistics(
        self, routing: Routing, counts: Int[Tensor, " E"], shape: torch.Size, context: LayerContext
    ) -> dict[str, Tensor]:
        probability, real = routing.probability, context.valid.expand(shape)
        of_tokens = {
            "probability": probability,
            "entropy": torch.special.entr(probability.detach()).sum(-1),
            "squared_logsumexp": routing.logits.logsumexp(-1).square(),
        }
        sums = {name: context.sum_over_tokens(value.unflatten(0, shape)) for name, value in of_tokens.items()}
        return {**sums, "load": counts, "tokens": real.sum()}


class SortedChoices:
    """Choices sorted by their experts, those of padding last.

    Args:
        expert: the choices of each token; those of padding are above any expert.

    Attributes:
        top_k: choices of a token.
        by_expert: choices in their new order, counted token by token.
        places: of the choices in that order.
    """

    def __init__(self, expert: Int[Tensor, "T k"]) -> None:
        self.top_k = expert.shape[1]
        self.by_expert = expert.flatten().argsort(stable=True)
        self.places = self.by_expert.argsort()

    def sort(self, x: Float[Tensor, "T D"]) -> Float[Tensor, "choices D"]:
        """Tokens, once for each choice."""
        sorted_: Tensor = _Gathered.apply(x, self.by_expert // self.top_k, self.places, self.top_k)
        return sorted_

    def undo(self, y: Float[Tensor, "choices D"]) -> Float[Tensor, "choices D"]:
        undone: Tensor = _Gathered.apply(y, self.places, self.by_expert, 1)
        return undone


class _Gathered(torch.autograd.Function):
    """Rows in another order. What goes back is gathered too, and a token's choices are added in their own order: adding
    each to its row, as torch does, is slower, and on a GPU another sum every time."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, rows: Tensor, back: Tensor, top_k: int) -> Tensor:
        ctx.save_for_backward(back)
        ctx.top_k = top_k
        return x.index_select(0, rows)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        (back,) = ctx.saved_tensors
        return gradient.index_select(0, back).unflatten(0, (-1, ctx.top_k)).sum(1), None, None, None


def _counts(expert: Int[Tensor, " choices"], num_experts: int) -> Int[Tensor, " E"]:
    """How many choose each expert; those of padding are above any."""
    counts = torch.zeros(num_experts + 1, dtype=torch.long, device=expert.device)
    return counts.scatter_add(0, expert, torch.ones_like(expert))[:num_experts]


def _made_router(make: Callable[[int, int], Router], dim: int, num_experts: int) -> Router:
    try:
        router = make(dim, num_experts)
    except InvalidValue as error:
        raise error if error.key == "num_experts" else error.under("router") from None
    if not isinstance(router, Router):
        raise InvalidValue("router", type(router).__name__, "is no router", "a class that inherits mmtx.nn.Router")
    return router
