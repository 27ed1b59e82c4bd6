"""The stack of blocks and each of its switches."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch
from builders import KINDS, POSITIONS, attention, backbone, layer_context, mlp
from torch import Tensor

from mmtx.attention.kernels import DenseOrZero
from mmtx.attention.memory_rule import Memory
from mmtx.attention.rule import Connectivity, Pattern
from mmtx.errors import InvalidValue
from mmtx.nn.backbone import Backbone
from mmtx.nn.block import Residual
from mmtx.nn.layer_kind import LayerKind
from mmtx.nn.norms import LayerNorm, RMSNorm
from mmtx.nn.positions import Positions
from mmtx.nn.rotary import Rotary

DIM, LENGTH = 24, 6


def one_item(rows: int = 1) -> Connectivity:
    """A full, bidirectional text."""
    zeros = torch.zeros(rows, LENGTH, dtype=torch.long)
    index = torch.arange(LENGTH).expand(rows, -1)
    return Connectivity(
        order=zeros,
        position=torch.stack([zeros, index, zeros], dim=-1),
        segment=zeros,
        valid=torch.ones(rows, LENGTH, dtype=torch.bool),
        pattern=Pattern.FULL,
        padded=False,
        packed=False,
    )


def made(seed: int = 0, **changes: Any) -> Backbone:
    return backbone(seed=seed, **changes).eval()


@pytest.fixture
def x() -> Tensor:
    return torch.randn(2, LENGTH, DIM, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("final_norm", [True, False])
@pytest.mark.parametrize("norm_place", ["before", "after", "branch", "both"])
def test_blocks_by_hand(x: Tensor, norm_place: str, final_norm: bool) -> None:
    body = made(norm_place=norm_place, final_norm=final_norm)
    with torch.no_grad():
        for parameter in body.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    expected = x
    for block in body.blocks:
        for name, half in (("attention", lambda h, b=block: b.attention(h, layer_context())), ("mlp", block.mlp)):
            norm, on_branch = getattr(block, f"{name}_norm"), getattr(block, f"{name}_branch_norm", None)
            if norm_place == "before":
                expected = expected + half(norm(expected))
            elif norm_place == "after":
                expected = norm(expected + half(expected))
            elif norm_place == "branch":
                expected = expected + norm(half(expected))
            else:
                expected = expected + on_branch(half(norm(expected)))
    if final_norm:
        expected = body.final_norm(expected)
    torch.testing.assert_close(body(x, one_item()), expected)


def test_the_first_mixer_may_have_no_norm(x: Tensor) -> None:
    """It reads the input as it is; the others, and what follows, are normalised as ever."""
    body, usual = made(skip_first_norm=True), made()
    first, second = body.blocks[:2]
    after = x + first.attention(x, layer_context())
    after = after + first.mlp(first.mlp_norm(after))
    torch.testing.assert_close(first(x, layer_context()), after)
    torch.testing.assert_close(second(x, layer_context()), usual.blocks[1](x, layer_context()))
    missing = usual.state_dict().keys() - body.state_dict().keys()
    assert missing == {"blocks.0.attention_norm.weight", "blocks.0.attention_norm.bias"}
    with pytest.raises(InvalidValue, match="skip_first_norm=True is for norms before a half; norm_place=after"):
        made(skip_first_norm=True, norm_place="after")


def test_a_kind_of_layer_has_rotary_positions_of_its_own(x: Tensor) -> None:
    """The second layer of two; the first has those of the stack."""
    own, stacks = Rotary(axes=["row"], base=7.0), Rotary(axes=["row"], base=100.0)
    kinds = {**KINDS, "R": LayerKind(rotary=own)}
    body = made(positions=Positions(None, stacks, None), kinds=kinds, layers="GR")
    position = one_item().position
    expected = x
    for block, rotary in zip(body.blocks, (stacks, own), strict=True):
        context = layer_context(length=LENGTH, rotary=rotary.table(position, 12))
        expected = expected + block.attention(block.attention_norm(expected), context)
        expected = expected + block.mlp(block.mlp_norm(expected))
    torch.testing.assert_close(body(x, one_item()), body.final_norm(expected))


def test_a_softcap_is_for_tokens_of_one_set() -> None:
    with pytest.raises(InvalidValue, match="attention.softcap=2.0 is not for scores of a memory"):
        made(cross_attention=True, attention=attention(softcap=2.0))


@pytest.mark.parametrize("changes", [{"dropout": 0.5}, {"drop_path": 0.5}], ids=str)
def test_randomness_is_for_training(x: Tensor, changes: dict[str, float]) -> None:
    body, plain = made(**changes), made()
    assert body(x, one_item()).equal(plain(x, one_item()))
    body.train()
    assert not torch.allclose(body(x, one_item()), plain(x, one_item()))


def test_drop_path_leaves_out_whole_samples_and_keeps_the_mean() -> None:
    torch.manual_seed(0)
    residual = Residual(3, dropout=0.0, drop_path=0.25, layer_scale=None)
    x, added = torch.zeros(20_000, 2, 3), torch.ones(20_000, 2, 3)
    kept = residual(x, added)
    per_sample = kept.flatten(1)
    assert per_sample.unique().tolist() == pytest.approx([0.0, 1 / 0.75])
    assert (per_sample == per_sample[:, :1]).all(), "a sample is left out as a whole"
    assert kept.mean().item() == pytest.approx(1.0, abs=0.02)
    assert residual.eval()(x, added).equal(added)


def test_drop_path_rises_with_depth() -> None:
    body = made(num_layers=3, drop_path=0.4)
    assert [block.mlp_add.drop_path for block in body.blocks] == [0.0, 0.2, 0.4]
    assert [block.attention_add.drop_path for block in body.blocks] == [0.0, 0.2, 0.4]


def test_layer_scale_weighs_what_a_half_adds(x: Tensor) -> None:
    body = made(num_layers=1, layer_scale=1e-9, final_norm=False)
    torch.testing.assert_close(body(x, one_item()), x)
    (block,) = body.blocks
    with torch.no_grad():
        block.attention_add.scale.copy_(torch.linspace(0, 1, DIM))
    expected = x + torch.linspace(0, 1, DIM) * block.attention(block.attention_norm(x), layer_context())
    torch.testing.assert_close(body(x, one_item()), expected)


def test_windows_reach_the_layers(x: Tensor) -> None:
    """With a window of 1 no token reaches another, as if each were a sample of its own."""
    body = made(num_layers=2, window=1, layers="L")
    alone = made(num_layers=2)
    hidden = body(x, one_item())
    connectivity = one_item()
    nobody = Connectivity(
        order=connectivity.order,
        position=connectivity.position,
        segment=torch.arange(LENGTH)[None],
        valid=connectivity.valid,
    )
    torch.testing.assert_close(hidden, alone(x, nobody))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"dim": 0}, "dim=0 must be at least 1"),
        ({"num_layers": -1}, "num_layers=-1 must be at least 0"),
        ({"num_heads": 0}, "num_heads=0 must be at least 1"),
        ({"num_heads": 5}, "dim=24 is not a multiple of num_heads=5; nearest: 20 or 25"),
        ({"dropout": 1.0}, r"dropout=1.0 must lie in \[0, 1\)"),
        ({"drop_path": -0.1}, r"drop_path=-0.1 must lie in \[0, 1\)"),
    ],
)
def test_what_cannot_work_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidValue, match=message):
        backbone(**changes)


@pytest.mark.parametrize("norm", [partial(LayerNorm, eps=1e-5, bias=False), partial(RMSNorm, eps=1e-6)])
def test_no_bias_anywhere(norm: Any) -> None:
    """The switches together leave no bias, as Llama has none."""
    body = made(norm=norm, attention=attention(bias=[]), mlp=mlp(bias=False))
    assert not [name for name, _ in body.named_parameters() if "bias" in name]


@pytest.mark.parametrize("name", POSITIONS)
def test_a_cache_continues_a_causal_text(x: Tensor, name: str) -> None:
    """The query tokens are the last; keys of the others are cached."""
    body = made(positions=POSITIONS[name], window=3, layers="LG", attention=attention(num_kv_heads=1))
    connectivity = causal()
    whole = body(x, connectivity)
    cache = body.new_cache(LENGTH)
    parts = [body(x[:, :3], connectivity.prefix(3), cache)]
    parts += [body(x[:, t : t + 1], connectivity.prefix(t + 1).tail(1), cache) for t in (3, 4)]
    torch.testing.assert_close(torch.cat(parts, dim=1), whole[:, :5], atol=1e-5, rtol=1e-5)


NUM_KEYS = 4


@pytest.fixture
def memory() -> Memory:
    """Of two samples; the second has two tokens of four."""
    hidden = torch.randn(2, NUM_KEYS, DIM, generator=torch.Generator().manual_seed(2))
    zeros = torch.zeros(1, NUM_KEYS, dtype=torch.long)
    valid = torch.arange(NUM_KEYS) < torch.tensor([4, 2])[:, None]
    return Memory(
        hidden, Connectivity(zeros, torch.zeros(1, NUM_KEYS, 3).long(), zeros, valid, Pattern.FULL, packed=False)
    )


def causal(rows: int = 1) -> Connectivity:
    index = torch.arange(LENGTH).expand(rows, -1)
    return Connectivity(
        order=index,
        position=torch.stack([index, index, torch.zeros_like(index)], dim=-1),
        segment=torch.zeros_like(index),
        valid=torch.ones_like(index, dtype=torch.bool),
        pattern=Pattern.CAUSAL,
        padded=False,
        packed=False,
        index=index,
    )


CROSSES: dict[str, dict[str, Any]] = {
    "pre-norm": {},
    "post-norm": {"norm_place": "after"},
    "layer scale": {"layer_scale": 0.5},
    "groups, normalised": {"attention": attention(num_kv_heads=1, qk_norm=partial(RMSNorm, eps=1e-6))},
    "sinks": {"attention": attention(sinks=True)},
}
crosses = pytest.mark.parametrize("changes", CROSSES.values(), ids=CROSSES.keys())


@crosses
def test_blocks_that_listen_by_hand(x: Tensor, memory: Memory, changes: dict[str, Any]) -> None:
    """To the memory between attention and feed-forward, each half with a norm and a residual sum of its own."""
    body = made(cross_attention=True, **changes)
    with torch.no_grad():
        for parameter in body.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    across = layer_context(memory_rendering=DenseOrZero(memory.connectivity.valid[:, None, None]))
    expected = x
    for block in body.blocks:
        halves = [
            (block.attention_norm, lambda h, b=block: b.attention(h, layer_context()), block.attention_add),
            (
                block.cross_attention_norm,
                lambda h, b=block: b.cross_attention.cross_attend(h, across, memory=memory.hidden),
                block.cross_attention_add,
            ),
            (block.mlp_norm, block.mlp, block.mlp_add),
        ]
        for norm, half, add in halves:
            scale = 1 if add.scale is None else add.scale
            if body.blocks[0].norm_place == "before":
                expected = expected + scale * half(norm(expected))
            else:
                expected = norm(expected + scale * half(expected))
    torch.testing.assert_close(body(x, one_item(), memory=memory), body.final_norm(expected))
    other = Memory(memory.hidden + 1, memory.connectivity)
    assert not torch.allclose(body(x, one_item(), memory=other), body.final_norm(expected))


@pytest.mark.parametrize("name", POSITIONS)
def test_positions_of_the_memory_are_not_those_of_the_tokens(x: Tensor, memory: Memory, name: str) -> None:
    """The scheme turns and biases the tokens' own attention; what is across has places of its own in its content."""
    body = made(cross_attention=True, positions=POSITIONS[name], window=1, layers="LG")
    far = Connectivity(
        memory.connectivity.order,
        memory.connectivity.position + 50,
        memory.connectivity.segment,
        memory.connectivity.valid,
        Pattern.FULL,
        packed=False,
    )
    expected = body(x, causal(), memory=memory)
    assert body(x, causal(), memory=Memory(memory.hidden, far)).equal(expected)


@crosses
def test_a_cache_keeps_keys_of_the_memory(x: Tensor, memory: Memory, changes: dict[str, Any]) -> None:
    """Token by token, with the memory's keys and values computed in the first call alone."""
    body = made(cross_attention=True, positions=POSITIONS["rotary"], **changes)
    whole = body(x, causal(), memory=memory)
    cache = body.new_cache(LENGTH)
    parts = [body(x[:, :3], causal().prefix(3), cache, memory)]
    unread = Memory(torch.full_like(memory.hidden, 9.0), memory.connectivity)
    parts += [body(x[:, t : t + 1], causal().prefix(t + 1).tail(1), cache, unread) for t in range(3, LENGTH)]
    torch.testing.assert_close(torch.cat(parts, dim=1), whole, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("how", ["selective", "blocks"])
def test_recomputation_with_cross_attention(how: str, x: Tensor, memory: Memory) -> None:
    results = []
    for activation_checkpointing in ("none", how):
        body = made(cross_attention=True, activation_checkpointing=activation_checkpointing, dropout=0.2).train()
        hidden = memory.hidden.clone().requires_grad_()
        torch.manual_seed(5)
        out = body(x, one_item(), memory=Memory(hidden, memory.connectivity))
        out.square().sum().backward()
        results.append((out.detach(), hidden.grad, [p.grad for p in body.parameters()]))
    torch.testing.assert_close(results[1], results[0])
    assert results[0][1].any(), "the memory gets gradients from the tokens that attend to it"
    assert not results[0][1][1, 2:].any()


def test_a_stack_listens_exactly_if_it_was_made_to(x: Tensor, memory: Memory) -> None:
    with pytest.raises(ValueError, match="a stack with cross_attention=True got memory=False"):
        made(cross_attention=True)(x, one_item())
    with pytest.raises(ValueError, match="a stack with cross_attention=False got memory=True"):
        made()(x, one_item(), memory=memory)


def test_every_half_of_a_block_has_its_share_of_the_residual_stream() -> None:
    """Three halves of two layers: what each writes starts smaller by the root of six."""
    body = backbone(dim=192, cross_attention=True)
    alone = backbone(dim=192)
    full = 0.03 * 2  # the standard deviation at a fan-in of 768, and 192 is a quarter of it
    for block in body.blocks:
        for out in (block.attention.out, block.cross_attention.out):
            assert out.weight.std().item() == pytest.approx(full / 6**0.5, rel=0.03)
        assert block.cross_attention.qkv.weight.std().item() == pytest.approx(full, rel=0.03)
        assert block.mlp.down.weight.std().item() == pytest.approx(full / 2**0.5 / 6**0.5, rel=0.03)
    assert alone.blocks[0].attention.out.weight.std().item() == pytest.approx(full / 2, rel=0.03)


def test_drop_path_and_dropout_reach_cross_attention() -> None:
    body = made(num_layers=3, cross_attention=True, drop_path=0.4, dropout=0.1, layer_scale=0.3)
    assert [block.cross_attention_add.drop_path for block in body.blocks] == [0.0, 0.2, 0.4]
    assert all(block.cross_attention_add.dropout.p == 0.1 for block in body.blocks)
    assert all((block.cross_attention_add.scale == 0.3).all() for block in body.blocks)
    assert not hasattr(made().blocks[0], "cross_attention")
