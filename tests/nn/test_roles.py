"""What each parameter is for: of three families by a list written by hand, of torch's layers, and of one's own."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import pytest
import torch
from builders import (
    POSITIONS,
    Letters,
    attention,
    audio,
    audio_spec,
    backbone,
    encoder_decoder,
    image,
    image_spec,
    label_spec,
    mlp,
    model,
    seq2seq,
    text,
    text_spec,
)
from torch import nn

from mmtx.errors import UserError
from mmtx.learner import Learner
from mmtx.nn.low_rank import LoRA
from mmtx.nn.roles import Role, known_roles, roles_of, rows_of
from mmtx.objectives.classify import Classify
from mmtx.objectives.next_token import NextToken
from mmtx.objectives.pooling import FirstPool

BLOCK = {
    "attention_norm.weight": "gain",
    "attention_norm.bias": "bias",
    "attention.qkv.weight": "matrix",
    "attention.biases.query": "bias",
    "attention.biases.key": "bias",
    "attention.biases.value": "bias",
    "attention.out.weight": "matrix",
    "attention.out.bias": "bias",
    "mlp_norm.weight": "gain",
    "mlp_norm.bias": "bias",
    "mlp.up.weight": "matrix",
    "mlp.up.bias": "bias",
    "mlp.down.weight": "matrix",
    "mlp.down.bias": "bias",
}
CROSS = {name.replace("attention", "cross_attention"): role for name, role in BLOCK.items() if "attention" in name}
STACK = {f"blocks.0.{name}": role for name, role in BLOCK.items()} | {
    "final_norm.weight": "gain",
    "final_norm.bias": "bias",
}


def under(path: str, listing: Mapping[str, str]) -> dict[str, str]:
    return {f"{path}.{name}": role for name, role in listing.items()}


def test_of_a_gpt() -> None:
    whole = model({"text": text()}, backbone(num_layers=1, positions=POSITIONS["learned"]))
    specs = {"text": text_spec()}
    head = NextToken(
        specs=specs, model=whole, weight=1.0, text="text", tied=False, logit_scale=1.0, label_smoothing=0.0
    )
    assert roles_of(Learner(model=whole, objectives={"next": head}, specs=specs)) == {
        "model.tokenizers.text.embedding.weight": "embedding",
        "model.type_embeddings.text": "embedding",
        "model.position_embeddings.text.table.weight": "position",
        **under("model.backbone", STACK),
        "objectives.next.head.projection.weight": "head",
    }


def test_of_a_vit() -> None:
    body = backbone(num_layers=1, positions=POSITIONS["t5"], layer_scale=0.1)
    whole = model({"image": image(summary=True)}, body)
    specs = {"image": image_spec(), "label": label_spec()}
    keys: dict[str, Any] = {"pooler": True, "label_smoothing": 0.0, "mixup": 0.0, "dropout": 0.0}
    keys |= {"class_weights": None, "slices": []}
    head = Classify(specs=specs, model=whole, weight=1.0, label="label", pool=FirstPool(name="image"), **keys)
    assert roles_of(Learner(model=whole, objectives={"kind": head}, specs=specs)) == {
        "model.tokenizers.image.projection.weight": "input",
        "model.tokenizers.image.projection.bias": "bias",
        "model.tokenizers.image.readouts": "token",
        "model.type_embeddings.image": "embedding",
        "model.backbone.position_bias.table.weight": "position",
        **under("model.backbone", STACK),
        "model.backbone.blocks.0.attention_add.scale": "gain",
        "model.backbone.blocks.0.mlp_add.scale": "gain",
        "objectives.kind.pooler.0.weight": "matrix",
        "objectives.kind.pooler.0.bias": "bias",
        "objectives.kind.head.weight": "head",
        "objectives.kind.head.bias": "bias",
    }


def test_of_a_whisper() -> None:
    tokenizers = {"audio": audio(), "text": text()}
    whole = encoder_decoder(tokenizers, ["audio"], encoder={"num_layers": 1}, num_layers=1, type_embeddings=False)
    specs = {"audio": audio_spec(), "text": text_spec(vocabulary=Letters())}
    learner = Learner(model=whole, objectives={"write": seq2seq(whole, specs)}, specs=specs)
    stem = {f"conv{n}.{part}": role for n in (1, 2) for part, role in (("weight", "filter"), ("bias", "bias"))}
    assert roles_of(learner) == {
        **under("model.tokenizers.audio.stem", stem),
        "model.tokenizers.audio.stem.conv1.weight": "input",
        "model.tokenizers.text.embedding.weight": "embedding",
        **under("model.backbone", STACK),
        **under("model.backbone.blocks.0", CROSS),
        **under("model.encoder", STACK),
    }


@pytest.mark.parametrize(
    ("layer", "roles"),
    [
        (nn.Conv2d(2, 3, 1), {"weight": "filter", "bias": "bias"}),
        (nn.ConvTranspose1d(2, 3, 1), {"weight": "filter", "bias": "bias"}),
        (nn.Embedding(2, 3), {"weight": "embedding"}),
        (nn.BatchNorm1d(2), {"weight": "gain", "bias": "bias"}),
        (nn.RMSNorm(2), {"weight": "gain"}),
        (nn.PReLU(), {"weight": "gain"}),
        (
            nn.GRU(2, 3),
            {"weight_ih_l0": "matrix", "weight_hh_l0": "matrix", "bias_ih_l0": "bias", "bias_hh_l0": "bias"},
        ),
    ],
    ids=lambda value: type(value).__name__,
)
def test_of_torchs_layers(layer: nn.Module, roles: dict[str, Role]) -> None:
    assert roles_of(layer) == roles


def test_matrices_that_are_stored_together() -> None:
    """Query, key and value give what three linear maps give; a gate and its value, two."""
    whole = attention(num_kv_heads=1)(24, 2)
    assert rows_of(whole) == {"qkv.weight": {"query": 24, "key": 12, "value": 12}}
    gated = mlp(gated=True)(24)
    assert rows_of(gated) == {"up.weight": {"gate": 48, "value": 48}} and rows_of(mlp()(24)) == {}
    assert sum(rows_of(gated)["up.weight"].values()) == len(gated.up.weight)
    lstm = nn.LSTM(2, 3, num_layers=2, proj_size=1)
    assert all(sum(rows.values()) == len(lstm.get_parameter(name)) for name, rows in rows_of(lstm).items())
    assert len(rows_of(lstm)) == 4


def test_the_outermost_decides() -> None:
    class Inner(nn.Module):
        roles = {"offset": "bias", "map.weight": "matrix"}

        def __init__(self) -> None:
            super().__init__()
            self.offset, self.map = nn.Parameter(torch.zeros(2)), nn.Linear(2, 2)

    class Outer(nn.Module):
        roles = {"inner.m*.weight": "head"}

        def __init__(self) -> None:
            super().__init__()
            self.inner = Inner()

    expected = {"inner.offset": "bias", "inner.map.weight": "head", "inner.map.bias": "bias"}
    assert roles_of(Outer()) == expected


def test_a_weight_keeps_its_role_under_low_rank_updates() -> None:
    whole = nn.Sequential(nn.Linear(2, 3))
    LoRA(rank=1, alpha=1.0, targets=["0"]).add(whole)
    updates = {f"0.parametrizations.weight.0.{name}": "update" for name in ("down", "up")}
    assert roles_of(whole) == {"0.bias": "bias", "0.parametrizations.weight.original": "matrix", **updates}


def test_a_parameter_without_a_role_is_named() -> None:
    class Bare(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.offset = nn.Parameter(torch.zeros(2))

    whole = nn.Sequential(nn.Linear(2, 2), Bare())
    message = "parameter 1.offset of Bare has no role: declare roles = {'offset': ROLE} in that class"
    with pytest.raises(UserError, match=re.escape(message)):
        roles_of(whole)
    assert known_roles(whole) == {"0.weight": "matrix", "0.bias": "bias"}
    Bare.roles = {"offset": "wing"}  # type: ignore[attr-defined]
    with pytest.raises(UserError, match="parameter 1.offset of Bare has the role 'wing'; a role is one of matrix, "):
        roles_of(whole)
