"""A step that is not logged reads nothing back from its device, and sends nothing there that it has to wait for."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from device_waits import OnDevice, Waits
from test_every_yaml import small_data_of

from mmtx.batch import Batch
from mmtx.config.compose import compose
from mmtx.experiment import assemble
from mmtx.run.directory import RunDirectory
from mmtx.run.job import execute, prepare
from mmtx.training.lightning_module import MultimodalModule

SHORT = ["trainer.max_steps=4", "trainer.val_every_steps=4", "log_every_steps=100", "loader.batch_size=4"]
SHORT += ["logger=[]", "callbacks=[]", "optim.ema_decay=0.9", "trainer.peak_tflops=1"]
SHORT += ["backbone.dim=24", "backbone.num_layers=2", "backbone.num_heads=2"]


def watch_the_third_step(monkeypatch: pytest.MonkeyPatch, folder: Path, words: Sequence[str], watched: Any) -> None:
    """Runs four steps, none of which is logged but the first and the last; `watched` is called with the third."""
    step, done = MultimodalModule.training_step, [0]

    def counted(module: MultimodalModule, batches: list[Batch], index: int) -> None:
        done[0] += 1
        take = partial(step, module)
        return watched(take, batches, index) if done[0] == 3 else take(batches, index)

    monkeypatch.setattr(MultimodalModule, "training_step", counted)
    experiment = assemble(compose([*words, *SHORT]))
    run = RunDirectory(folder / "run")
    prepare(experiment.config, run)
    assert execute(experiment, run) == 0 and done == [4]


ON_A_CPU_ALONE = {
    *("cpu in _host_lengths", "tolist in _host_lengths", "__int__ in _play", "__bool__ in _few_that_predict"),
}
"""What is there already is read, a batch of sounds cut to its longest, and whether few tokens predict, where the device
is the host."""

ONCE = {"to in forward"}
"""The constants of a spectrogram, which are on the device from the first step on."""


def test_what_waits_is_found() -> None:
    device, host = torch.arange(3.0).as_subclass(OnDevice), torch.arange(3)
    calls = {
        "item": lambda: device.sum().item(),
        "__bool__": lambda: bool(device.sum() > 0),
        "__float__": lambda: float((device * 2).sum()),
        "__getitem__": lambda: device[device > 1],
        "__setitem__": lambda: device.__setitem__(device > 1, 0.0),
        "nonzero": lambda: torch.nonzero(device),
        "repeat_interleave": lambda: torch.repeat_interleave(device, device.long()),
        "tensor": lambda: torch.tensor([1.0], device="cpu"),
        "new_tensor": lambda: device.new_tensor([1.0]),
        "to": lambda: host.to("cpu"),
    }
    for name, call in calls.items():
        with Waits() as mode:
            call()
        assert set(mode.found) == {name}
    with Waits() as mode:
        int(host.sum()), host.tolist(), host.to("cpu", non_blocking=True)
        device[host], device.to(torch.half), torch.zeros(3, device="cpu") + device, device.where(device > 1, 0.0)
    assert not mode.found


def words_of(recipe: str, packing: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    few = ["objective.action.val_episodes=2", "objective.action.test_episodes=2"] * recipe.startswith("dt")
    few += ["backbone.compile=false", "backbone.num_layers=1", "loader.batch_size=8"] * recipe.endswith("gpu")
    return [f"experiment={recipe}", *small_data_of(recipe, folder, monkeypatch), f"loader.packing={packing}", *few]


RECIPES = ["gpt_python", "vit_digits", "whisper_digits", "dt_key_to_door"]
CASES = [*itertools.product(RECIPES, ["false", "true"]), ("vit_cifar10_gpu", "false")]


@pytest.mark.parametrize(("recipe", "packing"), CASES)
def test_a_step_waits_for_nothing(recipe: str, packing: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mode = Waits()

    def watched(take: Any, batches: list[Batch], index: int) -> None:
        with mode:
            take([batch.map(lambda tensor: tensor.as_subclass(OnDevice)) for batch in batches], index)

    words = [*words_of(recipe, packing, tmp_path, monkeypatch), "trainer.accelerator=cpu"]
    watch_the_third_step(monkeypatch, tmp_path, words, watched)
    assert mode.found.keys() <= ON_A_CPU_ALONE | ONCE


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize(("recipe", "packing"), CASES)
def test_a_step_waits_for_nothing_on_a_gpu(
    recipe: str, packing: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def watched(take: Any, batches: list[Batch], index: int) -> None:
        torch.cuda.set_sync_debug_mode("error")
        try:
            take(batches, index)
        finally:
            torch.cuda.set_sync_debug_mode("default")

    watch_the_third_step(monkeypatch, tmp_path, words_of(recipe, packing, tmp_path, monkeypatch), watched)
