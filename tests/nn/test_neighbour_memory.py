"""Nearest-neighbour memory: loops over queries and keys give the same."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import pytest
import torch
from builders import KINDS, attention, backbone, image, image_batch, layer_context, model, text, text_batch
from torch import Tensor

from mmtx.errors import InvalidValue
from mmtx.model import MultimodalTransformer
from mmtx.nn.attention import Attention
from mmtx.nn.layer_context import LayerContext
from mmtx.nn.layer_kind import LayerKind
from mmtx.nn.neighbour_memory import NeighbourMemory

EXACT: dict[str, Any] = {"atol": 1e-10, "rtol": 1e-10}
WINDOW = 2


def remembering(count: int | None = 2, size: int = 100) -> Any:
    return attention(neighbours=partial(NeighbourMemory, count=count, size=size))


def whole(**keys: Any) -> MultimodalTransformer:
    """Three layers, of which the second has the memory."""
    kinds = {**KINDS, "M": LayerKind(mixer=remembering(**keys), window=True)}
    own = {"layers": "LML", "kinds": kinds, "window": WINDOW, "num_layers": 3, "init_std": 0.1}
    return model({"text": text()}, backbone(**own)).double()


def memory(count: int | None, size: int, num_heads: int = 4) -> NeighbourMemory:
    made = NeighbourMemory(num_heads, count=count, size=size).double()
    torch.nn.init.normal_(made.gate)
    torch.nn.init.uniform_(made.scale, 1.0, 20.0)
    return made


def known(length: int) -> LayerContext:
    place = torch.arange(length)[None]
    position = torch.stack([place + 5, torch.zeros_like(place), torch.zeros_like(place)], -1)
    return layer_context(length=length, window=WINDOW, position=position)


def by_hand(made: NeighbourMemory, local: Tensor, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Query by query, over lists of its keys."""
    out, group = local.clone(), q.shape[1] // k.shape[1]
    for b in range(len(q)):
        for h in range(q.shape[1]):
            for i in range(q.shape[2]):
                held = range(max(i - WINDOW - made.size + 1, 0), max(i - WINDOW + 1, 0))
                scored = []
                for j in held:
                    key, query = k[b, h // group, j], q[b, h, i]
                    cosine = sum(x * y for x, y in zip(key, query, strict=True)) / key.norm() / query.norm()
                    scored.append((float(cosine * made.scale[h].detach()), j))
                nearest = sorted(scored, reverse=True)[: made.count]
                if nearest:
                    total = sum(math.exp(score) for score, _ in nearest)
                    found = sum(math.exp(score) / total * v[b, h // group, j] for score, j in nearest)
                    share = 1 / (1 + math.exp(-float(made.gate[h].detach())))
                    out[b, h, i] = share * found + (1 - share) * local[b, h, i]
    return out


@pytest.mark.parametrize(("count", "size"), [(None, 100), (100, 100), (3, 100), (2, 4), (1, 1), (None, 3)])
def test_memory_is_that_of_a_loop(count: int | None, size: int) -> None:
    torch.manual_seed(0)
    local, q = (torch.randn(2, 4, 9, 6, dtype=torch.double) for _ in range(2))
    k, v = (torch.randn(2, 2, 9, 6, dtype=torch.double) for _ in range(2))
    made = memory(count, size)
    torch.testing.assert_close(made(local, q, k, v, known(9)), by_hand(made, local, q, k, v), **EXACT)


def test_all_neighbours_are_full_attention_over_the_past() -> None:
    """torch's own kernel, under a mask of the past that the window leaves out, with an open gate."""
    torch.manual_seed(0)
    local, q, k, v = (torch.randn(2, 4, 9, 6, dtype=torch.double) for _ in range(4))
    made = memory(None, 100)
    torch.nn.init.constant_(made.gate, 50.0)
    torch.nn.init.constant_(made.scale, 7.0)
    past = torch.ones(9, 9, dtype=torch.bool).tril(-WINDOW)
    unit = [x / x.norm(dim=-1, keepdim=True) for x in (q, k)]
    full = torch.nn.functional.scaled_dot_product_attention(*unit, v, attn_mask=past, scale=7.0)
    found = made(local, q, k, v, known(9))
    torch.testing.assert_close(found[:, :, WINDOW:], full[:, :, WINDOW:], **EXACT)
    assert torch.equal(found[:, :, :WINDOW], local[:, :, :WINDOW])


def test_no_gradient_goes_into_the_memory() -> None:
    torch.manual_seed(0)
    local, q, k, v = (torch.randn(1, 2, 6, 4, dtype=torch.double, requires_grad=True) for _ in range(4))
    memory(2, 100, num_heads=2)(local, q, k, v, known(6)).sin().sum().backward()
    assert k.grad is None and v.grad is None
    assert q.grad is not None and q.grad[:, :, WINDOW + 1 :].abs().min() > 0


def test_packed_padded_and_alone_are_the_same() -> None:
    made, lengths = whole(count=2), [3, 8, 0, 1, 5]
    batch, found = text_batch(lengths), []
    for each in (batch, batch.packed()):
        made.zero_grad()
        states = made(each)
        (states.hidden * states.valid[..., None]).sin().sum().backward()
        gradients = {name: parameter.grad for name, parameter in made.named_parameters()}
        assert all(gradient is not None and gradient.isfinite().all() for gradient in gradients.values())
        found.append((states.hidden * states.valid[..., None], gradients))
    torch.testing.assert_close(found[0], found[1], **EXACT)
    for row, length in enumerate(lengths):
        alone = made(batch.select(slice(row, row + 1)))
        torch.testing.assert_close(alone.hidden[0, :length], found[0][0][row, :length], **EXACT)


def test_a_token_is_reached_that_windows_alone_do_not_reach() -> None:
    """Three layers whose windows reach two tokens see three tokens back."""
    ids = text_batch([8])["text"]["ids"]
    other = torch.cat([(ids[:, :1] + 1) % 11, ids[:, 1:]], dim=1)
    reached = []
    for made in (whole(), whole(size=1)):
        first, second = (
            made(text_batch([8]).with_name("text", {"ids": each}, torch.tensor([8]))).hidden for each in (ids, other)
        )
        reached.append(bool((first[0, 7] != second[0, 7]).any()))
    assert reached == [True, False]


def test_what_it_cannot_be_is_refused() -> None:
    body = {"layers": "M", "kinds": {"M": LayerKind(mixer=remembering())}}
    with pytest.raises(InvalidValue, match=r"kinds.M.mixer=Attention has a memory of .* and no window; .*window=64"):
        backbone(**body)
    with pytest.raises(InvalidValue, match=r"kinds.M.mixer=Attention reads tokens one after .* 'image' share"):
        seen = backbone(layers="M", kinds={"M": LayerKind(mixer=remembering(), window=2)})
        model({"image": image()}, seen).tokenize(image_batch([1]))
    with pytest.raises(InvalidValue, match=r"attention.neighbours=NeighbourMemory is of earlier tokens"):
        backbone(cross_attention=True, attention=remembering(), window=2, layers="L")
    for keys in ({"count": 0}, {"size": 0}):
        (key,) = keys
        with pytest.raises(InvalidValue, match=rf"neighbours.{key}=0 must be at least 1"):
            remembering(**keys)(24, 2)
    assert isinstance(remembering()(24, 2), Attention)
