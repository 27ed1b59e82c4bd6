"""Adaptive norms: DiT's block and last layer by its formulas, padded, packed and where there is no condition."""

from __future__ import annotations

from functools import partial

import pytest
import torch
import torch.nn.functional as F
from builders import attention, backbone, image, image_batch, merge, mlp, model, text, text_batch
from torch import Tensor, nn

from mmtx.attention.kernels import Full
from mmtx.conditions import Conditions
from mmtx.errors import InvalidValue
from mmtx.nn.adaptive_norm import AdaptiveNorm
from mmtx.nn.backbone import Backbone
from mmtx.nn.layer_context import LayerContext

ADAPTIVE = partial(AdaptiveNorm, eps=1e-6)


def adaptive(**changes: object) -> Backbone:
    """Modulations that are not zero, as after some training."""
    stack = backbone(norm=ADAPTIVE, **changes)
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for name, parameter in stack.named_parameters():
            if "modulation" in name or ".gate." in name or "bias" in name:
                parameter.normal_(std=0.2, generator=generator)
    return stack.eval()


def dit_block(x: Tensor, c: Tensor, weights: dict[str, Tensor], num_heads: int) -> Tensor:
    """As published (Peebles and Xie 2022): adaLN-Zero, six vectors from SiLU and one linear map."""
    six = F.linear(F.silu(c), weights["adaLN.weight"], weights["adaLN.bias"])[:, None]
    shift_a, scale_a, gate_a, shift_m, scale_m, gate_m = six.chunk(6, dim=-1)
    modulated = F.layer_norm(x, x.shape[-1:], eps=1e-6) * (1 + scale_a) + shift_a
    qkv = F.linear(modulated, weights["qkv.weight"], weights["qkv.bias"]).chunk(3, dim=-1)
    q, k, v = (part.unflatten(-1, (num_heads, -1)).transpose(1, 2) for part in qkv)
    attended = (q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5).softmax(-1) @ v
    x = x + gate_a * F.linear(attended.transpose(1, 2).flatten(2), weights["proj.weight"], weights["proj.bias"])
    modulated = F.layer_norm(x, x.shape[-1:], eps=1e-6) * (1 + scale_m) + shift_m
    hidden = F.gelu(F.linear(modulated, weights["fc1.weight"], weights["fc1.bias"]), approximate="tanh")
    return x + gate_m * F.linear(hidden, weights["fc2.weight"], weights["fc2.bias"])


def copied(block: nn.Module) -> dict[str, Tensor]:
    """Our weights under DiT's names."""
    own = block.state_dict()

    def adaln(key: str) -> Tensor:
        halves = [
            part
            for half in ("attention", "mlp")
            for part in (own[f"{half}_norm.modulation.linear.{key}"], own[f"{half}_add.gate.linear.{key}"])
        ]
        return torch.cat(halves)

    biases = torch.cat([own[f"attention.biases.{name}"] for name in ("query", "key", "value")])
    own = {**own, "attention.qkv.bias": biases}
    names = {"qkv": "attention.qkv", "proj": "attention.out", "fc1": "mlp.up", "fc2": "mlp.down"}
    found = {f"{theirs}.{key}": own[f"{ours}.{key}"] for theirs, ours in names.items() for key in ("weight", "bias")}
    return {**found, "adaLN.weight": adaln("weight"), "adaLN.bias": adaln("bias")}


@torch.no_grad()
def test_a_stack_is_that_of_dit() -> None:
    stack = adaptive(mlp=mlp(activation=nn.GELU("tanh"), expansion=4.0), attention=attention()).double()
    generator = torch.Generator().manual_seed(0)
    x, c = (torch.randn(shape, generator=generator, dtype=torch.double) for shape in ((3, 5, 24), (3, 24)))
    of_token = torch.arange(3)[:, None].expand(-1, 5)
    segment = torch.zeros(1, 5, dtype=torch.long)
    context = LayerContext(rendering=Full(), valid=segment == 0, segment=segment, condition_of=of_token)
    ours = theirs = x
    for block in stack.blocks:
        ours = block(ours, context, conditions=c)
        theirs = dit_block(theirs, c, copied(block), num_heads=2)
    torch.testing.assert_close(ours, theirs, atol=1e-12, rtol=1e-12)
    last = stack.final_norm.modulation.linear
    shift, scale = F.linear(F.silu(c), last.weight, last.bias)[:, None].chunk(2, dim=-1)
    expected = F.layer_norm(theirs, (24,), eps=1e-6) * (1 + scale) + shift
    torch.testing.assert_close(stack.final_norm(ours, Conditions(c, of_token)), expected, atol=1e-12, rtol=1e-12)


def test_a_new_block_gives_what_it_is_given() -> None:
    stack = backbone(norm=ADAPTIVE)
    x = torch.randn(2, 5, 24)
    segment = torch.zeros(1, 5, dtype=torch.long)
    context = LayerContext(rendering=Full(), valid=segment == 0, segment=segment)
    assert stack.blocks[0](x, context).equal(x)


@pytest.mark.parametrize("compute", ["none", "selective", "blocks"])
def test_packed_rows_have_the_conditions_of_their_samples(compute: str) -> None:
    """Hidden states and gradients, also where a block is computed again for the backward pass."""
    whole = model({"text": text(), "image": image()}, adaptive(activation_checkpointing=compute)).train()
    batch = merge(text_batch([5, 0, 3]), image_batch([1, 1, 0]))
    results = []
    for given in (batch, batch.packed()):
        c = torch.randn(3, 24, generator=torch.Generator().manual_seed(0)).requires_grad_()
        states = whole.run(whole.tokenize(given).conditioned(c, ["image"]))
        real = states.hidden * states.valid[..., None]
        whole.zero_grad()
        real.square().sum().backward()
        results.append((real.detach(), c.grad, [p.grad for p in whole.parameters()]))
    torch.testing.assert_close(*results, atol=1e-5, rtol=1e-4)
    assert results[0][1][:2].abs().sum() > 0 and results[0][1][2].abs().sum() == 0, "who has no image has no use for it"


@torch.no_grad()
def test_tokens_without_a_condition_have_zero() -> None:
    whole = model({"text": text(), "image": image()}, adaptive())
    batch = merge(text_batch([5, 2]), image_batch([1, 1]))
    plain = whole.tokenize(batch)
    zero = plain.conditioned(torch.zeros(2, 24), ["text", "image"])
    torch.testing.assert_close(whole.run(plain).hidden, whole.run(zero).hidden)
    of_image = whole.run(plain.conditioned(torch.ones(2, 24), ["image"]))
    torch.testing.assert_close(of_image.tokens("text"), whole.run(plain).tokens("text"))  # which come before
    assert not torch.allclose(of_image.tokens("image"), whole.run(plain).tokens("image"))


@pytest.mark.parametrize(
    ("key", "value"), [("input_norm", True), ("norm_place", "after"), ("norm_place", "branch"), ("norm_place", "both")]
)
def test_adaptive_norms_stand_before_halves(key: str, value: object) -> None:
    with pytest.raises(InvalidValue, match=f"{key}={value} is not for adaptive norms"):
        backbone(norm=ADAPTIVE, **{key: value})
