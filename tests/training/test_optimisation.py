"""Optimisers by role: each against the library's own, step by step."""

import copy
import json

import pytest
import torch
from run_cli import TINY
from schedulefree import AdamWScheduleFree
from test_module import RAGGED, train_here
from torch import nn

from mmtx.errors import ConfigErrors
from mmtx.experiment import build
from mmtx.modalities.image import Image
from mmtx.run.checkpoint_content import load
from mmtx.training.composite import Composite
from mmtx.training.parameter_groups import groups_by_role, merged
from mmtx.training.weight_average import AveragedPoint


class Pair(nn.Module):
    """Two matrices that are stored as one, a third, and an embedding."""

    roles = {"head.weight": "head"}

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.table, self.both = nn.Embedding(5, 4), nn.Linear(4, 9)
        self.out, self.head = nn.Linear(9, 4, bias=False), nn.Linear(4, 2, bias=False)
        self.stored_together = {"both.weight": {"gate": 3, "value": 6}}

    def forward(self, ids):
        return self.head(self.out(self.both(self.table(ids)).tanh())).square().sum()


def optimisation(*words):
    return build(["experiment=spell_digits", *TINY, *words]).optimisation


def steps(module, optimizer, count, ids=(0, 3, 4)):
    for _ in range(count):
        optimizer.zero_grad()
        module(torch.tensor(ids)).backward()
        optimizer.step()


def test_muon_steps_each_matrix_alone_and_adamw_the_rest():
    """Against torch's two optimisers, where the two matrices are parameters of their own."""
    module, other = Pair(), Pair()
    steps(module, optimisation("optim=muon", "optim.rates.matrix=3", "optim.lr=0.01").optimizer(module), 4)
    gate, value = (nn.Parameter(part.clone()) for part in other.both.weight.detach().split([3, 6]))
    settings = {"momentum": 0.95, "nesterov": True, "ns_steps": 5, "adjust_lr_fn": "match_rms_adamw"}
    muon = torch.optim.Muon([gate, value, other.out.weight], lr=0.03, weight_decay=0.1, **settings)
    rest = [other.table.weight, other.both.bias]
    groups = [{"params": [other.head.weight], "weight_decay": 0.1}, {"params": rest, "weight_decay": 0.0}]
    adamw = torch.optim.AdamW(groups, lr=0.01, betas=(0.9, 0.99))
    for _ in range(4):
        hidden = nn.functional.linear(other.table(torch.tensor([0, 3, 4])), torch.cat([gate, value]), other.both.bias)
        muon.zero_grad(), adamw.zero_grad()
        other.head(other.out(hidden.tanh())).square().sum().backward()
        muon.step(), adamw.step()
    with torch.no_grad():
        other.both.weight.copy_(torch.cat([gate, value]))
    for name, parameter in module.named_parameters():
        torch.testing.assert_close(parameter, other.get_parameter(name), rtol=1e-5, atol=1e-6, msg=name)


def test_a_composite_goes_on_from_its_state():
    made = optimisation("optim=muon")
    whole, half = Pair(), Pair()
    steps(whole, made.optimizer(whole), 5)
    first = made.optimizer(half)
    assert isinstance(first, Composite)
    steps(half, first, 3)
    half.both.weight.data = half.both.weight.data.clone()  # as where weights are moved
    second = made.optimizer(half)
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    assert second.state[half.both.weight].keys() == {"gate.momentum_buffer", "value.momentum_buffer"}
    steps(half, second, 2)
    assert all(torch.equal(p, whole.get_parameter(name)) for name, p in half.named_parameters())


def test_a_schedule_and_a_loss_scaler_see_one_optimiser():
    module, plain = Pair(), Pair()
    for trained, scale in ((module, 1024.0), (plain, 1.0)):
        optimizer = optimisation("optim=muon").optimizer(trained)
        scaler = torch.amp.GradScaler("cpu", init_scale=scale, growth_interval=100)
        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 / (1 + step))
        for _ in range(3):
            optimizer.zero_grad()
            scaler.scale(trained(torch.tensor([1, 2]))).backward()
            scaler.unscale_(optimizer)
            scaler.step(optimizer)
            scaler.update()
            scheduler.step()
        inner = [group["lr"] for each in optimizer.optimizers for group in each.param_groups]
        assert {group["lr"] for group in optimizer.param_groups} == {0.001 / 4}
        assert set(inner) == {0.001 / 3}, "those of the last step"
    assert all(torch.equal(p, plain.get_parameter(name)) for name, p in module.named_parameters())


def test_a_step_of_a_composite_is_one_step(tmp_path):
    losses, _, _ = train_here(tmp_path / "run", "loader.batch_size=8", "optim=muon", "objective=[classify]")
    checkpoint = torch.load(tmp_path / "run" / "checkpoints" / "last.ckpt", weights_only=True)
    assert len(losses) == 4 and checkpoint["mmtx"]["step"] == 4
    keys = {name: set(state) for name, state in checkpoint["optimizer"]["state"].items() if "block" in name}
    assert keys["model.backbone.blocks.0.mlp.up.weight"] == {"momentum_buffer"}
    parts = {f"{part}.momentum_buffer" for part in ("query", "key", "value")}
    assert keys["model.backbone.blocks.0.attention.qkv.weight"] == parts
    assert checkpoint["optimizer"]["state"]["objectives.classify.head.weight"].keys() == {
        "step",
        "exp_avg",
        "exp_avg_sq",
    }


def test_a_parameter_without_a_role_ends_the_build(monkeypatch):
    monkeypatch.setattr(Image, "roles", {})
    with pytest.raises(ConfigErrors, match="model: parameter model.tokenizers.image.readouts of Image has no role"):
        build([*RAGGED, "modality.image.summary=true"])


def test_rates_of_roles():
    module = Pair()
    optimizer = optimisation("optim.rates={head: 10.0, embedding: 0.5}", "optim.lr=0.01").optimizer(module)
    rates = {id(p): (g["lr"], g["weight_decay"]) for g in optimizer.param_groups for p in g["params"]}
    assert rates[id(module.head.weight)] == (0.1, 0.1) and rates[id(module.table.weight)] == (0.005, 0.0)
    assert rates[id(module.out.weight)] == (0.01, 0.1) and rates[id(module.both.bias)] == (0.01, 0.0)


WIDER = ("backbone.dim=64", "backbone.base_width=16", "optim.lr=0.01")


def rates_in(*words):
    experiment = build(["experiment=spell_digits", *TINY, *WIDER, "objective.next_token.tied=false", *words])
    groups = experiment.optimisation.optimizer(experiment.learner).param_groups
    names = {id(parameter): name for name, parameter in experiment.learner.named_parameters()}
    return {names[id(p)]: (g["lr"], g["weight_decay"]) for g in groups for p in g["params"]}


def test_a_wider_model_learns_slower_where_its_features_are_multiplied():
    expected = {
        "model.backbone.blocks.0.attention.qkv.weight": (0.0025, 0.4),
        "model.backbone.blocks.0.mlp.down.weight": (0.0025, 0.4),
        "objectives.next_token.head.projection.weight": (0.0025, 0.4),
        "model.tokenizers.image.projection.weight": (0.01, 0.1),
        "model.tokenizers.text.embedding.weight": (0.01, 0.0),
        "model.backbone.blocks.0.mlp.down.bias": (0.01, 0.0),
    }
    assert rates_in().items() >= expected.items()
    assert rates_in("optim=schedule_free", "optim.lr=0.01").items() >= expected.items()
    matrix = {name: (0.01, 0.1) for name in expected if "blocks" in name and "weight" in name}
    assert rates_in("optim=muon", "optim.matrices.adjust_lr_fn=original").items() >= {**expected, **matrix}.items()


def test_the_rate_that_is_logged_is_that_of_the_key(tmp_path):
    train_here(tmp_path / "run", "loader.batch_size=8", *WIDER, "optim.warmup_steps=0", "optim/schedule=constant")
    rows = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert {row["train/lr"] for row in rows if "train/lr" in row} == {0.01}


def test_groups_have_every_parameter_once_and_no_frozen_one():
    module = Pair()
    module.out.weight.requires_grad_(False)
    groups = groups_by_role(module, 1.0, {}, 0.1)
    assert [group["role"] for group in groups] == ["matrix", "head", "embedding", "bias"]
    assert [len(group["params"]) for group in groups] == [1, 1, 1, 1]
    assert [len(group["params"]) for group in merged(groups)] == [2, 2]


def test_schedule_free_is_the_librarys_and_evaluates_its_average():
    module, other = Pair(), Pair()
    words = ("optim=schedule_free", "optim.lr=0.01", "optim.weight_decay=0")
    made = optimisation(*words)
    optimizer, library = made.optimizer(module), AdamWScheduleFree(other.parameters(), lr=0.01, betas=(0.9, 0.99))
    average = made.average(module, optimizer)
    assert isinstance(average, AveragedPoint)
    library.train()
    steps(module, optimizer, 5), steps(other, library, 5)
    before = copy.deepcopy(module.state_dict())
    assert all(torch.equal(value, other.state_dict()[name]) for name, value in before.items())
    average.swap(module), library.eval()
    assert average.is_swapped
    for name, value in module.state_dict().items():
        torch.testing.assert_close(value, other.state_dict()[name], rtol=1e-6, atol=1e-7)
        assert not torch.equal(value, before[name]) or name == "table.weight"
    average.swap(module)
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())


def test_what_schedule_free_averages_is_loaded(tmp_path):
    train_here(tmp_path / "run", "loader.batch_size=8", "optim=schedule_free")
    checkpoint = torch.load(tmp_path / "run" / "checkpoints" / "last.ckpt", weights_only=True)
    name = "model.backbone.blocks.0.mlp.up.weight"
    z, y = checkpoint["optimizer"]["state"][name]["z"], checkpoint["state_dict"][f"learner.{name}"]
    torch.testing.assert_close(load(tmp_path / "run").state_dict()[name], (y - 0.1 * z) / 0.9, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["optim.rates={wing: 2.0}"], "optim.rates={'wing': 2.0} names 'wing'; a role is one of matrix,"),
        (["optim.rates={head: fast}"], "optim.rates.head=fast must be a positive number"),
        (["optim.rates={head: 0}"], "optim.rates.head=0 must be a positive number"),
        (["optim.betas=null"], "optim.betas=None must be two numbers in [0, 1)"),
        (["optim.eps=null"], "optim.eps=None must be a positive number"),
        (["optim=schedule_free", "optim.eps=1e-8"], "optim.eps=1e-08 is AdamW's"),
        (["optim=schedule_free", "optim.ema_decay=0.9"], "optim.ema_decay=0.9 does not go with optim.rest"),
        (["optim=schedule_free", "optim.rest.betas=[0.0, 0.9]"], "optim.rest.betas=[0.0, 0.9] must be two numbers"),
        (["optim=muon", "backbone.base_width=32"], "optim.matrices.adjust_lr_fn=match_rms_adamw makes larger steps in"),
        (["backbone.base_width=15"], "backbone.base_width=15 is not a multiple of num_heads=2"),
        (["optim=muon", "optim.matrices.momentum=-1"], "optim: momentum should be >= 0 but is: -1"),
    ],
)
def test_what_is_refused(words, problem):
    with pytest.raises(ConfigErrors) as error:
        build([*RAGGED, *words])
    assert problem in str(error.value)
