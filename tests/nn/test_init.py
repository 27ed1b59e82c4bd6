"""Initial weights: their statistics, and where they are scaled down."""

from __future__ import annotations

from math import sqrt

import pytest
import torch
from builders import POSITIONS, attention, backbone, image, mlp, model, text, text_spec
from torch import nn

from mmtx.nn.init import initialise


def std(weight: torch.Tensor) -> float:
    return weight.detach().std().item()


@pytest.fixture
def body() -> nn.Module:
    torch.manual_seed(0)
    wide = {"dim": 128, "num_layers": 4, "num_heads": 4, "attention": attention(num_kv_heads=2), "mlp": mlp(gated=True)}
    return backbone(**wide, init_std=0.02, positions=POSITIONS["t5"], layer_scale=0.1)


def test_every_weight_has_its_spread(body: nn.Module) -> None:
    """N(0, 0.02²), and 0.02 / sqrt(2 · 4 layers) where a block writes to the residual stream."""
    seen = set()
    for name, parameter in body.named_parameters():
        if name.endswith(("attention.out.weight", "mlp.down.weight")):
            assert std(parameter) == pytest.approx(0.02 / sqrt(8), rel=0.05), name
            seen.add("residual")
        elif name.endswith(("qkv.weight", "up.weight")):
            assert std(parameter) == pytest.approx(0.02, rel=0.05), name
            assert parameter.mean().abs() < 0.001
            seen.add("linear")
        elif name == "position_bias.table.weight":
            assert std(parameter) == pytest.approx(0.02, rel=0.4)
            seen.add("bias table")
        elif "norm.weight" in name:
            assert (parameter == 1).all(), name
        elif name.endswith(".scale"):
            assert (parameter == torch.tensor(0.1)).all(), name
            seen.add("scale")
        else:
            assert not parameter.any(), name  # biases
            seen.add("zero")
    assert seen == {"residual", "linear", "bias table", "scale", "zero"}


def test_tokenizers_places_and_types() -> None:
    tokenizers = {
        "image": image(dim=128, summary=True, num_registers=30),
        "text": text(text_spec(200, 50), dim=128),
    }
    whole = model(tokenizers, backbone(dim=128, init_std=0.05, positions=POSITIONS["learned"]))
    weights = {
        "embedding": whole.tokenizers["text"].embedding.weight,
        "positions": whole.position_embeddings["text"].table.weight,
        "types": torch.cat(list(whole.type_embeddings.values())),
        "projection": whole.tokenizers["image"].projection.weight,
    }
    for name, weight in weights.items():
        assert std(weight) == pytest.approx(0.05, rel=0.1), name
    assert not whole.tokenizers["image"].projection.bias.any()
    assert std(whole.tokenizers["image"].readouts) == pytest.approx(0.02, rel=0.1)


def test_a_single_module_is_initialised_too() -> None:
    head = nn.Linear(300, 100)
    initialise(head, std=0.1)
    assert std(head.weight) == pytest.approx(0.1, rel=0.05)
    assert not head.bias.any()
