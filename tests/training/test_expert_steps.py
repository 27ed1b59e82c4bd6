"""Steps of a model with experts: micro-batches and ranks as one batch, and what each optimiser makes of its weights."""

from __future__ import annotations

from math import sqrt
from typing import Any

import pytest
import torch
from builders import backbone, experts, mlp, model, router, text, text_batch, text_spec
from test_first_pass import LENGTHS, RANKS, WHOLE, backward, float64, gradients, known
from torch import nn

from mmtx.learner import Learner
from mmtx.nn.low_rank import LoRA
from mmtx.nn.low_rank_update import merge_updates
from mmtx.nn.roles import roles_of, rows_of
from mmtx.nn.width import shrink_heads
from mmtx.objectives.expert_balance import ExpertBalance
from mmtx.objectives.next_token import NextToken
from mmtx.training.followed_layers import FollowedLayers
from mmtx.training.model_flops import ModelFlops
from mmtx.training.optimisation import Optimisation
from mmtx.training.parameter_groups import groups_by_role
from mmtx.training.schedules import Constant
from mmtx.training.weight_average import WeightAverage

COUNTS, LEFT_OUT = torch.tensor(0.0), torch.tensor(1.0)


def made(weight: float = 1.0, **changes: Any) -> Learner:
    whole = model({"text": text()}, backbone(mlp=experts(**changes)))
    keys: dict[str, Any] = {"text": "text", "tied": True, "logit_scale": 1.0, "label_smoothing": 0.0}
    main = NextToken(specs={"text": text_spec()}, model=whole, weight=1.0, **keys)
    balance = ExpertBalance(specs={}, model=whole, weight=weight, balance=0.5, z=0.1, by=None)
    specs = {"text": text_spec()}
    return Learner(model=whole, objectives={"experts": balance, "main": main}, specs=specs).train()


def test_one_batch_is_four_micro_batches_on_two_ranks() -> None:
    """Loss and gradients, of the balance too, in float64."""
    with float64():
        learner = made().double()
        collected: list[Any] = []
        for rank in range(2):
            with known(learner, RANKS[rank], gather=lambda own: collected.append(own) or [own]):
                pass
        scores = [s for own in RANKS for s in backward(learner, own, [], gather=lambda _: collected)]
        cut = gradients(learner)
        (score,) = backward(learner, [WHOLE], [])
        whole = gradients(learner)
        assert any(cut[name].any() for name in cut if "router" in name)
        for name, value in whole.items():
            torch.testing.assert_close(cut[name], value, rtol=1e-10, atol=1e-12, msg=name)
        sums = sum(each["experts"].vector() for each in scores)
        torch.testing.assert_close(sums, score["experts"].vector(), rtol=1e-12, atol=0)


def test_what_only_watches_needs_no_first_pass() -> None:
    assert made().counting and not made(weight=0.0).counting


def followed(batches_of_ranks: Any, left_out: Any = COUNTS) -> list[torch.Tensor]:
    """The biases after one step of every rank, as each rank has them."""
    learners = [made(router=router(bias_rate=0.1)) for _ in batches_of_ranks]
    layers, own = [FollowedLayers(learner.model) for learner in learners], []
    for rank, batches in enumerate(batches_of_ranks):
        for batch in batches:
            learners[rank](batch)
            layers[rank].add(learners[rank].statistics)
    for each in layers:
        each.follow(lambda sums: own.append(sums) or sums, COUNTS)
    whole, layers = sum(own), [FollowedLayers(learner.model) for learner in learners]
    for learner in learners:
        for block in learner.model.backbone.blocks:
            block.mlp.router.bias.zero_()
    for each in layers:
        each.follow(lambda _: whole, left_out)
    return [block.mlp.router.bias for learner in learners for block in learner.model.backbone.blocks]


def test_biases_follow_the_loads_of_all_ranks() -> None:
    one = followed([[WHOLE]])
    two = followed(RANKS)
    assert all(bias.any() for bias in one)
    assert all(torch.equal(bias, one[place % 2]) for place, bias in enumerate(two))
    assert not any(bias.any() for bias in followed([[WHOLE]], LEFT_OUT))


def test_roles() -> None:
    learner = made(router=router(bias_rate=0.1), shared_expansion=1.0, gated=True)
    own = {name.rpartition("0.mlp.")[2]: role for name, role in roles_of(learner).items() if "0.mlp." in name}
    assert own == {
        "router.weight": "head",
        "router.bias": "bias",
        **{
            f"{part}.{key}": "matrix" if key == "weight" else "bias"
            for part in ("up", "down")
            for key in ("weight", "bias")
        },
        **{
            f"shared.{part}.{key}": "matrix" if key == "weight" else "bias"
            for part in ("up", "down")
            for key in ("weight", "bias")
        },
    }
    rows = rows_of(learner)
    assert rows["model.backbone.blocks.0.mlp.up.weight"] == {
        f"{i}.{n}": 48 for i in range(4) for n in ("gate", "value")
    }
    assert rows["model.backbone.blocks.0.mlp.down.weight"] == {f"{i}": 24 for i in range(4)}


def test_initial_weights_are_as_those_of_the_dense() -> None:
    """Of every expert: the spread by its own fan-in, less where it writes to the stream."""
    keys: dict[str, Any] = {"dim": 64, "num_heads": 4, "init_std": 0.02}
    module = backbone(mlp=experts(expansion=4.0), **keys).blocks[0].mlp
    for weight, expected in (
        (module.up.weight, 0.02 * sqrt(768 / 64)),
        (module.down.weight, 0.02 * sqrt(768 / 256) / 2),
    ):
        for expert in weight.detach():
            assert float(expert.std()) == pytest.approx(expected, rel=0.05)
    assert float(module.router.weight.detach().std()) == pytest.approx(0.02 * sqrt(768 / 64), rel=0.2)


def test_width_scaling() -> None:
    """Experts learn as matrices; a router, whose outputs are as many at any width, as a head."""
    learner = Learner(model=model({"text": text()}, backbone(mlp=experts(), base_width=12)), objectives={}, specs={})
    router_weight = learner.model.backbone.blocks[0].mlp.router.weight
    before = router_weight.detach().clone()
    shrink_heads(learner)
    torch.testing.assert_close(router_weight.data, before / sqrt(2))
    names = {p: name for name, p in learner.named_parameters()}
    rates = {names[p]: (g["lr"], g["weight_decay"]) for g in groups_by_role(learner, 1.0, {}, 0.1) for p in g["params"]}
    assert (
        rates["model.backbone.blocks.0.mlp.up.weight"]
        == rates["model.backbone.blocks.0.mlp.router.weight"]
        == (0.5, 0.2)
    )
    assert rates["model.backbone.blocks.0.mlp.up.bias"] == (1.0, 0.0)


def test_muon_steps_each_matrix_of_each_expert_alone() -> None:
    """Against torch's Muon, where each is a parameter of its own; the router is AdamW's."""
    learner = made(gated=True, router=router(bias_rate=0.1))
    muon = lambda groups, lr: torch.optim.Muon(groups, lr=lr, weight_decay=0.1)  # noqa: E731
    keys: dict[str, Any] = {
        "weight_decay": 0.1,
        "betas": (0.9, 0.99),
        "eps": 1e-8,
        "warmup_steps": 0,
        "warmup_epochs": 0.0,
    }
    keys |= {"schedule": Constant(), "clip_norm": None, "ema_decay": None, "rates": {}, "rest": None}
    optimizer = Optimisation(lr=0.01, matrices=muon, **keys).optimizer(learner)
    module = learner.model.backbone.blocks[0].mlp
    before = {name: p.detach().clone() for name, p in module.named_parameters()}
    sum(score.loss_sum for score in learner(text_batch(LENGTHS)).values()).backward()
    optimizer.step()
    for name, cuts in (("up.weight", 8), ("down.weight", 4)):
        parts = [nn.Parameter(part.clone()) for part in before[name].flatten(0, 1).chunk(cuts)]
        for part, gradient in zip(parts, module.get_parameter(name).grad.flatten(0, 1).chunk(cuts), strict=True):
            part.grad = gradient
        torch.optim.Muon(parts, lr=0.01, weight_decay=0.1).step()
        torch.testing.assert_close(module.get_parameter(name).data.flatten(0, 1), torch.cat([*parts]).data)
    keys_of = optimizer.state[module.up.weight].keys()
    assert keys_of == {f"{i}.{part}.momentum_buffer" for i in range(4) for part in ("gate", "value")}
    assert "exp_avg" in optimizer.state[module.router.weight]
    assert module.router.bias not in optimizer.state


def test_low_rank_updates_of_experts() -> None:
    """They begin at zero, learn, and are one weight again."""
    learner, batch = made(), text_batch([5, 8])
    learner.eval()
    before = learner.model(batch).hidden.detach()
    LoRA(rank=2, alpha=4.0, targets=["*.mlp.up", "*.mlp.down"]).add(learner.model)
    assert learner.model(batch).hidden.equal(before)
    own = learner.model.backbone.blocks[0].mlp.up
    update = own.parametrizations.weight[0]
    assert update.up.shape == (4, 48, 2) and update.down.shape == (4, 2, 24)
    nn.init.normal_(update.up)
    learner.model(batch).hidden.square().sum().backward()
    assert update.up.grad.any() and own.parametrizations.weight.original.grad is None
    frozen, expert = own.parametrizations.weight.original.detach().clone(), 3
    expected = frozen[expert] + 2.0 * update.up[expert] @ update.down[expert]
    torch.testing.assert_close(own.weight[expert], expected)
    changed = learner.model(batch).hidden.detach()
    merge_updates(learner.model)
    torch.testing.assert_close(learner.model(batch).hidden, changed)
    assert roles_of(learner)["model.backbone.blocks.0.mlp.up.weight"] == "matrix"


def test_an_average_holds_the_biases_of_routers() -> None:
    module = experts(router=router(bias_rate=0.1))(24)
    average = WeightAverage(module, 0.9)
    module.follow({"load": torch.tensor([4.0, 2.0, 1.0, 1.0])}, COUNTS)
    average.update(module)
    moved = module.router.bias.clone()
    average.swap(module)
    torch.testing.assert_close(module.router.bias.data, moved.data * (1 - 2 / 11))  # the first update's decay
    average.swap(module)
    assert module.router.bias.equal(moved)


def test_flops_of_experts_are_those_of_the_dense_that_a_token_takes() -> None:
    """Two of four experts of width 2, beside one MLP of 4; the router is counted, too."""

    def total(half: Any) -> int:
        whole = model({"text": text()}, backbone(mlp=half, num_layers=1))
        learner = Learner(model=whole, objectives={}, specs={})
        flops = ModelFlops(learner)
        with flops.watching():
            whole(text_batch([8, 8]))
        return flops.total([16], [])

    assert total(experts()) - total(mlp(expansion=4.0)) == 16 * 6 * 24 * 4
