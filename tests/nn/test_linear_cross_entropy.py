"""The loss by chunks against the loss of all scores, and the largest tensor of a step."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from builders import model, text, text_batch, text_spec
from torch import Tensor, nn
from torch._dynamo.utils import counters
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

import mmtx.nn.linear_cross_entropy as module
from mmtx.batch import Batch
from mmtx.model import MultimodalTransformer
from mmtx.nn.linear_cross_entropy import IGNORED, Predictions, linear_cross_entropy
from mmtx.objectives.base import Objective
from mmtx.objectives.capabilities import Prepares
from mmtx.objectives.masked_token import MaskedToken
from mmtx.objectives.next_token import NextToken

TOKENS, IDS, WIDTH = 36, 50, 16


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Chunks of eight tokens, however few scores there are."""
    monkeypatch.setattr(module, "WHOLE", 0)
    monkeypatch.setattr(module, "ON_CPU", 8)


def drawn(dtype: torch.dtype, bias: bool = True) -> tuple[list[Tensor], Tensor]:
    """Hidden states, weight, bias; targets, of which the first chunk's and some others are ignored."""
    generator = torch.Generator().manual_seed(0)
    shapes = [(2, TOKENS // 2, WIDTH), (IDS, WIDTH), (IDS,)][: 3 if bias else 2]
    inputs = [torch.randn(shape, generator=generator).to(dtype).requires_grad_() for shape in shapes]
    target = torch.randint(IDS, (2, TOKENS // 2), generator=generator)
    target[0, :10] = IGNORED
    target[1, -1] = IGNORED
    return inputs, target


def plain(hidden: Tensor, weight: Tensor, bias: Tensor | None, target: Tensor, smoothing: float) -> Predictions:
    scores = hidden @ weight.T
    scores = scores if bias is None else scores + bias
    exact = scores.double() if scores.dtype == torch.float64 else scores.float()
    loss = F.cross_entropy(exact.flatten(0, 1), target.flatten(), reduction="sum", label_smoothing=smoothing)
    return Predictions(loss, scores.argmax(-1) == target)


def losses_and_gradients(
    compute: Callable[..., Predictions], inputs: list[Tensor], target: Tensor, smoothing: float, twice: bool = True
) -> list[Tensor]:
    hidden, weight, *bias = inputs
    predictions = compute(hidden, weight, bias[0] if bias else None, target, smoothing)
    assert predictions.right is not None
    gradients = torch.autograd.grad(predictions.loss * 0.37, inputs, retain_graph=twice)
    if twice:
        again = torch.autograd.grad(predictions.loss * 0.37, inputs)
        assert all(map(torch.equal, gradients, again))
    return [predictions.loss.detach(), predictions.right, *gradients]


def ours(
    hidden: Tensor, weight: Tensor, bias: Tensor | None, target: Tensor, smoothing: float, compile: bool = False
) -> Predictions:
    options: dict[str, Any] = {"label_smoothing": smoothing, "find_right": True, "compile": compile}
    return linear_cross_entropy(hidden, weight, bias, target, **options)


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no bias"])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_equals_the_loss_of_all_scores(dtype: torch.dtype, bias: bool, smoothing: float) -> None:
    inputs, target = drawn(dtype, bias)
    found, expected = (losses_and_gradients(compute, inputs, target, smoothing) for compute in (ours, plain))
    tolerance = {torch.float64: 1e-12, torch.float32: 1e-6, torch.bfloat16: 1e-2}[dtype]
    for one, other in zip(found, expected, strict=True):
        assert one.dtype == other.dtype
        assert (one.double() - other.double()).abs().max() <= tolerance * max(1, other.double().abs().max())
    with torch.no_grad():
        hidden, weight, *rest = inputs
        evaluated = ours(hidden, weight, rest[0] if rest else None, target, smoothing)
    torch.testing.assert_close(evaluated.loss, expected[0])
    assert evaluated.right is not None
    assert evaluated.right.equal(expected[1])


@pytest.mark.parametrize("size", [0, 2**22], ids=["chunks", "whole"])
def test_scores_within_a_cap(size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "WHOLE", size)
    monkeypatch.setattr(module, "ON_CPU", 8)
    (hidden, weight, bias), target = drawn(torch.float64)
    scores = 1.5 * torch.tanh((hidden @ weight.T + bias) / 1.5)
    expected = F.cross_entropy(scores.flatten(0, 1), target.flatten(), reduction="sum", label_smoothing=0.1)
    found = linear_cross_entropy(hidden, weight, bias, target, label_smoothing=0.1, softcap=1.5).loss
    torch.testing.assert_close(found, expected)
    gradients = [torch.autograd.grad(loss, [hidden, weight, bias]) for loss in (found, expected)]
    torch.testing.assert_close(*gradients)


@pytest.mark.parametrize("ignored", [10, 30], ids=["chunks", "few that predict"])
@pytest.mark.parametrize("size", [0, 2**22], ids=["chunks", "whole"])
def test_weights_of_tokens(size: int, ignored: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "WHOLE", size)
    monkeypatch.setattr(module, "ON_CPU", 8)
    (hidden, weight, bias), target = drawn(torch.float64)
    target.flatten()[:ignored] = IGNORED
    weights = torch.rand(target.shape, generator=torch.Generator().manual_seed(1), dtype=torch.double)
    scores = (hidden @ weight.T + bias).flatten(0, 1)
    each = F.cross_entropy(scores, target.flatten(), reduction="none", label_smoothing=0.1)
    expected = (each * weights.flatten()).sum()
    compute = partial(linear_cross_entropy, hidden, weight, bias, target, weights=weights, label_smoothing=0.1)
    found = compute().loss
    torch.testing.assert_close(found, expected)
    gradients = [torch.autograd.grad(loss, [hidden, weight, bias]) for loss in (found, expected)]
    torch.testing.assert_close(*gradients)
    with torch.no_grad():
        torch.testing.assert_close(compute().loss, expected)


@pytest.mark.parametrize("weights", [None, torch.rand(9)], ids=["equal", "weighted"])
def test_gradients_within_a_cap_are_the_same_in_their_place(weights: Tensor | None) -> None:
    scores, target = torch.randn(9, 5).tanh(), torch.arange(9) % 5
    target[4] = IGNORED
    found, expected = (
        compute(scores.clone(), target, weights, 0.1, 1.0, True)
        for compute in (module._in_their_place, module._with_gradients)
    )
    torch.testing.assert_close(found, expected)


@pytest.mark.usefixtures("small")
def test_autocast_keeps_gradients_of_the_parameters_dtype() -> None:
    inputs, target = drawn(torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        found, expected = (losses_and_gradients(compute, inputs, target, 0.1) for compute in (ours, plain))
    for one, other in zip(found, expected, strict=True):
        assert one.dtype == other.dtype
        assert (one.double() - other.double()).abs().max() <= 1e-2 * max(1, other.double().abs().max())


@pytest.mark.usefixtures("small")
def test_a_frozen_weight_and_ignored_tokens_alone() -> None:
    (hidden, weight, bias), target = drawn(torch.float64)
    frozen = weight.detach()
    expected = torch.autograd.grad(plain(hidden, weight, bias, target, 0.0).loss, hidden)
    torch.testing.assert_close(torch.autograd.grad(ours(hidden, frozen, bias, target, 0.0).loss, hidden), expected)
    nothing = ours(hidden, weight, bias, torch.full_like(target, IGNORED), 0.1)
    assert nothing.loss == 0
    assert nothing.right is not None
    assert not nothing.right.any()
    assert all(not gradient.any() for gradient in torch.autograd.grad(nothing.loss, [hidden, weight, bias]))


@pytest.mark.parametrize("few", [0, 1, TOKENS // 4 - 1, TOKENS // 4])
@pytest.mark.parametrize("size", [0, 2**22], ids=["chunks", "whole"])
def test_scores_of_few_are_those_of_few(few: int, size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of less than a quarter of the tokens: the others have no scores, and the numbers are the same."""
    monkeypatch.setattr(module, "WHOLE", size)
    inputs, _ = drawn(torch.float64)
    target = torch.full((2, TOKENS // 2), IGNORED)
    target.view(-1)[:: TOKENS // max(few, 1)][:few] = torch.arange(few)
    with Largest() as largest:
        found = losses_and_gradients(ours, inputs, target, 0.1)
    torch.testing.assert_close(found, losses_and_gradients(plain, inputs, target, 0.1), atol=1e-12, rtol=1e-12)
    assert (largest.elements < TOKENS * IDS) == (few < TOKENS / 4)


@pytest.mark.usefixtures("small", "unchecked")
def test_compiles_as_one_graph() -> None:
    inputs, target = drawn(torch.float32)
    torch.compiler.reset()
    compiled = torch.compile(ours, backend="aot_eager", fullgraph=True)
    found, expected = (losses_and_gradients(compute, inputs, target, 0.1) for compute in (compiled, plain))
    torch.testing.assert_close(found, expected)


@pytest.mark.usefixtures("small", "unchecked")
@pytest.mark.parametrize(
    ("dtype", "whole"),
    [
        (torch.float32, False),
        (torch.bfloat16, True),
        pytest.param(torch.bfloat16, False, marks=pytest.mark.slow),
        pytest.param(torch.float32, True, marks=pytest.mark.slow),
    ],
    ids=["chunks", "whole-bfloat16", "chunks-bfloat16", "whole"],
)
def test_compiled_it_is_the_same_in_two_graphs(
    dtype: torch.dtype, whole: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One for whole chunks, and one for the rest, whatever its length."""
    monkeypatch.setattr("mmtx.nn.compilation.BACKEND", "aot_eager")
    monkeypatch.setattr(module, "WHOLE", 2**22 if whole else 0)
    torch.compiler.reset()
    counters.clear()
    inputs, target = drawn(dtype)
    for length in (TOKENS // 2, TOKENS // 2 - 1, TOKENS // 2 - 2):
        given = [inputs[0][:, :length].detach().requires_grad_(), *inputs[1:]]
        found = losses_and_gradients(partial(ours, compile=True), given, target[:, :length], 0.1, twice=False)
        expected = losses_and_gradients(ours, given, target[:, :length], 0.1)
        torch.testing.assert_close(found, expected)
    assert counters["stats"]["unique_graphs"] == 2


class Largest(TorchDispatchMode):
    """Records the largest tensor that any operation returns."""

    elements = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        sizes = [leaf.numel() for leaf in tree_leaves(result) if isinstance(leaf, Tensor)]
        self.elements = max(self.elements, *sizes, 0)
        return result


def largest_of_training_and_evaluation(objective: Objective, whole: MultimodalTransformer, batch: Batch) -> list[int]:
    found = []
    for training in (True, False):
        objective.train(training)
        with Largest() as largest, torch.set_grad_enabled(training):
            prepares, generator = isinstance(objective, Prepares), torch.Generator().manual_seed(0)
            score = objective(whole, objective.prepare(whole, batch, generator) if prepares else batch)
            if training:
                score.loss_sum.backward()
        found.append(largest.elements)
    return found


@pytest.mark.parametrize("causal", [True, False], ids=["next token", "masked token"])
def test_no_tensor_has_the_scores_of_all_tokens(causal: bool) -> None:
    """2,048 tokens and 8,192 ids: their scores would be 2^24 numbers."""
    ids, rows, length = 8192, 64, 32
    spec = text_spec(ids, length + causal)
    whole = model({"text": text(spec, causal=causal)})
    shared: dict[str, Any] = {"specs": {"text": spec}, "model": whole, "weight": 1.0, "text": "text"}
    objective = (
        NextToken(**shared, tied=True, logit_scale=0.5, label_smoothing=0.1)
        if causal
        else MaskedToken(**shared, mask=0, share=0.25, activation=nn.GELU(), norm_eps=1e-12)
    )
    batch = text_batch([length + causal] * rows, num_classes=ids)
    for elements in largest_of_training_and_evaluation(objective, whole, batch):
        assert 0 < elements <= rows * length * ids // 4
