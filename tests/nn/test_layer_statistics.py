"""Statistics of layers: what a layer may count, and what comes of it."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch
from builders import (
    KINDS,
    attention,
    backbone,
    encoder_decoder,
    image,
    image_batch,
    layer_context,
    merge,
    model,
    text,
    text_batch,
)
from torch import Tensor, nn

from mmtx.nn.attention import Attention
from mmtx.nn.feed_forward import FeedForward
from mmtx.nn.layer_context import LayerContext
from mmtx.nn.layer_kind import LayerKind


class Counting(FeedForward):
    def __init__(self, dim: int) -> None:
        super().__init__()
        self.linear = nn.Linear(dim, dim)

    def forward(self, x: Tensor, context: LayerContext) -> Any:
        added = self.linear(x)
        return added, {
            "tokens": context.sum_over_tokens(torch.ones_like(x[..., 0])),
            "sum": context.sum_over_tokens(added),
        }


class CountingAttention(Attention):
    def forward(self, x: Tensor, context: LayerContext, **given: Any) -> Any:
        return super().forward(x, context, **given), {"tokens": x.new_ones(())}


COUNTING = partial(CountingAttention, **attention().keywords)
LAYERS: dict[str, Any] = {"layers": "GC", "kinds": {**KINDS, "C": LayerKind(mlp=Counting)}}


def test_sums_are_over_real_tokens() -> None:
    """Of numbers and flags, where rows share what is valid, and in at least float32."""
    valid = torch.tensor([[True, True, False]])
    context = LayerContext(
        rendering=layer_context().rendering, valid=valid, segment=torch.zeros(1, 3, dtype=torch.long)
    )
    values = torch.arange(12.0).view(2, 3, 2)
    assert context.sum_over_tokens(values).tolist() == [0 + 2 + 6 + 8, 1 + 3 + 7 + 9]
    assert context.sum_over_tokens(values[..., 0] > 1).item() == 3
    thousands = context.sum_over_tokens(torch.full((500, 3), 1.0, dtype=torch.bfloat16))
    assert thousands.dtype == torch.float32 and thousands.item() == 1000
    assert context.sum_over_tokens(values.double()).dtype == torch.float64


@pytest.mark.parametrize("packed", [False, True])
def test_a_model_has_them_by_layer(packed: bool) -> None:
    whole, batch = model({"text": text()}, backbone(num_layers=4, **LAYERS)), text_batch([3, 0, 5])
    batch = batch.packed() if packed else batch
    with whole.sharing():
        whole(batch)
        whole(batch)  # the same pass
        found = dict(whole.statistics)
        whole.run(whole.tokenize(text_batch([2])))
        twice = dict(whole.statistics)
    assert found.keys() == {"tokens/1", "sum/1", "tokens/3", "sum/3"}
    assert found["tokens/1"] == found["tokens/3"] == 8 and twice["tokens/3"] == 10
    assert found["sum/3"].requires_grad
    whole(batch)
    assert not whole.statistics, "outside, nothing is kept"


def test_those_of_an_encoder_have_its_name() -> None:
    tokenizers = {"image": image(), "text": text()}
    whole = encoder_decoder(tokenizers, ["image"], encoder=LAYERS, **LAYERS)
    batch = merge(image_batch([1, 1, 0]), text_batch([3, 4, 2]))
    with whole.sharing():
        whole(batch)
        counts = {name: value.item() for name, value in whole.statistics.items() if name.startswith("tokens")}
    assert counts == {"tokens/encoder.1": 8, "tokens/1": 9}, "two pictures of four patches"


def test_layers_without_any_give_tokens_alone() -> None:
    whole, batch = model({"text": text()}, backbone()), text_batch([3, 5])
    with whole.sharing():
        whole(batch)
        assert not whole.statistics
    kinds = {**KINDS, "C": LayerKind(mlp=Counting)}
    with_context = backbone(layers="C", kinds=kinds).blocks[0]
    x = torch.randn(2, 5, 24)
    assert isinstance(whole.backbone.blocks[0](x, layer_context()), Tensor)
    assert isinstance(with_context(x, layer_context()), tuple)


def test_a_mixer_may_have_some_under_other_names_than_the_feed_forward() -> None:
    counting = backbone(attention=COUNTING)
    x = torch.randn(2, 5, 24)
    tokens, found = counting.blocks[0](x, layer_context())
    assert tokens.shape == x.shape and found == {"tokens": 1}
    both = backbone(attention=COUNTING, mlp=Counting)
    with pytest.raises(ValueError, match="both have the statistic 'tokens'"):
        both.blocks[0](x, layer_context())
