"""Every yaml of every group composes, builds, and takes two steps."""

import pytest
import torch
from small_data import shrink_data

from mmtx.compose import compose, describe_options
from mmtx.experiment import assemble

OPTIONS = describe_options()
TINY = ["backbone.dim=24", "backbone.num_layers=2", "backbone.num_heads=2", "data.batch_size=4"]
"""Small enough that a step takes milliseconds; 24 divides by every number of axes."""

DATA_WITH_TEXT = {"text_file", "python_docs"}
NEEDS = {
    "objective": {"classify": ["modality=[image]"], "next_token": ["modality=[image,text]"]},
    "modality": {"image": ["objective=[classify]"], "text": ["objective=[next_token]"]},
}


SIZES = {"crop_flip": ["data.augment.transforms.0.size=8"], "shift": ["data.augment.size=8"]}
"""The digits that augmentations are tried on are 8 pixels wide."""


def overrides_for(group, option):
    if group in ("checkpoint", "trainer", "optim", "backbone"):
        return [f"{group}={option}"]
    if group in ("modality", "objective", "callbacks", "logger"):
        return [f"{group}=[{option}]", *NEEDS.get(group, {}).get(option, [])]
    if group == "data":
        return ["modality=[text]", "objective=[next_token]"] if option in DATA_WITH_TEXT else []
    if group == "objective/pool":
        return [f"objective/pool@objective.classify.pool={option}", "modality.image.summary=true"]
    if group == "data/vocabulary":
        return [
            f"{group}={option}",
            "modality=[text]",
            "objective=[next_token]",
            *["data.vocabulary.vocab_size=300"] * (option == "bpe"),
        ]
    if group == "data/augment":
        return [f"{group}={option}", *SIZES.get(option, [])]
    return [f"{group}={option}"]


def cases():
    for group, options in OPTIONS.items():
        if group != "experiment":
            yield from (pytest.param(group, option, id=f"{group}={option}") for option in options)


def two_steps(overrides):
    experiment = assemble(compose([*TINY, *overrides]))
    learner = experiment.learner
    optimizer = experiment.optimisation.optimizer(learner)
    losses = []
    for batches in experiment.data.train_loader(num_steps=2, accumulate=1, rank=0, num_ranks=1):
        scores = learner(batches[0])
        loss = torch.stack([score.loss_sum / score.count for score in scores.values()]).sum()
        optimizer.zero_grad()
        loss.backward()
        assert all(parameter.grad is not None for parameter in learner.parameters())
        optimizer.step()
        losses.append(float(loss.detach()))
    assert len(losses) == 2
    assert all(torch.isfinite(torch.tensor(losses)))
    return experiment


@pytest.mark.parametrize(("group", "option"), list(cases()))
def test_every_option_takes_two_steps(group, option, tmp_path, monkeypatch):
    overrides = overrides_for(group, option)
    data = option if group == "data" else "digits"
    two_steps([f"data={data}", *shrink_data(data, tmp_path, monkeypatch), *overrides])


@pytest.mark.parametrize("recipe", OPTIONS["experiment"])
def test_every_recipe_passes_the_check_and_takes_two_steps(recipe, tmp_path, monkeypatch):
    config = compose([f"experiment={recipe}", *_path(recipe, tmp_path, monkeypatch)])
    experiment = assemble(config)
    assert experiment.config["name"] == recipe
    assert experiment.total_steps >= 1
    two_steps([f"experiment={recipe}", *_path(recipe, tmp_path, monkeypatch)])


def _path(recipe, tmp_path, monkeypatch):
    data = compose([f"experiment={recipe}", "data.path=x"] if "shakespeare" in recipe else [f"experiment={recipe}"])
    kind = data["data"]["_target_"].rpartition(".")[2]
    names = {
        "MNIST": "mnist",
        "CIFAR10": "cifar10",
        "TextFile": "text_file",
        "Digits": "digits",
        "PythonDocs": "python_docs",
    }
    return shrink_data(names[kind], tmp_path, monkeypatch)


def test_every_option_says_in_one_line_what_it_is():
    for group, options in OPTIONS.items():
        for option, line in options.items():
            assert line, f"conf/{group}/{option}.yaml begins with no comment"
