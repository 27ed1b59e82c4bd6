"""The losses of experts against the functions of `transformers` and against counting; and who takes which."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from builders import (
    backbone,
    batch_of,
    encoder_decoder,
    experts,
    image,
    image_batch,
    image_spec,
    label_spec,
    merge,
    mlp,
    model,
    router,
    text,
    text_batch,
    text_spec,
)
from torch import Tensor

from mmtx.model import MultimodalTransformer
from mmtx.nn.layer_kind import LayerKind
from mmtx.objectives.base import Score
from mmtx.objectives.expert_balance import ExpertBalance
from mmtx.objectives.expert_loads import expert_loads, purity

SPECS = {"image": image_spec(), "text": text_spec(), "label": label_spec(3, ("cat", "dog", "owl"))}
LENGTHS = [3, 8, 0, 1, 5]


def objective(whole: MultimodalTransformer, **changes: Any) -> ExpertBalance:
    keys: dict[str, Any] = {"weight": 1.0, "balance": 0.01, "z": 0.001, "by": None}
    return ExpertBalance(specs=SPECS, model=whole, **{**keys, **changes})


def scored(whole: MultimodalTransformer, batch: Any) -> tuple[Score, dict[int, Tensor]]:
    """The score, and the logits of each layer's router."""
    logits: dict[int, Tensor] = {}
    for layer, block in enumerate(whole.backbone.blocks):
        if hasattr(block.mlp, "router"):
            keep = lambda module, args, routing, layer=layer: logits.update({layer: routing.logits})  # noqa: E731
            block.mlp.router.register_forward_hook(keep)
    with whole.sharing():
        whole(batch)
        return objective(whole)(whole, batch), logits


def of_transformers(logits: Tensor, mask: Tensor, top_k: int) -> Tensor:
    """`load_balancing_loss_func` of transformers 4.57 for one layer: E sum over slots and experts of f P, with the
    means over tokens that the mask leaves."""
    probability = logits.softmax(-1)
    chosen = torch.nn.functional.one_hot(probability.topk(top_k).indices, logits.shape[1]).float()
    weight = mask.flatten().float()
    share = (chosen * weight[:, None, None]).sum(0) / weight.sum()
    mean = (probability * weight[:, None]).sum(0) / weight.sum()
    return (share * mean[None]).sum() * logits.shape[1]


def test_losses_are_those_of_transformers() -> None:
    """Mixtral's balance with a mask, the mean over layers; and the z loss by its formula."""
    kinds = {"E": LayerKind(mlp=experts()), "G": LayerKind(mlp=mlp())}
    whole, batch = model({"text": text()}, backbone(layers="EG", num_layers=4, kinds=kinds)), text_batch(LENGTHS)
    score, logits = scored(whole, batch)
    mask = torch.arange(8) < torch.tensor(LENGTHS)[:, None]
    balance = sum(of_transformers(of_layer, mask, 2) for of_layer in logits.values()) / 2
    z = sum(of_layer[mask.flatten()].logsumexp(-1).square().mean() for of_layer in logits.values()) / 2
    assert sorted(logits) == [0, 2] and score.count == 4, "samples that have anything"
    metrics = objective(whole).metrics(score)
    assert metrics["balance"] == pytest.approx(float(balance), rel=1e-5)
    assert metrics["z"] == pytest.approx(float(z), rel=1e-5)
    assert metrics["loss"] == pytest.approx(0.01 * float(balance) + 0.001 * float(z), rel=1e-5)
    p = logits[2][mask.flatten()].softmax(-1)
    assert metrics["entropy/2"] == pytest.approx(float(-(p * p.log()).sum(-1).mean()), rel=1e-5)
    assert metrics["busiest/2"] == pytest.approx(int(p.topk(2).indices.flatten().bincount().max()) / (2 * mask.sum()))
    assert metrics.keys() - {"loss"} == objective(whole).directions.keys()


def test_it_runs_the_model_where_no_other_objective_has() -> None:
    whole, batch = model({"text": text()}, backbone(mlp=experts())), text_batch(LENGTHS)
    with whole.sharing():
        alone = objective(whole)(whole, batch)
    torch.testing.assert_close(alone.vector(), scored(whole, batch)[0].vector())


def test_metrics_are_of_all_batches_together() -> None:
    whole, batch = model({"text": text()}, backbone(mlp=experts())), text_batch(LENGTHS)
    together = objective(whole).metrics(scored(whole, batch)[0])
    parts = [scored(whole, batch.select(part))[0].totals() for part in (slice(0, 2), slice(2, 5))]
    added = objective(whole).metrics(parts[0] + parts[1])
    for name in ("busiest/0", "busiest/1", "entropy/1"):
        assert added[name] == pytest.approx(together[name], rel=1e-5)


def taken_by_hand(whole: MultimodalTransformer, batch: Any, by: Any) -> dict[str, Tensor]:
    """Loads of layers, with the group of a token by `by(sample, name)`."""
    chosen: dict[str, Tensor] = {}
    for layer, half in whole.feed_forwards.items():
        keep = lambda module, args, routing, layer=layer: chosen.update({layer: routing.chosen})  # noqa: E731
        half.router.register_forward_hook(keep)
    states = whole.run(whole.tokenize(batch))
    loads = {}
    for layer, of_layer in chosen.items():
        its = states.memory if layer.startswith("encoder.") else states
        loads[layer], experts_of = torch.zeros(3, 4, dtype=torch.long), of_layer.unflatten(0, (len(batch), -1))
        for name, span in its.spans.items():
            for sample, length in enumerate(its.lengths(name).tolist()):
                group = by(sample, name)
                for expert in experts_of[sample, span.start : span.start + length].flatten().tolist():
                    if group is not None:
                        loads[layer][group, expert] += 1
    return loads


@pytest.mark.parametrize("encode", [[], ["image"]])
def test_loads_of_names_and_of_classes(encode: list[str]) -> None:
    keys: dict[str, Any] = {"mlp": experts(), "num_layers": 2}
    whole = encoder_decoder({"image": image(), "text": text()}, encode, encoder=keys, **keys)
    label = batch_of({"label": {"class": torch.tensor([2, 0, 1, 0, 2])}}, {"label": [1, 1, 1, 0, 1]})
    batch = merge(image_batch([1, 0, 1, 1, 0]), text_batch(LENGTHS), label)
    names, loads = expert_loads(whole, batch)
    assert names == ["image", "text"] and len(loads) == (4 if encode else 2)
    for layer, by_hand in taken_by_hand(whole, batch, lambda sample, name: names.index(name)).items():
        assert loads[layer].equal(by_hand[:2]), layer
    classes, loads = expert_loads(whole, batch, "label", ("cat", "dog", "owl"))
    own = [2, 0, 1, None, 2]
    assert classes == ["cat", "dog", "owl"]
    for layer, by_hand in taken_by_hand(whole, batch, lambda sample, name: own[sample]).items():
        assert loads[layer].equal(by_hand), layer


def test_purity() -> None:
    """1 where experts are of one group each, however large; one over the number of groups where all are alike."""
    assert purity(torch.tensor([[5, 5, 0, 0], [0, 0, 100, 0], [0, 0, 0, 3]])) == 1
    assert purity(torch.tensor([[1, 2, 1], [10, 20, 10], [0, 0, 0]])) == 0.5
    assert purity(torch.tensor([[3, 1], [1, 1]])) == pytest.approx((0.75 + 0.5) / 2)


@pytest.mark.parametrize("by", [None, "label"])
def test_they_are_drawn(by: str | None, tmp_path: Path) -> None:
    whole = model({"image": image(), "text": text()}, backbone(mlp=experts(router=router(bias_rate=0.1))))
    label = batch_of({"label": {"class": torch.tensor([2, 0])}}, {"label": [1, 1]})
    batch = merge(image_batch([1, 0]), text_batch([3, 2]), label)
    objective(whole, by=by).plot(whole, batch, tmp_path / "loads.png")
    assert (tmp_path / "loads.png").stat().st_size > 1000


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"balance": -1.0}, "balance=-1.0 must be at least 0"),
        ({"z": -1.0}, "z=-1.0 must be at least 0"),
        ({"by": "text"}, "by=text has no class for each sample"),
        ({"by": "nobody"}, "by=nobody names no part of the data"),
    ],
)
def test_what_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        objective(model({"text": text()}, backbone(mlp=experts())), **changes)
