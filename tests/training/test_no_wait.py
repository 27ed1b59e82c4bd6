"""A step that is not logged reads nothing back from its device, and sends nothing there that it has to wait for."""

from __future__ import annotations

import traceback
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from test_every_yaml import small_data_of
from torch import Tensor
from torch.overrides import TorchFunctionMode, resolve_name

from mmtx.batch import Batch
from mmtx.config.compose import compose
from mmtx.experiment import assemble
from mmtx.run.directory import RunDirectory
from mmtx.run.job import execute, prepare
from mmtx.training.lightning_module import MultimodalModule

READS = {"item", "tolist", "numpy", "cpu", "__bool__", "__int__", "__float__", "__index__", "__contains__", "__array__"}
SIZED_BY_VALUES = {
    "nonzero",
    "argwhere",
    "masked_select",
    "unique",
    "unique_consecutive",
    "equal",
    "allclose",
    "bincount",
}
TORCH = str(Path(torch.__file__).parent)
MADE_ON_THE_HOST = {"tensor", "as_tensor", "new_tensor"}


class OnDevice(Tensor):
    """Stands for a tensor of another device, and so does all that is computed from it."""


class Waits(TorchFunctionMode):
    """Notes calls for which the host would wait on a GPU, and what of mmtx makes them. What is on the host is no
    `OnDevice`."""

    def __init__(self) -> None:
        super().__init__()
        self.found: set[str] = set()

    def __torch_function__(self, call: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name, kwargs = (resolve_name(call) or getattr(call, "__name__", "")).rpartition(".")[2], kwargs or {}
        if waits(name, args, kwargs):
            callers = traceback.extract_stack()[:-1]
            by_torch = TORCH in callers[-1].filename and not isinstance(args[0], OnDevice)  # moves gradients in place
            ours = [caller.name for caller in callers if "/src/mmtx/" in caller.filename]
            self.found |= set() if by_torch else {f"{name} in {ours[-1]}" if ours else name}
        return call(*args, **kwargs)


def waits(name: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> bool:
    first = args[0] if args else None
    if name in MADE_ON_THE_HOST:
        return kwargs.get("device") is not None or isinstance(first, OnDevice)
    if name == "to" and isinstance(first, Tensor):
        device = next((a for a in (*args[1:], kwargs.get("device")) if isinstance(a, torch.device | str)), None)
        return device is not None and not isinstance(first, OnDevice) and not kwargs.get("non_blocking")
    if not isinstance(first, OnDevice):
        return False
    by_mask = name in ("__getitem__", "__setitem__") and any(
        isinstance(i, Tensor) and i.dtype == torch.bool for i in (args[1] if isinstance(args[1], tuple) else args[1:2])
    )
    repeats = name == "repeat_interleave" and "output_size" not in kwargs and isinstance(args[-1], Tensor)
    one_sided = name == "where" and len(args) == 1
    return by_mask or repeats or one_sided or name in READS or name in SIZED_BY_VALUES


SHORT = ["trainer.max_steps=4", "trainer.val_every_steps=4", "log_every_steps=100", "loader.batch_size=4"]
SHORT += ["logger=[]", "callbacks=[]", "optim.ema_decay=0.9"]


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


ON_A_CPU_ALONE = {"cpu in _host_lengths", "tolist in _host_lengths", "__int__ in _play"}
"""What is there already is read, and a batch of sounds cut to its longest, where the device is the host."""

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
        assert mode.found == {name}
    with Waits() as mode:
        int(host.sum()), host.tolist(), host.to("cpu", non_blocking=True)
        device[host], device.to(torch.half), torch.zeros(3, device="cpu") + device, device.where(device > 1, 0.0)
    assert mode.found == set()


def words_of(recipe: str, packing: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    few = ["objective.action.val_episodes=2", "objective.action.test_episodes=2"] * recipe.startswith("dt")
    return [f"experiment={recipe}", *small_data_of(recipe, folder, monkeypatch), f"loader.packing={packing}", *few]


RECIPES = ["gpt_python", "vit_digits", "whisper_digits", "dt_key_to_door"]


@pytest.mark.parametrize("packing", ["false", "true"], ids=["padded", "packed"])
@pytest.mark.parametrize("recipe", RECIPES)
def test_a_step_waits_for_nothing(recipe: str, packing: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mode = Waits()

    def watched(take: Any, batches: list[Batch], index: int) -> None:
        with mode:
            take([batch._map(lambda tensor: tensor.as_subclass(OnDevice)) for batch in batches], index)

    words = [*words_of(recipe, packing, tmp_path, monkeypatch), "trainer.accelerator=cpu"]
    watch_the_third_step(monkeypatch, tmp_path, words, watched)
    assert mode.found <= ON_A_CPU_ALONE | ONCE


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("packing", ["false", "true"], ids=["padded", "packed"])
@pytest.mark.parametrize("recipe", RECIPES)
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
