"""Every value of every closed choice takes two steps on a CPU, or is refused before the first with the reason.

What is closed is read off: the values that the signatures allow of whatever `conf` names a class for, and those of the
keys of a config's top and of the loaders. So a value that is added is tried here, or has a line below. What W&B does in
each of its modes: tests/run/test_wandb.py.
"""

from __future__ import annotations

import copy
import math
import typing
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import optuna
import pytest
import torch
import yaml
from small_data import shrink_data, small_tokenizer
from test_every_yaml import LISTENS_AND_LOOKS, NEEDS_DATA, OPTIONS, cases, data_for, fitting, overrides_for

import mmtx.nn.compilation
from mmtx.config.compose import compose
from mmtx.config.construct import construct
from mmtx.config.schema import GIVEN, top_level
from mmtx.config.targets import argument_types, resolve
from mmtx.errors import ConfigErrors
from mmtx.experiment import Experiment, assemble
from mmtx.nn.roles import Role
from mmtx.run.directory import RunDirectory
from mmtx.run.job import execute, prepare
from mmtx.sweep.failure_policy import FailurePolicy
from mmtx.sweep.settings import check_sweeper
from mmtx.training.lightning_module import MultimodalModule

CONF = Path(__file__).parents[1] / "conf"
TINY = [
    *("backbone.dim=24", "backbone.num_layers=1", "backbone.num_heads=2", "backbone.dropout=0.0"),
    *("loader.batch_size=4", "loader.eval_batch_size=4", "loader.num_workers=0", "optim.warmup_steps=0"),
    *("trainer.max_steps=2", "trainer.max_epochs=null", "trainer.val_every_steps=2", "trainer.accelerator=cpu"),
]

NO_GPU = {} if torch.cuda.is_available() else dict.fromkeys(("gpu", "cuda"), "finds no GPU")
OF_NO_MATRIX = {("LoRA", "roles", str([role])): "matches no linear map" for role in get_args(Role) if role != "matrix"}
REFUSED = (
    {("Training", "accelerator", value): reason for value, reason in NO_GPU.items()}
    | OF_NO_MATRIX
    | {
        (
            "Backbone",
            "flex",
            "True",
        ): "FlexAttention does not support backward on CPU; set backbone.flex=false",
        ("Training", "profile", "True"): "traces 3 steps after the first 5, and this run has 2",
        ("Checkpoints", "mode", "max"): "contradicts checkpoint.monitor=val/loss, which is better lower",
    }
)
"""What cannot be, here; and what is reported of it."""

ADDS = ["data=addition", "modality=[text]", "objective=[next_token]", "data.longest=4", "data.test_lengths=[4]"]

NEEDS: dict[tuple[str, str, str], list[str]] = {
    ("BabyAI", "pixels", "True"): [
        *("data=babyai", "modality=[view_pixels,action]", "objective=[action]", "objective.action.read=view"),
        "data.pixels=true",
    ],
    ("DataModule", "on_device", "True"): [
        "data=mnist",
        "modality=[image]",
        "objective=[classify]",
        "data/augment=none",
    ],
    ("Image", "centred", "True"): [
        *("data=mnist", "modality=[image]", "objective=[classify]", "data/augment=none", "backbone/positions=rotary"),
    ],
    ("", "towers", "True"): [f"data={NEEDS_DATA['contrastive']}", *LISTENS_AND_LOOKS, "encode=[audio]", "towers=true"],
    ("Attention", "pair_bias", "True"): ["data=made_chains", "modality=[chain]", "objective=[fold]"],
    ("Addition", "hints", "True"): ADDS,
    ("Addition", "scratchpad", "True"): [*ADDS, "data.task.hints=true"],
    ("Recall", "marked", "True"): ["data=recall", "modality=[text]", "objective=[next_token]", "data.shortest=10"],
    ("Codes", "causal", "False"): [
        *("data=coded_pictures", "modality=[codes]", "objective=[masked_diffusion]"),
        *("objective.masked_diffusion.names=[codes]", "modality.codes.causal=false"),
    ],
    ("Text", "causal", "False"): ["data=labelled_text", "modality=[text]", "objective=[classify]"],
}
"""Overrides with which a value can be, where those of its option do not go with it."""


def closed(annotation: Any) -> list[Any]:
    """The values that a type allows, where these can be counted; of a list, lists of one."""
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if annotation is bool:
        return [False, True]
    if origin is typing.Literal:
        return list(arguments)
    if isinstance(origin, type) and issubclass(origin, typing.Mapping):
        return []
    in_a_list = isinstance(origin, type) and issubclass(origin, typing.Sequence)
    values = [value for argument in arguments for value in closed(argument)]
    return [[value] for value in values] if in_a_list else values


def named_classes(node: Any) -> Iterator[type]:
    if isinstance(node, dict):
        if "_target_" in node:
            yield resolve(node["_target_"], ["optuna"])
        node = list(node.values())
    for child in node if isinstance(node, list) else []:
        yield from named_classes(child)


def classes() -> Iterator[tuple[str, str, type]]:
    """Every class that `conf` names, and the option that names it."""
    for case in [pytest.param("", "train"), *cases()]:
        group, option = case.values
        for kind in named_classes(yaml.safe_load((CONF / group / f"{option}.yaml").read_text())):
            yield group, option, kind


def choices() -> Iterator[Any]:
    """Every value of every closed key, with the first option whose class has it."""
    found = {}
    for group, option, kind in classes():
        for key, annotation in argument_types(kind).items() if kind.__module__.startswith("mmtx") else ():
            if not any(key in keys for keys in GIVEN.values()):
                found.setdefault((kind.__name__, key), (group, option, closed(annotation)))
    found |= {("", key): ("", "train", closed(annotation)) for key, annotation in top_level().items()}
    for (owner, key), (group, option, values) in found.items():
        for value in values:
            yield pytest.param(group, option, owner, key, value, id=f"{owner}.{key}={value}")


class Bases:
    """Small experiments, whose data are made once for all values of an option."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self._folder, self._monkeypatch = small_tokenizer(folder), monkeypatch
        self._made: dict[tuple[str, ...], Experiment] = {}
        self._ran: list[Experiment] = []

    def __call__(self, group: str, option: str, needs: list[str] | None) -> Experiment:
        own = overrides_for(group, option, self._folder) if group else []
        data = data_for(group, option)
        if needs is not None:
            data, own = needs[0].partition("=")[2], needs[1:]
        words = (f"data={data}", *own)
        if words not in self._made:
            folder = self._folder / str(len(self._made))
            folder.mkdir()
            shrunk = fitting(shrink_data(data, folder, self._monkeypatch), own)
            self._made[words] = assemble(quick(compose([words[0], *shrunk, *own, *TINY])))
        return self._made[words]

    def run_once(self, base: Experiment, folder: Path) -> None:
        if not any(each is base for each in self._ran):
            check_two_steps(base.config, base, folder)
            self._ran.append(base)


def quick(config: dict[str, Any]) -> dict[str, Any]:
    """Plays one episode, and writes nothing."""
    for node in config["objective"].values():
        node |= {key: 1 for key in ("val_episodes", "test_episodes") if key in node}
    return {**config, "callbacks": {}}


def with_choice(node: Any, owner: str, key: str, value: Any) -> Any:
    """A config in which every node of a class has another value."""
    if isinstance(node, list):
        return [with_choice(child, owner, key, value) for child in node]
    if not isinstance(node, dict):
        return node
    changed = {name: with_choice(child, owner, key, value) for name, child in node.items()}
    return {**changed, key: value} if str(node.get("_target_", "")).endswith(f".{owner}") else changed


def chosen(config: dict[str, Any], owner: str, key: str, value: Any) -> dict[str, Any]:
    return with_choice(config, owner, key, value) if owner else {**config, key: value}


class First:
    """A loader of one batch of another."""

    def __init__(self, loader: Any) -> None:
        self._loader = loader

    def __iter__(self) -> Iterator[Any]:
        yield next(iter(self._loader))

    def __len__(self) -> int:
        return 1


def two_steps(experiment: Experiment, folder: Path) -> list[float]:
    """The losses of a run without its files."""
    losses = []
    module = MultimodalModule(
        learner=experiment.learner,
        optimisation=experiment.optimisation,
        data=experiment.data,
        total_steps=2,
        accumulate=1,
        samples_per_step=experiment.samples_per_step,
        log_every_steps=1,
        seed=0,
        max_skips=experiment.training.max_skips,
        data_timeout_s=None,
    )
    publish, loaders = module._publish, experiment.data.eval_loaders

    def one_batch(split: str, **ranks: int) -> dict[str, Any]:
        return {part: First(loader) for part, loader in loaders(split, **ranks).items()}

    def note(metrics: dict[str, float]) -> None:
        losses.extend(value for name, value in metrics.items() if name == "train/loss")
        publish(metrics)

    module._publish, experiment.data.eval_loaders = note, one_batch  # type: ignore[method-assign, assignment]
    trainer = experiment.training.trainer(total_steps=2, epoch_steps=2, run_dir=folder, loggers=[], callbacks=[])
    trainer.fit(module)
    return losses


def check_two_steps(config: dict[str, Any], base: Experiment, folder: Path) -> None:
    own = replace(base, learner=copy.deepcopy(base.learner))  # a run changes it
    experiment = assemble(config, like=own)
    if experiment.learner.uses_reference:
        experiment.learner.freeze_reference()
    losses = two_steps(experiment, folder)
    assert len(losses) == 2 and all(map(math.isfinite, losses))


@pytest.fixture(scope="module")
def bases(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bases]:
    with pytest.MonkeyPatch.context() as monkeypatch:
        # tests/nn/test_compilation.py compiles, and what it compiled in this process is kept
        monkeypatch.setattr(mmtx.nn.compilation, "_compiled", lambda called, *_: called)
        yield Bases(tmp_path_factory.mktemp("choices"), monkeypatch)


@pytest.mark.parametrize(("group", "option", "owner", "key", "value"), list(choices()))
def test_every_choice_takes_two_steps(bases, group, option, owner, key, value, tmp_path):
    base = bases(group, option, NEEDS.get((owner, key, str(value))))
    config = chosen(base.config, owner, key, value)
    if config == base.config:
        bases.run_once(base, tmp_path)  # for all keys that have their usual values
        return
    if (reason := REFUSED.get((owner, key, str(value)))) is not None:
        with pytest.raises(ConfigErrors, match=reason):
            assemble(config, like=base)
        return
    check_two_steps(config, base, tmp_path)
    if owner == "Checkpoints":
        experiment, run = assemble({**config, "logger": {}}), RunDirectory(tmp_path / "run")
        prepare(experiment.config, run)
        assert execute(experiment, run) == 0 and run.last.is_file() and run.best.is_file()


@pytest.mark.parametrize("sampler", OPTIONS["sweeper/sampler"])
@pytest.mark.parametrize("pruner", OPTIONS["sweeper/pruner"])
def test_every_sampler_and_pruner_takes_two_trials(sampler, pruner):
    config = check_sweeper(["sweeper=optuna", f"sweeper/sampler={sampler}", f"sweeper/pruner={pruner}"])
    made = construct({key: config[key] for key in ("sampler", "pruner")}, ["optuna"])
    study = optuna.create_study(sampler=made["sampler"](seed=0), pruner=made["pruner"])
    for value in (1.0, 2.0):
        trial = study.ask({"x": optuna.distributions.FloatDistribution(0.0, 1.0)})
        trial.report(value, 1)
        assert not trial.should_prune()
        study.tell(trial, value)
    assert study.best_value == 1.0


@pytest.mark.parametrize("on_failure", closed(argument_types(FailurePolicy)["on_failure"]))
def test_every_policy_for_failures(on_failure):
    policy = FailurePolicy(on_failure=on_failure, max_attempts=2, max_failures=None, job_timeout=None)
    known = {"continue": (False, True), "stop": (False, False), "retry": (True, True)}
    assert (policy.retries(1), policy.may_start(1)) == known[on_failure]
