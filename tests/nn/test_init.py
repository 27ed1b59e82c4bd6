"""Initial weights: their statistics, and where they are scaled down."""

from __future__ import annotations

from math import sqrt

import pytest
import torch
from builders import POSITIONS, attention, backbone, image, image_spec, mlp, model, text, text_spec
from torch import nn

from mmtx.nn.backbone import Backbone
from mmtx.nn.init import initialise


def std(weight: torch.Tensor) -> float:
    return weight.detach().std().item()


@pytest.fixture
def body() -> Backbone:
    wide = {"dim": 128, "num_layers": 4, "num_heads": 4, "attention": attention(num_kv_heads=2), "mlp": mlp(gated=True)}
    return backbone(**wide, init_std=0.02, positions=POSITIONS["t5"], layer_scale=0.1)


def test_every_weight_has_its_spread(body: Backbone) -> None:
    """0.02 at a fan-in of 768, and less by sqrt(2 · 4 layers) where a block writes to the residual stream."""
    at_128, at_256 = 0.02 * sqrt(768 / 128), 0.02 * sqrt(768 / 256)
    expected = {
        "attention.qkv.weight": at_128,
        "attention.out.weight": at_128 / sqrt(8),
        "mlp.up.weight": at_128,
        "mlp.down.weight": at_256 / sqrt(8),
    }
    seen = set()
    for name, parameter in body.named_parameters():
        kind = ".".join(name.split(".")[-3:])
        if kind in expected:
            assert std(parameter) == pytest.approx(expected[kind], rel=0.05), name
            assert parameter.mean().abs() < 0.1 * expected[kind], name
            seen.add(kind)
        elif name == "position_bias.table.weight":
            assert std(parameter) == pytest.approx(0.02, rel=0.4)
        elif "norm.weight" in name:
            assert (parameter == 1).all(), name
        elif name.endswith(".scale"):
            assert (parameter == torch.tensor(0.1)).all(), name
        else:
            assert "bias" in name
            assert not parameter.any(), name
    assert seen == expected.keys()


class Experts(nn.Module):
    writes_residual = ("experts.*.2.weight",)

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.experts = nn.ModuleList(nn.Sequential(nn.Linear(dim, 300), nn.GELU(), nn.Linear(300, dim)) for _ in "ab")

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return sum(expert(x) for expert in self.experts)  # type: ignore[return-value]


def test_ones_own_layer_says_what_writes_to_the_stream() -> None:
    body = backbone(dim=64, num_layers=8, mlp=Experts, init_std=0.02)
    for layer in (0, 7):
        first, _, last = body.blocks[layer].mlp.experts[1]
        assert std(first.weight) == pytest.approx(0.02 * sqrt(768 / 64), rel=0.05)
        assert std(last.weight) == pytest.approx(0.02 * sqrt(768 / 300) / sqrt(2 * 8), rel=0.05)


def test_the_stream_keeps_its_size_over_the_depth() -> None:
    """Every half adds as much as every other, whatever the width, and all together about one layer's worth."""
    sizes = []
    for num_layers in (2, 8):
        body = backbone(dim=64, num_heads=4, num_layers=num_layers, init_std=0.02, final_norm=False)
        added = [block.mlp(nn.functional.layer_norm(torch.randn(1, 200, 64), (64,))) for block in body.blocks]
        sizes.append(torch.stack(added).square().sum(0).mean().sqrt().item())
    assert sizes[0] == pytest.approx(sizes[1], rel=0.2)


def test_tokenizers_places_and_types() -> None:
    tokenizers = {
        "image": image(image_spec(3), dim=128, summary=True, num_registers=30),
        "text": text(text_spec(200, 50), dim=128),
    }
    whole = model(tokenizers, backbone(dim=128, init_std=0.05, positions=POSITIONS["learned"]))
    weights = {
        "embedding": whole.tokenizers["text"].embedding.weight,
        "positions": whole.position_embeddings["text"].table.weight,
        "types": torch.cat(list(whole.type_embeddings.values())),
    }
    for name, weight in weights.items():
        assert std(weight) == pytest.approx(0.05, rel=0.1), name
    projection = whole.tokenizers["image"].projection
    assert std(projection.weight) == pytest.approx(0.05 * sqrt(768 / 48), rel=0.1), "48 pixels of a patch go in"
    assert not projection.bias.any()
    assert std(whole.tokenizers["image"].readouts) == pytest.approx(0.02, rel=0.1)


def test_convolutions_count_all_that_goes_in() -> None:
    conv = nn.Conv2d(3, 200, kernel_size=4)
    initialise(conv, std=0.02)
    assert std(conv.weight) == pytest.approx(0.02 * sqrt(768 / 48), rel=0.05)
    assert conv.bias is not None
    assert not conv.bias.any()


def test_a_linear_map_without_a_bias() -> None:
    head = nn.Linear(300, 100, bias=False)
    initialise(head, std=0.1)
    assert std(head.weight) == pytest.approx(0.1 * sqrt(768 / 300), rel=0.05)
