"""Cross-entropy of linear scores, without the scores of all tokens at once."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor
from torch.autograd.function import once_differentiable

from mmtx.attention.soft_capped import soft_capped
from mmtx.nn.compilation import compiled

IGNORED = -100
"""The target of a token that predicts nothing, as in `F.cross_entropy`."""

WHOLE = 2**22
"""Up to so many scores are computed at once, as they take little memory."""

ON_CPU = 256
"""Tokens of a chunk on a CPU, whose scores stay in its cache."""

FEW = 1 / 4
"""Share of the tokens under which those that predict are gathered on a CPU; about as many cost more than they save."""

SHARE = 1 / 32
"""Of a GPU's memory that the scores of a chunk may take, the larger the faster: each chunk adds to the gradient of the
weight, which takes the same time for any number of tokens."""

EAGER = 8
"""Times the memory of its scores that a chunk takes where nothing is compiled: copies in float32, and gradients."""


class Predictions(NamedTuple):
    """Attributes:
    loss: summed over tokens.
    right: whether the target has the best score; None where it was not to be found out.
    """

    loss: Float[Tensor, ""]
    right: Bool[Tensor, "*n"] | None


def linear_cross_entropy(
    hidden: Float[Tensor, "*n D"],
    weight: Float[Tensor, "V D"],
    bias: Float[Tensor, " V"] | None,
    target: Int[Tensor, "*n"],
    *,
    weights: Float[Tensor, "*n"] | None = None,
    label_smoothing: float = 0.0,
    softcap: float | None = None,
    find_right: bool = False,
    compile: bool = False,
) -> Predictions:
    """The cross-entropy of the scores ``hidden @ weight.T + bias``, as `F.cross_entropy` sums it.

    The scores of all tokens, their logarithms and gradients would take more memory than all else of a step. So they are
    computed chunk by chunk of tokens, and where something learns, their gradients with them, in the forward pass: what
    the loss is multiplied by is a factor of all (Hsu et al. 2024, arXiv 2410.10989). Tokens that are `IGNORED` are left
    out on a CPU where few others remain: of 4,096 tokens of width 64 and 1,024 ids, of which every 16th predicts, loss
    and gradients take 9 ms of a core in place of 94. On a GPU they are computed, as to leave them out would be to wait.

    With their gradients, 2,048 tokens of width 256 and 8,192 ids take 0.74 of the time and 56 MiB in place of 204, on
    one CPU core in float32; 1,024 tokens of width 768 and 50,304 ids 319 MiB in place of 605, of which 294 are the
    weight's gradient, twice while it is multiplied.

    Args:
        target: the id of each token, or `IGNORED`.
        weights: that the loss of each token is multiplied by, without gradients; None: 1.
        label_smoothing: share of the target spread over all ids.
        softcap: scores s become ``softcap · tanh(s / softcap)``.
        find_right: whether `Predictions.right` is wanted.
        compile: compile what is computed of the scores where something learns, so that the scores of a chunk are read
            twice and their gradients written once, which eagerly takes a dozen passes over them.
    """
    predicts = _few_that_predict(target)
    if predicts is not None:
        keys: dict[str, Any] = {"label_smoothing": label_smoothing, "softcap": softcap, "find_right": find_right}
        keys |= {"compile": compile, "weights": None if weights is None else weights[predicts]}
        of_few = linear_cross_entropy(hidden[predicts], weight, bias, target[predicts], **keys)
        right = None if of_few.right is None else torch.zeros_like(predicts).masked_scatter(predicts, of_few.right)
        return Predictions(of_few.loss, right)
    options, learns = (label_smoothing, softcap, find_right), torch.is_grad_enabled()
    if target.numel() <= ON_CPU or target.numel() * len(weight) <= WHOLE:
        whole = compiled(_whole) if compile and learns else _whole
        return whole(hidden, weight, bias, target, weights, *options)
    flat = hidden.flatten(0, -2), weight, bias, target.flatten(), None if weights is None else weights.flatten()
    loss, right = _Learning.apply(*flat, *options, compile) if learns else _by_chunks(*flat, *options)
    return Predictions(loss, None if right is None else right.view_as(target))


def _few_that_predict(target: Int[Tensor, "*n"]) -> Bool[Tensor, "*n"] | None:
    """Which tokens predict, where they are to be gathered: their number is read, and is no size of a graph."""
    if target.device.type != "cpu" or torch.compiler.is_compiling():
        return None
    predicts = target != IGNORED
    return predicts if predicts.sum() < FEW * target.numel() else None


def _whole(
    hidden: Float[Tensor, "*n D"],
    weight: Float[Tensor, "V D"],
    bias: Float[Tensor, " V"] | None,
    target: Int[Tensor, "*n"],
    weights: Float[Tensor, "*n"] | None,
    label_smoothing: float,
    softcap: float | None,
    find_right: bool,
) -> Predictions:
    scores = linear_scores(hidden, weight, bias, softcap)
    exact, reduction = scores.flatten(0, -2).to(_exact(scores.dtype)), "sum" if weights is None else "none"
    loss = F.cross_entropy(exact, target.flatten(), reduction=reduction, label_smoothing=label_smoothing)
    loss = loss if weights is None else (loss * weights.flatten()).sum()
    return Predictions(loss, scores.argmax(-1) == target if find_right else None)


def _by_chunks(
    hidden: Tensor, weight: Tensor, bias: Tensor | None, target: Tensor, weights: Tensor | None, *options: Any
) -> Predictions:
    size = _chunk(hidden, len(weight), EAGER)
    of_each: Sequence[Tensor | None] = [None] * -(-len(hidden) // size) if weights is None else weights.split(size)
    chunks = zip(hidden.split(size), target.split(size), of_each, strict=True)
    return _joined([_whole(part, weight, bias, targets, own, *options) for part, targets, own in chunks])


class _Learning(torch.autograd.Function):
    """`_by_chunks` with gradients."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden: Float[Tensor, "n D"],
        weight: Float[Tensor, "V D"],
        bias: Float[Tensor, " V"] | None,
        target: Int[Tensor, " n"],
        weights: Float[Tensor, " n"] | None,
        label_smoothing: float,
        softcap: float | None,
        find_right: bool,
        compile: bool,
    ) -> tuple[Float[Tensor, ""], Bool[Tensor, " n"] | None]:
        with_gradients = compiled(_in_their_place) if compile else _with_gradients
        device, size = hidden.device.type, _chunk(hidden, len(weight), 1 if compile else EAGER)
        dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else weight.dtype
        cast = weight.to(dtype)
        given = (hidden, hidden.dtype), (weight, _exact(dtype)), (bias, _exact(dtype))
        gradients = [
            torch.empty_like(tensor, dtype=kept) if tensor is not None and needed else None
            for (tensor, kept), needed in zip(given, ctx.needs_input_grad, strict=False)
        ]
        parts = []
        with torch.autocast(device, enabled=False):
            for start in range(0, len(hidden), size):
                rows = slice(start, start + size)
                part, targets = hidden[rows].to(dtype), target[rows]
                scores = linear_scores(part, cast, bias, softcap)
                right = scores.argmax(-1) == targets if find_right else None
                own, has_bias = None if weights is None else weights[rows], gradients[2] is not None
                loss, by_scores, by_bias = with_gradients(scores, targets, own, label_smoothing, softcap, has_bias)
                _add_gradients(gradients, rows, by_scores.to(dtype), by_bias, part, cast)
                parts.append(Predictions(loss, right))
        ctx.save_for_backward(*gradients)
        joined = _joined(parts)
        return joined.loss, joined.right

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, by_loss: Float[Tensor, ""], _: Any) -> tuple[Tensor | None, ...]:
        return (
            *(None if gradient is None else gradient * by_loss for gradient in ctx.saved_tensors),
            *(None,) * 6,
        )


def _with_gradients(
    scores: Float[Tensor, "n V"],
    target: Int[Tensor, " n"],
    weights: Float[Tensor, " n"] | None,
    label_smoothing: float,
    softcap: float | None,
    has_bias: bool,
) -> tuple[Float[Tensor, ""], Float[Tensor, "n V"], Float[Tensor, " V"] | None]:
    """The loss and its gradients: by the scores before a cap, without one probabilities less targets; by a bias."""
    log_p = scores.log_softmax(-1, dtype=_exact(scores.dtype))
    loss, index = _summed(log_p, target, weights, label_smoothing), target.clamp(min=0)[:, None]
    by_scores = log_p.exp_()
    if label_smoothing:
        by_scores -= label_smoothing / scores.shape[1]
    by_scores.scatter_add_(1, index, torch.full_like(index, label_smoothing - 1, dtype=by_scores.dtype))
    by_scores.mul_(_factors(target, weights)[:, None])
    if softcap is not None:
        by_scores.mul_(1 - (scores.to(by_scores.dtype) / softcap) ** 2)
    return loss, by_scores, by_scores.sum(0) if has_bias else None


def _in_their_place(
    scores: Float[Tensor, "n V"],
    target: Int[Tensor, " n"],
    weights: Float[Tensor, " n"] | None,
    label_smoothing: float,
    softcap: float | None,
    has_bias: bool,
) -> tuple[Float[Tensor, ""], Float[Tensor, "n V"], Float[Tensor, " V"] | None]:
    """`_with_gradients` as a compiler likes it: number by number, the gradients written over the scores."""
    log_p = scores.log_softmax(-1, dtype=_exact(scores.dtype))
    loss, p = _summed(log_p, target, weights, label_smoothing), log_p.exp()
    if label_smoothing:
        p = p - label_smoothing / scores.shape[1]
    ids = torch.arange(scores.shape[1], device=scores.device, dtype=torch.int32)
    is_target = ids == target.int()[:, None]  # which is no id where it is ignored
    by_scores = torch.where(is_target, p - (1 - label_smoothing), p) * _factors(target, weights).to(p.dtype)[:, None]
    if softcap is not None:
        by_scores = by_scores * (1 - (scores.to(p.dtype) / softcap) ** 2)
    return loss, scores.copy_(by_scores), by_scores.sum(0) if has_bias else None


def _summed(
    log_p: Float[Tensor, "n V"], target: Int[Tensor, " n"], weights: Float[Tensor, " n"] | None, label_smoothing: float
) -> Float[Tensor, ""]:
    """The loss of log-probabilities."""
    each = (label_smoothing - 1) * log_p.gather(1, target.clamp(min=0)[:, None])[:, 0]
    if label_smoothing:
        each = each - label_smoothing / log_p.shape[1] * log_p.sum(1)
    each = each if weights is None else each * weights
    return torch.where(target != IGNORED, each, 0).sum()


def _factors(target: Int[Tensor, " n"], weights: Float[Tensor, " n"] | None) -> Shaped[Tensor, " n"]:
    """What the gradient of each token is multiplied by: 0 where it is ignored."""
    predicts = target != IGNORED
    return predicts if weights is None else predicts * weights


def _add_gradients(
    gradients: Sequence[Tensor | None],
    rows: slice,
    by_scores: Float[Tensor, "n V"],
    by_bias: Float[Tensor, " V"] | None,
    hidden: Float[Tensor, "n D"],
    weight: Float[Tensor, "V D"],
) -> None:
    """Adds those of a chunk, in place; those of the first one are put there."""
    to_hidden, to_weight, to_bias = gradients
    is_first = rows.start == 0
    if to_hidden is not None:
        to_hidden[rows] = by_scores @ weight
    if to_bias is not None and by_bias is not None:
        to_bias.copy_(by_bias if is_first else to_bias + by_bias)
    if to_weight is None:
        return
    if to_weight.dtype == hidden.dtype:
        to_weight.addmm_(by_scores.T, hidden, beta=0 if is_first else 1)
    elif is_first:
        to_weight.copy_(by_scores.T @ hidden)
    else:
        to_weight += by_scores.T @ hidden


def linear_scores(
    hidden: Float[Tensor, "*n D"],
    weight: Float[Tensor, "V D"],
    bias: Float[Tensor, " V"] | None,
    softcap: float | None,
) -> Float[Tensor, "*n V"]:
    """The scores of all ids, within ±softcap."""
    scores = F.linear(hidden, weight)
    scores = scores if bias is None else scores + bias
    return scores if softcap is None else soft_capped(scores, softcap)


def _joined(parts: Sequence[Predictions]) -> Predictions:
    right = [part.right for part in parts if part.right is not None]
    return Predictions(torch.stack([part.loss for part in parts]).sum(), torch.cat(right) if right else None)


def _chunk(hidden: Float[Tensor, "n D"], num_ids: int, times: int) -> int:
    """Tokens of a chunk: a power of two, so that memory is used again where the number of tokens changes.

    Args:
        num_ids: whose scores each token has, in half precision.
        times: that memory the chunk takes in all.
    """
    if hidden.device.type == "cpu":
        return ON_CPU
    most = SHARE * torch.cuda.get_device_properties(hidden.device).total_memory / (2 * num_ids * times)
    return 2 ** max(int(math.log2(most)), 0)


def _exact(dtype: torch.dtype) -> torch.dtype:
    """Of probabilities and sums, for which half precision is too coarse."""
    return torch.promote_types(dtype, torch.float32)
