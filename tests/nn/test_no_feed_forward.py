"""Layers without a feed-forward half."""

from __future__ import annotations

from math import sqrt

import pytest
import torch
from builders import KINDS, backbone, layer_context

from mmtx.nn.layer_kind import LayerKind
from mmtx.nn.no_feed_forward import NoFeedForward


@pytest.mark.parametrize("place", ["before", "after", "branch", "both"])
def test_a_layer_is_its_mixer_alone(place: str) -> None:
    body = backbone(mlp=NoFeedForward, norm_place=place, num_layers=1)
    block, x = body.blocks[0], torch.randn(2, 5, 24)
    assert {name.partition(".")[0] for name, _ in block.named_parameters()} <= {
        *("attention", "attention_norm", "attention_branch_norm")
    }
    before = block.attention_norm(x) if place in ("before", "both") else x
    added = block.attention(before, layer_context(length=5))
    added = {"branch": block.attention_norm}.get(place, lambda a: a)(added)
    added = block.attention_branch_norm(added) if place == "both" else added
    expected = block.attention_norm(x + added) if place == "after" else x + added
    torch.testing.assert_close(block(x, layer_context(length=5)), expected)


def test_what_is_added_begins_as_large_as_fits_the_number_of_halves() -> None:
    """Here six: of four layers two have both."""
    kinds = {**KINDS, "M": LayerKind(mlp=NoFeedForward)}
    body = backbone(dim=128, num_layers=4, layers="MG", kinds=kinds, init_std=0.02)
    assert [block.halves for block in body.blocks] == [["attention"], ["attention", "mlp"]] * 2
    for block in body.blocks:
        assert block.attention.out.weight.std().item() == pytest.approx(0.02 * sqrt(768 / 128 / 6), rel=0.05)
