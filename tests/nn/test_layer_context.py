"""What a layer knows of the tokens besides their vectors."""

from __future__ import annotations

from dataclasses import FrozenInstanceError

import pytest
import torch
from builders import backbone, layer_context, model, text, text_batch

from mmtx.nn.layer_context import LayerContext
from mmtx.tokens import pack


def context_of(lengths: list[int], *, packed: bool) -> LayerContext:
    """As the first block gets it."""
    whole, seen = model({"text": text()}, backbone()), []
    whole.backbone.blocks[0].register_forward_pre_hook(lambda block, args: seen.append(args[1]))
    batch = text_batch(lengths)
    whole(batch.packed() if packed else batch)
    return seen[0]


def test_where_samples_start() -> None:
    """A packed row of 2, 3 and 1 tokens; a padded row of each; the same with what a cache holds already."""
    packed = context_of([2, 3, 0, 1], packed=True)
    assert packed.starts.int().tolist() == [[1, 0, 1, 0, 0, 1]]
    assert packed.valid.all() and packed.segment.tolist() == [[0, 0, 1, 1, 1, 3]]
    padded = context_of([2, 3, 0, 1], packed=False)
    assert padded.starts.int().tolist() == [[1, 0, 0]]
    assert padded.valid.sum(1).tolist() == [2, 3, 0, 1]
    assert layer_context(length=2, past=3).starts.int().tolist() == [[0, 0]]


def test_samples_in_rows_and_back() -> None:
    token_set = model({"text": text()}).tokenize(text_batch([2, 3, 0, 1]).packed())
    row, context = pack(token_set).content, context_of([2, 3, 0, 1], packed=True)
    samples = context.samples(row)
    for number, length in enumerate([2, 3, 0, 1]):
        assert samples[number, :length].equal(token_set.content[number, :length])
    assert context.joined(samples).equal(row)
    alone = torch.randn(2, 5, 4)
    assert layer_context().joined(layer_context().samples(alone)) is alone


def test_nothing_in_it_changes() -> None:
    with pytest.raises(FrozenInstanceError):
        layer_context().past = 3
