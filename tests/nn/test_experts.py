"""Experts against the dense feed-forward, against loops over tokens, and padded, packed and alone."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from builders import backbone, experts, layer_context, mlp, model, router, text, text_batch
from torch import nn

from mmtx.errors import InvalidValue
from mmtx.model import MultimodalTransformer
from mmtx.nn.experts import Experts

LENGTHS = [3, 8, 0, 1, 5]
SWIGLU: dict[str, Any] = {"activation": nn.SiLU(), "gated": True, "bias": False}


def as_dense(module: Experts, expert: int) -> nn.Module:
    """One of them, as the dense feed-forward."""
    hidden, dim = module.down.in_features, module.down.out_features
    dense = mlp(
        activation=module.activation, gated=module.gated, bias=module.up.bias is not None, expansion=hidden / dim
    )
    made = dense(dim)
    state = {name: value[expert] for name, value in module.state_dict().items() if name.startswith(("up", "down"))}
    made.load_state_dict(state)
    return made


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("keys", [{}, SWIGLU])
def test_one_expert_is_the_dense_feed_forward_bit_for_bit(keys: dict[str, Any], dtype: torch.dtype) -> None:
    """Gradients too."""
    one = experts(num_experts=1, router=router(top_k=1), **keys)(24)
    dense, found = as_dense(one, 0), []
    for module in (one, dense):
        x = torch.randn(3, 5, 24, generator=torch.Generator().manual_seed(0), requires_grad=True)
        with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
            y = module(x, layer_context())[0] if module is one else module(x)
        y.float().square().sum().backward()
        own = [p.grad for name, p in module.named_parameters() if "router" not in name]
        found.append([y, x.grad, *(gradient.reshape(-1) for gradient in own)])
    assert all(torch.equal(first, second) for first, second in zip(*found, strict=True))


@pytest.mark.parametrize("exporting", [False, True])
@pytest.mark.parametrize(
    "keys", [{}, SWIGLU, {"shared_expansion": 1.0}, {"router": router(top_k=3, normalise=False, scale=2.0)}]
)
def test_against_a_loop_over_tokens(keys: dict[str, Any], exporting: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """As they are trained, and as they are recorded as a program."""
    monkeypatch.setattr(torch.compiler, "is_exporting", lambda: exporting)
    module, context = experts(**keys)(24), layer_context(length=7)
    context.valid[0, 5:] = False
    x = torch.randn(2, 7, 24)
    added, statistics = module(x, context)
    dense = [as_dense(module, expert) for expert in range(4)]
    load = [0] * 4
    for row in range(2):
        for token in range(5):
            own, routing = x[row : row + 1, token : token + 1], module.router(x[row, token][None])
            expected = torch.zeros(24) if module.shared is None else module.shared(own)
            for expert, weight in zip(routing.chosen[0].tolist(), routing.weight[0], strict=True):
                expected, load[expert] = expected + weight * dense[expert](own), load[expert] + 1
            torch.testing.assert_close(added[row, token], expected.flatten())
    assert statistics["load"].tolist() == load and statistics["tokens"] == 10
    real = module.router(x[:, :5].flatten(0, 1))
    logits, p = real.logits, real.logits.softmax(-1)
    torch.testing.assert_close(statistics["probability"], p.sum(0))
    torch.testing.assert_close(statistics["entropy"], -(p * p.log()).sum())
    torch.testing.assert_close(
        statistics["squared_logsumexp"],
        torch.tensor(sum(math.log(sum(map(math.exp, z))) ** 2 for z in logits.tolist())),
    )


def test_permuting_experts_with_the_rows_of_their_router_changes_nothing() -> None:
    module, x = experts()(24), torch.randn(2, 5, 24)
    added, statistics = module(x, layer_context())
    order = torch.tensor([2, 0, 3, 1])
    for parameter in module.parameters():
        parameter.data = parameter.data[order]
    permuted, its = module(x, layer_context())
    torch.testing.assert_close(permuted, added)
    assert its["load"].equal(statistics["load"][order])


def made(**changes: Any) -> MultimodalTransformer:
    return model({"text": text()}, backbone(mlp=experts(), **changes)).train()


def states_and_gradients(whole: MultimodalTransformer, batch: Any, rows: Any = slice(None)) -> tuple[Any, Any, Any]:
    whole.zero_grad()
    with whole.sharing():
        hidden, counted = whole(batch), {name: value.detach() for name, value in whole.statistics.items()}
    real = hidden.hidden[rows] * hidden.valid[rows][..., None]
    real.square().sum().backward()
    return real.detach(), counted, [p.grad for p in whole.parameters() if p.grad is not None]


@pytest.mark.parametrize("dense", [True, False])
def test_padded_is_packed_is_alone(dense: bool) -> None:
    """Every token takes its experts whatever stands beside it."""
    whole, batch = made().double(), text_batch(LENGTHS)
    padded, counted, gradients = states_and_gradients(whole, batch)
    if dense:
        others = states_and_gradients(whole, batch.packed())
        torch.testing.assert_close(others, (padded, counted, gradients))
        return
    for row, length in ((row, length) for row, length in enumerate(LENGTHS) if length):
        alone = whole(text_batch(LENGTHS).select(slice(row, row + 1))).hidden
        torch.testing.assert_close(alone[0, :length], padded[row, :length])
    assert all(counted[f"load/{layer}"].sum() == 2 * sum(LENGTHS) for layer in range(2))


@pytest.mark.slow
@pytest.mark.parametrize(
    "how", [{"compile": True}, {"activation_checkpointing": "selective"}, {"activation_checkpointing": "blocks"}]
)
def test_compiled_and_recomputed(how: dict[str, Any], monkeypatch: pytest.MonkeyPatch, unchecked: None) -> None:
    """The same numbers, and tokens counted once."""
    monkeypatch.setattr("mmtx.nn.compilation.BACKEND", "aot_eager")
    batch = text_batch(LENGTHS)
    expected = states_and_gradients(made(), batch)
    torch.testing.assert_close(states_and_gradients(made(**how), batch), expected, atol=1e-4, rtol=1e-4)


def test_no_token_at_all() -> None:
    module, context = experts()(24), layer_context()
    context.valid[:] = False
    added, statistics = module(torch.randn(1, 5, 24, requires_grad=True), context)
    added.sum().backward()
    assert not added.any() and statistics["tokens"] == 0
    assert all(p.grad is not None and not p.grad.any() for p in module.parameters())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_experts": 0}, "mlp.num_experts=0 must be at least 1"),
        ({"router": router(top_k=5)}, "mlp.router.top_k=5 is more than the 4 experts"),
        ({"router": lambda dim, num_experts: nn.Linear(dim, num_experts)}, "mlp.router=Linear is no router"),
    ],
)
def test_what_cannot_be_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidValue, match=message):
        backbone(mlp=experts(**changes))
