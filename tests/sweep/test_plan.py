"""From a command to jobs: every one composed and checked, before anything is started."""

import os
from pathlib import Path

import pytest

from mmtx.config.compose import Composer, compose
from mmtx.config.groups import describe_options
from mmtx.config.sweeps import expand_sweep
from mmtx.errors import ConfigErrors, InvalidValue, UserError
from mmtx.experiment import assemble
from mmtx.sweep.engine import Demand
from mmtx.sweep.plan import plan, slug
from mmtx.sweep.settings import check_launcher, check_sweeper, split
from mmtx.sweep.slots import make_slots

SMALL = ["experiment=vit_digits", "backbone.dim=32", "backbone.num_layers=1", "trainer.max_steps=7"]


def test_many_configs_at_once_are_those_of_one_by_one():
    words = [*SMALL, "backbone/mlp=gelu,swiglu", "optim.lr=1e-3,2e-3", "modality=[image],[image,text]"]
    jobs = expand_sweep([*words, "seed=1,2"]) + [[*SMALL, "~type_embeddings", "+type_embeddings=false"]]
    with Composer() as composer:
        assert [composer.compose(job) for job in jobs[::3]] == [compose(job) for job in jobs[::3]]


def test_every_job_has_a_name_that_follows_from_its_overrides():
    words = [*SMALL, "optim.lr=1e-3,2e-3", "seed=1,2"]
    planned = plan(words, None)
    names = [each.job.name for each in planned]
    assert [name.rpartition("-")[0] for name in names] == [
        f"lr={lr},seed={seed}" for lr in ("0.001", "0.002") for seed in (1, 2)
    ]
    assert [each.job.overrides for each in planned][0] == ["optim.lr=0.001", "seed=1"]
    assert [each.config for each in planned] == [compose(job) for job in expand_sweep(words)]
    assert {each.job.steps for each in planned} == {7}
    grown = [each.job.name for each in plan([*words[:-1], "seed=1,2,3"], None)]
    assert set(names) < set(grown)  # one value more leaves the others where they are
    assert not set(names) & {each.job.name for each in plan([*words, "trainer.max_epochs=2"], None)}
    again = plan([*words, "seed=1"], None)  # the last has the word
    assert [each.job.overrides for each in again] == [["optim.lr=0.001"], ["optim.lr=0.002"]]


def test_every_job_is_checked_and_a_problem_is_reported_once():
    with pytest.raises(ConfigErrors) as caught:
        plan([*SMALL[:1], "backbone.dim=32,33", "optim.lr=1e-3,x", "seed=1,2"], None)
    first, second = sorted(caught.value.findings)
    assert "and 3 more: optim.lr=x is not a number" in first
    assert "backbone.dim=33" in second and "not a multiple" in second
    with pytest.raises(UserError, match=r"the same \(seed=1\)"):
        plan([*SMALL, "seed=1,1"], None)


def test_a_model_is_shared_only_by_jobs_that_would_make_the_same():
    first = assemble(compose(SMALL))
    assert assemble(compose([*SMALL, "optim.lr=1", "seed=9"]), like=first).learner is first.learner
    other = assemble(compose([*SMALL, "backbone.num_layers=2"]), like=first)
    assert other.learner is not first.learner and other.data.source is first.data.source


def test_slugs_can_be_read_and_typed():
    assert slug(["optim.lr=1e-3", "seed=1"]) == "lr=1e-3,seed=1"
    assert slug(["backbone.dim=8", "encoder.dim=9"]) == "backbone.dim=8,encoder.dim=9"
    assert slug(["modality=[image,text]", "data.path='/a b/c'"]) == "modality=image,text,path=_a_b_c"
    assert slug([]) == "job" and len(slug(["key=" + "x" * 500])) <= 100


def test_the_launcher_is_chosen_by_hydras_names():
    jobs, launcher, sweeper = split(["seed=1,2", "hydra/launcher=slots", "hydra.launcher.devices=cpu:2"])
    assert jobs == ["seed=1,2"] and not sweeper and launcher == ["launcher=slots", "launcher.devices=cpu:2"]
    assert check_launcher(launcher)["devices"] == "cpu:2"
    for option in describe_options()["launcher"]:
        assert check_launcher([f"launcher={option}"])["on_failure"] == "continue"
    for wrong, message in (
        (["launcher=slot"], "did you mean 'slots'"),
        (["launcher.device=auto"], "did you mean 'devices'"),
        (["launcher.on_failure=cry"], "hydra.launcher.on_failure=cry"),
        (["launcher.max_failures=-1"], "hydra.launcher.max_failures=-1"),
        (["launcher.job_timeout=soon"], "job_timeout=soon is not"),
    ):
        with pytest.raises(UserError, match=message):
            check_launcher(wrong)
    with pytest.raises(UserError, match="add hydra/sweeper=optuna"):
        check_sweeper(["sweeper.n_trials=3"])


def slots(devices, per_job=1, jobs_per_device=1, num_jobs=99, on_cpu=False):
    return make_slots(devices, per_job, jobs_per_device, Demand(num_jobs, per_job, on_cpu, Path()))


def test_devices_are_slots(monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: range(8), raising=False)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 4)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,5,6,GPU-8f1c")
    shown = [slot.environment["CUDA_VISIBLE_DEVICES"] for slot in slots("auto")]
    assert shown == ["3", "5", "6", "GPU-8f1c"]  # a mask that is set is respected
    assert [slot.environment["CUDA_VISIBLE_DEVICES"] for slot in slots([1, 3])] == ["5", "GPU-8f1c"]
    assert [slot.device for slot in slots("auto", per_job=2)] == ["cuda:3,5", "cuda:6,GPU-8f1c"]
    assert [slot.device for slot in slots([0, 1], jobs_per_device=2)] == ["cuda:3", "cuda:5", "cuda:3", "cuda:5"]
    on_cpu = slots("auto", on_cpu=True, num_jobs=4)
    assert [slot.device for slot in on_cpu] == [f"cpu:{i}" for i in range(4)]
    assert {slot.environment["OMP_NUM_THREADS"] for slot in on_cpu} == {"2"}
    assert {slot.environment["MMTX_CORES"] for slot in slots("auto")} == {"2"}
    assert {slot.environment["MMTX_CORES"] for slot in slots("auto", per_job=2)} == {"4"}
    assert {slot.environment["CUDA_VISIBLE_DEVICES"] for slot in slots("cpu:2")} == {""}
    assert [slot.device for slot in slots("cpu:5", per_job=2)] == ["cpu:0,1", "cpu:2,3"]
    for wrong in ([4], "cpu:0", "gpu", "cpu:x"):
        with pytest.raises(InvalidValue, match="devices"):
            slots(wrong)
    with pytest.raises(InvalidValue, match="a job needs 2"):
        slots("cpu:1", per_job=2)
