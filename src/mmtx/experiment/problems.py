"""What is wrong with a config beyond the types and the limits of its single objects."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from mmtx.config.schema import Config
from mmtx.data.loaders import DataModule
from mmtx.errors import InvalidValue
from mmtx.learner import Learner
from mmtx.nn.low_rank_update import updates_of
from mmtx.nn.quantised import quantised

if TYPE_CHECKING:
    from mmtx.training.optimisation import Optimisation
    from mmtx.training.trainer import Training

LONGEST_NAME = 255
"""Bytes that file systems take for the name of a folder."""

SEEDS = 2**32
"""What numpy's generators take."""


def value_problems(config: Config) -> Iterator[str]:
    """Of values that belong to no object. Types are checked elsewhere."""
    for key, needed in (("modality", "at least one name"), ("objective", "at least one objective")):
        if not config[key]:
            yield f"{key}=[] is empty; choose {needed}"
    seed, every, name = config["seed"], config["log_every_steps"], config["name"]
    if isinstance(seed, int) and not 0 <= seed < SEEDS:
        yield f"seed={seed} must lie in 0..{SEEDS - 1}"
    if config["encoder"] and not config["encode"]:
        yield f"encoder={config['encoder']} is of no use: nothing is encoded; add encode=[NAME]"
    if isinstance(every, int) and every < 1:
        yield f"log_every_steps={every} must be at least 1"
    if isinstance(name, str) and not _names_a_folder(name):
        yield f"name={name!r} must name a folder under runs/; run_dir=DIR is a folder anywhere"
    if config["init_from"] == "":
        yield "init_from= is empty; init_from=null begins with fresh weights"
    if isinstance(config["init_from"], dict):
        for part, place in config["init_from"].items():
            if str(place).startswith("hub://"):
                yield f"init_from.{part}={place} is an address; several parts begin with folders: download it first"


def _names_a_folder(name: str) -> bool:
    """Whether a name can be a folder of a run, or several, one in the other."""
    fits = all(part.strip() and part != ".." and len(part.encode()) <= LONGEST_NAME for part in name.split("/"))
    return fits and name.isprintable() and name != "."


def training_problems(
    training: Training, optimisation: Optimisation | None, learner: Learner | None, data: DataModule | None
) -> Iterator[str]:
    """Of the way of training together with what is trained; None: that could not be made."""
    if training.is_sharded and data is not None and len(data.source.parts) > 1:
        problem = "needs as many batches on every rank, and a mixture does not give them; use ddp"
        yield f"trainer.strategy={training.strategy} {problem}"
    for key in ("matrices", "rest") if training.is_sharded and optimisation is not None else ():
        if getattr(optimisation, key) is not None:
            yield f"optim.{key} steps whole parameters, which trainer.strategy=fsdp2 shards; use ddp, or optim=adamw"
    if training.is_sharded and learner is not None and any(quantised(module) for module in learner.modules()):
        yield "lora.quantised stores weights that trainer.strategy=fsdp2 cannot shard; use ddp, or lora.quantised=null"
    if learner is not None and learner.teaching:
        yield from _teacher_problems(training, learner)
    for name in learner.objectives if training.is_sharded and learner is not None else ():
        if learner is not None and learner.objective(name).rolls_out:
            problem = "runs the model for roll-outs, each rank as often as it has to, which needs whole weights"
            yield f"{name} {problem}; trainer.strategy=fsdp2 has parts of them, so use ddp"
    if learner is not None and optimisation is not None and learner.model.backbone.base_width is not None:
        yield from _growing_steps(optimisation)
    if training.device_type == "cpu" and learner is not None:
        for key in [key for key, stack in learner.model.stacks.items() if stack.flex][:1]:
            problem = "cannot train here, as FlexAttention does not support backward on CPU"
            yield f"{key}.flex=true {problem}; set {key}.flex=false"


def _teacher_problems(training: Training, learner: Learner) -> Iterator[str]:
    """A teacher is a whole copy of the model as the config describes it, without updates."""
    names = ", ".join(name for name, each in learner.objectives.items() if each in learner.teaching)
    if training.is_sharded:
        yield f"trainer.strategy=fsdp2 shards weights that the teacher of objective={names} follows whole; use ddp"
    if any(updates_of(module) for module in learner.model.modules()):
        yield f"lora adds updates that the teacher of objective={names} cannot follow; set lora=null"


def _growing_steps(optimisation: Optimisation) -> Iterator[str]:
    """Muon as large as AdamW: its steps grow with the root of the width."""
    scale = getattr(optimisation.matrices, "keywords", {}).get("adjust_lr_fn")
    if scale == "match_rms_adamw":
        problem = "makes larger steps in a wider model, which backbone.base_width does not know"
        yield f"optim.matrices.adjust_lr_fn={scale} {problem}; set it to original, and optim.rates.matrix to its rate"


def packing_problems(device_type: str, learner: Learner | None, data: DataModule | None) -> Iterator[str]:
    """Mixers that cannot keep the samples of a packed row apart, and scores that a GPU cannot change in one."""
    if learner is None or data is None or not data.packing:
        return
    for key, stack in (("backbone", learner.model.backbone), ("encoder", learner.model.encoder)):
        try:
            if stack is not None:
                stack.check_packing(device_type)
        except InvalidValue as error:
            yield str(error.under(key))


def check_steps(training: Training, data: DataModule) -> None:
    """Raises InvalidValue where a run has no optimiser step, or none to be profiled."""
    from mmtx.training.step_profile import TRACED, WARM_UP

    total = training.total_steps(data.num_train, data.batch_size)
    if total < 1:
        raise InvalidValue("max_epochs", training.max_epochs, "gives no optimiser step")
    if training.profile and total < WARM_UP + TRACED:
        problem = f"traces {TRACED} steps after the first {WARM_UP}, and this run has {total}"
        raise InvalidValue("profile", True, f"{problem}; set trainer.profile=false, or make the run longer")
