"""Width scaling: the standard model at the base, and activations of one size at every other width."""

from collections import defaultdict
from math import log, sqrt
from typing import Any

import pytest
import torch
from builders import (
    POSITIONS,
    attention,
    backbone,
    encoder_decoder,
    image,
    image_spec,
    label_spec,
    model,
    text,
    text_spec,
)
from torch import nn

from mmtx.batch import fake_batch
from mmtx.errors import InvalidValue
from mmtx.learner import Learner
from mmtx.nn.width import shrink_heads
from mmtx.objectives.classify import Classify
from mmtx.objectives.masked_token import MaskedToken
from mmtx.objectives.next_token import NextToken
from mmtx.objectives.pooling import MeanPool
from mmtx.training.parameter_groups import groups_by_role, merged

WIDTHS = (32, 64, 128, 256)


def writer(dim: int, base_width: int | None, *, tied: bool, seed: int = 0, **changes: Any) -> Learner:
    specs = {"text": text_spec(50, 16)}
    body = backbone(dim=dim, base_width=base_width, init_std=0.02, positions=POSITIONS["learned"], seed=seed, **changes)
    whole = model({"text": text(specs["text"], dim=dim)}, body, seed=seed)
    head = NextToken(specs=specs, model=whole, weight=1.0, text="text", tied=tied, logit_scale=1.0, label_smoothing=0.0)
    return shrunk(Learner(model=whole, objectives={"next": head}, specs=specs))


def shrunk(learner: Learner) -> Learner:
    shrink_heads(learner)
    return learner


def losses(learner: Learner, lr: float, num_steps: int) -> list[float]:
    optimizer = torch.optim.AdamW(merged(groups_by_role(learner, lr, {}, 0.1)), lr=lr, betas=(0.9, 0.99))
    batch, found = fake_batch(learner.specs, 16, ragged=False), []
    for _ in range(num_steps):
        score = learner(batch)["next"]
        found.append((score.loss_sum / score.count).item())
        optimizer.zero_grad()
        (score.loss_sum / score.count).backward()
        optimizer.step()
    return found


def sizes(learner: Learner, lr: float) -> dict[str, float]:
    """The mean absolute value of what halves of layers add, of the stream and of the scores, after three steps."""
    losses(learner, lr, 3)
    found, batch = {}, fake_batch(learner.specs, 16, ragged=False)
    for name, module in learner.model.backbone.named_modules():
        if name.endswith(("attention.out", "mlp.down", "blocks.1")):
            module.register_forward_hook(
                lambda _module, _inputs, output, name=name: found.update({name: output.abs().mean().item()})
            )
    with torch.no_grad():
        hidden = learner.model(batch).tokens("text")
        scores = learner.objective("next").head.logits(learner.model, hidden)
    return {**found, "scores": scores.abs().mean().item()}


def growth(base_width: int | None, *, tied: bool) -> dict[str, float]:
    """The slope of the logarithm of each size in that of the width."""
    logs: dict[str, list[float]] = defaultdict(list)
    for dim in WIDTHS:
        of_seeds = [sizes(writer(dim, base_width, tied=tied, seed=seed), lr=0.01) for seed in (0, 1)]
        for name in of_seeds[0]:
            logs[name].append(sum(log(of_seed[name]) for of_seed in of_seeds) / 2)
    x = torch.tensor([log(dim) for dim in WIDTHS])
    x = x - x.mean()
    return {name: float(x @ torch.tensor(y) / (x @ x)) for name, y in logs.items()}


@pytest.mark.parametrize("tied", [True, False], ids=["tied", "own"])
def test_activations_are_flat_over_widths(tied: bool) -> None:
    scaled, standard = growth(32, tied=tied), growth(None, tied=tied)
    assert len(scaled) == 6
    assert max(map(abs, scaled.values())) < 0.35, scaled
    assert min(standard[name] for name in standard if name != "scores") > 0.45, standard  # about 1 where m features add


def test_the_base_is_the_standard_model_bit_for_bit() -> None:
    for tied in (True, False):
        one, other = writer(32, 32, tied=tied), writer(32, None, tied=tied)
        assert losses(one, 0.01, 3) == losses(other, 0.01, 3)
        assert all(torch.equal(p, other.get_parameter(name)) for name, p in one.named_parameters())


class Tower(nn.Module):
    """What the package mup was asked about: dim 128 on a base of 32, initial spread 0.02 · sqrt(768 / fan-in)."""

    roles = {"enter.weight": "input", "head.weight": "head"}

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.embed, self.enter, self.norm = nn.Embedding(50, dim), nn.Linear(48, dim), nn.LayerNorm(dim)
        self.hidden, self.head = nn.Linear(dim, 4 * dim), nn.Linear(dim, 50)
        self.width_ratio = dim / 32


def test_variances_rates_and_decays_are_those_of_mup() -> None:
    """mup 1.0.0, `MuAdamW(lr=0.01, weight_decay=0.1)`. Its head has twice the spread, the rate 0.01 and the decay 0.1,
    and divides its outputs by 4: under Adam half the spread and a quarter of the rate, of which 0.1 % decays."""
    tower = Tower(128)
    before = {name: float(p.detach().std()) for name, p in tower.named_parameters() if p.dim() == 2}
    shrink_heads(tower)
    spreads = {name: round(float(tower.get_parameter(name).detach().std()) / std, 4) for name, std in before.items()}
    assert spreads == {"embed.weight": 1.0, "enter.weight": 1.0, "hidden.weight": 1.0, "head.weight": 2.0 / 4}
    names = {parameter: name for name, parameter in tower.named_parameters()}
    groups = groups_by_role(tower, 0.01, {}, 0.1)
    found = {names[p]: (group["lr"], group["weight_decay"]) for group in groups for p in group["params"]}
    assert found["hidden.weight"] == found["head.weight"] == (0.0025, 0.4)
    assert found["enter.weight"] == (0.01, 0.1)
    rest = found.keys() - {"hidden.weight", "head.weight", "enter.weight"}
    assert {found[name] for name in rest} == {(0.01, 0.0)}
    assert [len(group["params"]) for group in merged(groups)] == [2, 1, 6]


def test_scores_of_attention() -> None:
    """1 / head_dim, and 1 / sqrt(head_dim) at the base; by its definition, query by query."""
    q, k = torch.randn(2, 1, 2, 5, 16).unbind()
    whole = attention()(32, 2)
    assert whole.scale is None
    whole.scale_scores(8)  # heads of width 4 there
    ours = nn.functional.scaled_dot_product_attention(q, k, k, scale=whole.scale)
    torch.testing.assert_close(ours, (sqrt(4) * q @ k.mT / 16).softmax(-1) @ k)
    more_heads, unscaled = attention(head_dim=16)(32, 2), attention(scale=False)(32, 2)
    more_heads.scale_scores(16), unscaled.scale_scores(8)
    assert more_heads.scale is None and unscaled.scale == 1 / 4
    both = encoder_decoder(
        {"audio": image(dim=24), "text": text()}, ["audio"], encoder={"base_width": 12}, base_width=12
    )
    assert both.backbone.blocks[0].cross_attention.scale == both.backbone.blocks[0].attention.scale == 6**-0.5 / 2


def test_scores_of_ids_by_a_tied_embedding() -> None:
    narrow, wide = writer(32, 32, tied=True), writer(32, 8, tied=True)
    hidden = torch.randn(3, 32)
    one, other = (each.objective("next").head.logits(each.model, hidden) for each in (narrow, wide))
    torch.testing.assert_close(one / 4, other)
    masked = []
    for base_width in (None, 6):
        specs = {"text": text_spec()}
        whole = model({"text": text(causal=False)}, backbone(base_width=base_width))
        keys: dict[str, Any] = {"mask": 0, "share": 0.5, "activation": nn.GELU(), "norm_eps": 1e-5}
        head = MaskedToken(specs=specs, model=whole, weight=1.0, text="text", **keys)
        masked.append(head.logits(whole, torch.ones(1, 24)))
    torch.testing.assert_close(masked[0] / 4, masked[1])


def test_a_head_of_classes() -> None:
    heads = []
    for base_width in (None, 6):
        specs = {"image": image_spec(), "label": label_spec()}
        whole = model({"image": image()}, backbone(base_width=base_width))
        keys: dict[str, Any] = {"pooler": True, "label_smoothing": 0.0, "mixup": 0.0, "dropout": 0.0}
        keys |= {"class_weights": None, "slices": []}
        head = Classify(specs=specs, model=whole, weight=1.0, label="label", pool=MeanPool(), **keys)
        heads.append(shrunk(Learner(model=whole, objectives={"kind": head}, specs=specs)).objective("kind"))
    torch.testing.assert_close(heads[0].head.weight / 2, heads[1].head.weight)
    torch.testing.assert_close(heads[0].pooler[0].weight, heads[1].pooler[0].weight)


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"base_width": 0}, "base_width=0 must be at least 1"),
        ({"base_width": 15}, "base_width=15 is not a multiple of num_heads=2"),
        (
            {"base_width": 16, "attention": attention(head_dim=12)},
            "base_width=16 would have 1.33333 heads of attention.head_dim=12, for num_heads=2 here",
        ),
    ],
)
def test_what_is_refused(changes: dict[str, Any], problem: str) -> None:
    with pytest.raises(InvalidValue, match=problem):
        backbone(**changes)


def test_both_stacks_have_one_base() -> None:
    with pytest.raises(InvalidValue, match="encoder.base_width=None must equal backbone.base_width=12"):
        encoder_decoder({"audio": image(), "text": text()}, ["audio"], encoder={"base_width": None}, base_width=12)
