"""Every switch of attention against its formula."""

from __future__ import annotations

from functools import partial
from itertools import combinations
from typing import Any, Literal

import pytest
import torch
from builders import attention, layer_context
from torch import Tensor, nn

from mmtx.attention.kernels import Causal, DenseOrZero, Full
from mmtx.errors import InvalidValue
from mmtx.nn.attention import LINEARS, Attention, KeyValueCache
from mmtx.nn.cache import LayerCache
from mmtx.nn.norms import RMSNorm
from mmtx.nn.roles import roles_of
from mmtx.nn.rotary import Rotary, rotate

DIM, HEADS = 12, 4


def made(seed: int = 0, **changes: Any) -> Attention:
    torch.manual_seed(seed)
    module = attention(**changes)(DIM, HEADS)
    with torch.no_grad():
        for bias in module.biases.values():
            bias.normal_()
    return module.eval()


def by_hand(
    module: Attention, x: Tensor, *, scale: float, qk_norm: str | None = None, clip: float = float("inf")
) -> Tensor:
    """Causal attention head by head, each query head with the key head of its group."""
    width, groups = module.head_dim, HEADS // module.num_kv_heads
    query, key, value = module.qkv.weight.split(module.widths)
    biases = {name: module.biases[name] if name in module.biases else torch.zeros(()) for name in LINEARS[:3]}
    q, k, v = x @ query.T + biases["query"], x @ key.T + biases["key"], x @ value.T + biases["value"]
    if qk_norm == "all":
        q, k = module.query_norm(q), module.key_norm(k)
    q, k, v = (part.clip(-clip, clip) for part in (q, k, v))
    heads = []
    for head in range(HEADS):
        mine = slice(head * width, (head + 1) * width)
        shared = slice(head // groups * width, (head // groups + 1) * width)
        q_head, k_head = q[..., mine], k[..., shared]
        if qk_norm == "head":
            assert module.query_norm is not None
            assert module.key_norm is not None
            q_head, k_head = module.query_norm(q_head), module.key_norm(k_head)
        scores = scale * q_head @ k_head.transpose(-1, -2)
        future = torch.ones_like(scores[0], dtype=torch.bool).triu(1)
        heads.append(scores.masked_fill(future, float("-inf")).softmax(-1) @ v[..., shared])
    return module.out(torch.cat(heads, dim=-1))


@pytest.fixture
def x() -> Tensor:
    return torch.randn(2, 5, DIM, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("num_kv_heads", [None, 4, 2, 1])
def test_grouped_queries(x: Tensor, num_kv_heads: int | None) -> None:
    module = made(num_kv_heads=num_kv_heads)
    expected = by_hand(module, x, scale=module.head_dim**-0.5)
    torch.testing.assert_close(module(x, layer_context(Causal())), expected, atol=1e-5, rtol=1e-5)


def test_grouped_queries_equal_repeated_key_heads(x: Tensor) -> None:
    grouped, whole = made(num_kv_heads=2), made(num_kv_heads=None)
    width = grouped.head_dim
    query, key, value = grouped.qkv.weight.split(grouped.widths)

    def repeated(weight: Tensor) -> Tensor:
        return weight.unflatten(0, (2, width)).repeat_interleave(2, dim=0).flatten(0, 1)

    with torch.no_grad():
        whole.qkv.weight.copy_(torch.cat([query, repeated(key), repeated(value)]))
        whole.biases["query"].copy_(grouped.biases["query"])
        whole.biases["key"].copy_(repeated(grouped.biases["key"]))
        whole.biases["value"].copy_(repeated(grouped.biases["value"]))
        whole.out.load_state_dict(grouped.out.state_dict())
    torch.testing.assert_close(grouped(x, layer_context()), whole(x, layer_context()), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("bias", [c for n in range(5) for c in combinations(LINEARS, n)], ids=lambda c: "+".join(c))
def test_each_linear_has_its_bias(x: Tensor, bias: tuple[str, ...]) -> None:
    module = made(bias=bias, num_kv_heads=2)
    with torch.no_grad():
        if module.out.bias is not None:
            module.out.bias.normal_()
    named = {name.removeprefix("biases.") for name, _ in module.named_parameters() if "bias" in name}
    assert named == {"out.bias" if name == "out" else name for name in bias}
    expected = by_hand(module, x, scale=module.head_dim**-0.5)
    torch.testing.assert_close(module(x, layer_context(Causal())), expected, atol=1e-5, rtol=1e-5)


def test_without_scale(x: Tensor) -> None:
    module = made(scale=False)
    expected = by_hand(module, x, scale=1.0)
    torch.testing.assert_close(module(x, layer_context(Causal())), expected, atol=1e-5, rtol=1e-5)


def test_scores_divided_by_the_root_of_a_number(x: Tensor) -> None:
    expected = by_hand(made(scale=9.0), x, scale=1 / 3)
    torch.testing.assert_close(made(scale=9.0)(x, layer_context(Causal())), expected, atol=1e-5, rtol=1e-5)
    for key in ("scale", "softcap"):
        with pytest.raises(InvalidValue, match=f"attention.{key}=-1"):
            made(**{key: -1.0})


@pytest.mark.parametrize(("over", "widths"), [("head", (3, 3)), ("all", (12, 6))])
def test_normalised_queries_and_keys(x: Tensor, over: Literal["head", "all"], widths: tuple[int, int]) -> None:
    module = made(qk_norm=partial(RMSNorm, eps=1e-6), qk_norm_over=over, num_kv_heads=2)
    assert isinstance(module.query_norm, RMSNorm)
    assert isinstance(module.key_norm, RMSNorm)
    assert (len(module.query_norm.weight), len(module.key_norm.weight)) == widths
    with torch.no_grad():
        module.query_norm.weight.normal_()
        module.key_norm.weight.normal_()
    expected = by_hand(module, x, scale=module.head_dim**-0.5, qk_norm=over)
    torch.testing.assert_close(module(x, layer_context(Causal())), expected, atol=1e-5, rtol=1e-5)


def test_queries_keys_and_values_are_clipped(x: Tensor) -> None:
    """As if their linear map gave no more."""
    module = made(clip=0.2)
    expected = by_hand(module, x, scale=module.head_dim**-0.5, clip=0.2)
    torch.testing.assert_close(module(x, layer_context(Causal())), expected, atol=1e-5, rtol=1e-5)
    with pytest.raises(InvalidValue, match=r"attention.clip=0.0 must be above 0"):
        made(clip=0.0)


def test_rotation_comes_after_normalisation(x: Tensor) -> None:
    """Rotated queries and keys keep their norm, so normalising first is what public models do."""
    torch.manual_seed(0)
    module = attention(qk_norm=partial(RMSNorm, eps=1e-6))(8, 2)
    assert module.query_norm is not None
    with torch.no_grad():
        module.query_norm.weight.normal_()
    x = x[..., :8]
    position = torch.arange(5)[None, :, None].expand(1, 5, 3)
    table = Rotary(axes=["time"], base=100.0).table(position, 4)
    parts = (module.qkv(x) + torch.cat(list(module.biases.values()))).split(8, dim=-1)
    q, k, v = (part.unflatten(-1, (2, 4)).transpose(1, 2) for part in parts)
    scores = rotate(module.query_norm(q), table) @ rotate(module.key_norm(k), table).transpose(-1, -2) / 2
    expected = module.out((scores.softmax(-1) @ v).transpose(1, 2).flatten(2))
    torch.testing.assert_close(module(x, layer_context(rotary=table)), expected, atol=1e-5, rtol=1e-5)


def test_sinks_begin_as_one_more_key_of_score_zero(x: Tensor) -> None:
    module, plain = made(sinks=True, num_kv_heads=2), made(num_kv_heads=2)
    assert module.sinks is not None
    assert roles_of(module)["sinks"] == "bias"
    nothing = torch.zeros(2, 1, DIM)
    with torch.no_grad():
        for each in (module, plain):
            each.biases["key"].zero_()  # then a token of zeros has the score 0
            each.biases["value"].zero_()
    longer = plain(torch.cat([nothing, x], dim=1), layer_context(Causal(), length=6))[:, 1:]
    torch.testing.assert_close(module(x, layer_context(Causal())), longer, atol=1e-5, rtol=1e-5)
    cache = module.new_cache(5)
    parts = [module(x[:, t : t + 1], layer_context(past=t), cache=cache) for t in range(5)]
    torch.testing.assert_close(torch.cat(parts, dim=1), longer, atol=1e-5, rtol=1e-5)


def test_dropout_of_weights_is_for_training(x: Tensor) -> None:
    module = made(dropout=0.5)
    plain = made(dropout=0.0)
    assert module(x, layer_context(Causal())).equal(plain(x, layer_context(Causal())))
    module.train()
    assert not torch.allclose(module(x, layer_context(Causal())), plain(x, layer_context(Causal())))


def test_cached_keys_and_values_continue(x: Tensor) -> None:
    """Token by token equals all at once."""
    module = made(num_kv_heads=2)
    whole = module(x, layer_context(Causal()))
    cache = module.new_cache(5)
    parts = [module(x[:, :2], layer_context(Causal()), cache=cache)]
    parts += [module(x[:, t : t + 1], layer_context(past=t), cache=cache) for t in range(2, 5)]
    torch.testing.assert_close(torch.cat(parts, dim=1), whole, atol=1e-5, rtol=1e-5)


def cross_attention_by_hand(module: Attention, x: Tensor, memory: Tensor, valid: Tensor) -> Tensor:
    """Cross-attention head by head and row by row: queries of the one, keys and values of the other."""
    width, groups = module.head_dim, HEADS // module.num_kv_heads
    query, key, value = module.qkv.weight.split(module.widths)
    biases = {name: module.biases[name] if name in module.biases else torch.zeros(()) for name in LINEARS[:3]}
    out = torch.zeros_like(x)
    for b, row in enumerate(x):
        known = memory[b, valid[b]]
        q = row @ query.T + biases["query"]
        k, v = known @ key.T + biases["key"], known @ value.T + biases["value"]
        for head in range(HEADS):
            mine = slice(head * width, (head + 1) * width)
            shared = slice(head // groups * width, (head // groups + 1) * width)
            q_head, k_head = q[:, mine], k[:, shared]
            if module.query_norm is not None and module.key_norm is not None:
                q_head, k_head = module.query_norm(q_head), module.key_norm(k_head)
            scores = q_head @ k_head.T * (width**-0.5 if module.scale is None else module.scale)
            if len(known):
                out[b, :, mine] = scores.softmax(-1) @ v[:, shared]
    return module.out(out)


CROSSES: dict[str, dict[str, Any]] = {
    "plain": {},
    "whisper": {"bias": ["query", "value", "out"]},
    "t5": {"bias": [], "scale": False},
    "groups, normalised": {"num_kv_heads": 2, "qk_norm": partial(RMSNorm, eps=1e-6)},
    "one group": {"num_kv_heads": 1, "bias": ["key"]},
}
crosses = pytest.mark.parametrize("changes", CROSSES.values(), ids=CROSSES.keys())


def disturbed(**changes: Any) -> Attention:
    """Norms and biases that no initialisation left at zero or one."""
    module = made(**changes)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.3)
    return module


@crosses
def test_a_memory_is_heard_instead_of_the_tokens(x: Tensor, changes: dict[str, Any]) -> None:
    """The second sample has two keys of seven, the third none: attention gives it the output's bias alone."""
    module = disturbed(**changes)
    x = torch.cat([x, x[:1] + 1])
    memory = torch.randn(3, 7, DIM)
    valid = torch.arange(7) < torch.tensor([7, 2, 0])[:, None]
    attended = module.cross_attend(x, layer_context(memory_rendering=DenseOrZero(valid[:, None, None])), memory=memory)
    torch.testing.assert_close(attended, cross_attention_by_hand(module, x, memory, valid), atol=1e-5, rtol=1e-5)


@crosses
def test_a_memory_is_computed_once(x: Tensor, changes: dict[str, Any]) -> None:
    """Token by token with a cache; then the memory itself is no longer read."""
    module = disturbed(**changes)
    memory = torch.randn(2, 7, DIM)
    attend = partial(module.cross_attend, context=layer_context(memory_rendering=Full()))
    whole = attend(x, memory=memory)
    cache = LayerCache(module.new_cache(0))
    parts = [attend(x[:, :2], cache=cache, memory=memory)]
    parts += [attend(x[:, t : t + 1], cache=cache, memory=torch.full_like(memory, 9.0)) for t in range(2, 5)]
    torch.testing.assert_close(torch.cat(parts, dim=1), whole, atol=1e-5, rtol=1e-5)
    assert cache.memory is not None
    heads = module.num_kv_heads
    assert [tuple(part.shape) for part in cache.memory] == [(2, heads, 7, module.head_dim)] * 2


def test_rows_of_a_cache(x: Tensor) -> None:
    """Selected in any order, any number of times, its keys, values and memory go on with other rows."""
    module = disturbed(num_kv_heads=2)
    memory, index = torch.randn(2, 7, DIM), torch.tensor([1, 1, 0])
    attend = partial(module.cross_attend, context=layer_context(memory_rendering=Full()))
    cache = LayerCache(module.new_cache(5))
    module(x[:, :3], layer_context(Causal()), cache=cache.mixer)
    attend(x[:, :3], cache=cache, memory=memory)
    cache.select(index)
    last = x[index][:, 3:4]
    expected = module(x[index][:, :4], layer_context(Causal()))[:, 3:]
    actual = module(last, layer_context(past=3), cache=cache.mixer)
    torch.testing.assert_close(actual, expected, atol=1e-5, rtol=1e-5)
    expected = attend(last, memory=memory[index])
    torch.testing.assert_close(attend(last, cache=cache, memory=memory[index]), expected, atol=1e-5, rtol=1e-5)
    empty = LayerCache(KeyValueCache(capacity=2))
    empty.select(index)
    assert empty.memory is None


@pytest.mark.parametrize(
    ("dim", "heads", "changes", "message"),
    [
        (10, 4, {}, r"dim=10 is not a multiple of num_heads=4; nearest: 8 or 12"),
        (12, 4, {"num_kv_heads": 3}, r"attention.num_kv_heads=3 does not divide num_heads=4"),
        (12, 4, {"num_kv_heads": 0}, r"attention.num_kv_heads=0 does not divide num_heads=4"),
        (12, 4, {"dropout": 1.0}, r"attention.dropout=1.0 must lie in \[0, 1\)"),
    ],
)
def test_what_cannot_work_is_refused(dim: int, heads: int, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidValue, match=message):
        attention(**changes)(dim, heads)


def test_equals_torch_multihead_attention(x: Tensor) -> None:
    module = made()
    theirs = nn.MultiheadAttention(DIM, HEADS, batch_first=True)
    with torch.no_grad():
        theirs.in_proj_weight.copy_(module.qkv.weight)
        theirs.in_proj_bias.copy_(torch.cat([module.biases[name] for name in LINEARS[:3]]))
        theirs.out_proj.load_state_dict(module.out.state_dict())
    expected, _ = theirs(x, x, x, need_weights=False)
    torch.testing.assert_close(module(x, layer_context()), expected, atol=1e-5, rtol=1e-5)
