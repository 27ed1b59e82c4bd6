"""What goes into a program of a run, by name, and what it computes.

Inputs are the fields that the tokenizers of the set read, ``image.pixels`` or ``text.ids``, as the data has them, and
``text.length``, how much of each sample is real: of names whose samples have unequal lengths, and of all names where
the set has several, since a sample may lack any of them (a length of 0).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from mmtx.batch import Batch, Field, fake_batch
from mmtx.errors import UserError
from mmtx.interop.family import Config, Family
from mmtx.learner import Learner
from mmtx.objectives.capabilities import Exports
from mmtx.objectives.text_head import PREDICTED

Named = Mapping[str, Tensor]


@dataclass(frozen=True)
class Interface:
    """The inputs and outputs of a program.

    Attributes:
        compute: ``compute(learner, inputs) -> outputs``.
        example: inputs, by which it is recorded.
        axes: ``{input: {axis: name of its size}}`` of the axes that may have any size.
    """

    compute: Callable[[Learner, Named], Named]
    example: Named
    axes: Mapping[str, Mapping[int, str]]


def run_interface(learner: Learner) -> Interface:
    """That of a run: fields of the data, to what its objectives give (`Exports`).

    Raises:
        UserError: no objective gives anything.
    """
    if not any(isinstance(learner.objective(name), Exports) for name in learner.objectives):
        kinds = ", ".join(type(learner.objective(name)).__name__ for name in learner.objectives)
        raise UserError(f"{kinds} gives nothing to export: an objective needs a method outputs(model, batch)")
    example = inputs_of(learner, fake_batch(learner.model.read_specs, 3))
    return Interface(_computed, example, {name: _axes(learner, name) for name in example})


def family_interface(learner: Learner, family: Family, config: Config) -> Interface:
    """That of a public family: unpadded inputs by its own names, texts and sounds of any length."""
    example = family.example(config)
    if (
        "pixel_values" in example and "image" in learner.specs
    ):  # of the data's size, which need not be that of the family's positions
        shape = [size or 0 for size in learner.specs["image"].fields["pixels"].shape]
        example["pixel_values"] = torch.zeros(2, *shape)
    return Interface(
        lambda learner, inputs: family.forward(learner, config, **inputs),
        example,
        {
            name: {0: "batch", 1: f"{name}.longest"} if value.dim() == 2 else {0: "batch"}
            for name, value in example.items()
        },
    )


def inputs_of(learner: Learner, batch: Batch) -> dict[str, Tensor]:
    """The inputs that a batch gives; of names that it does not have, none."""
    inputs: dict[str, Tensor] = {}
    for name in (name for name in learner.model.names if name in batch):
        inputs |= {f"{name}.{key}": batch[name][key] for key in _fields(learner, name)}
        inputs |= {f"{name}.length": batch.lengths[name]} if _has_length(learner, name) else {}
    return inputs


def outputs_of(learner: Learner, batch: Batch) -> dict[str, Tensor]:
    """What the objectives give of a batch; under the name of each where there are several."""
    outputs: dict[str, Tensor] = {}
    with learner.model.sharing():
        for name in learner.objectives:
            objective = learner.objective(name)
            found = objective.outputs(learner.model, batch) if isinstance(objective, Exports) else {}
            outputs |= {key if len(learner.objectives) == 1 else f"{name}.{key}": value for key, value in found.items()}
    return outputs


def _computed(learner: Learner, inputs: Named) -> Named:
    return outputs_of(learner, _batch_of(learner, inputs))


def _batch_of(learner: Learner, inputs: Named) -> Batch:
    """The inverse of `inputs_of`."""
    names, count = learner.model.names, next(iter(inputs.values())).shape[0]
    fields = {name: {key: inputs[f"{name}.{key}"] for key in _fields(learner, name)} for name in names}
    there = torch.ones(count, dtype=torch.long)
    lengths = {name: inputs.get(f"{name}.length", there) for name in names}
    return Batch(fields, lengths, {name: not _has_length(learner, name) for name in names})


def _fields(learner: Learner, name: str) -> Mapping[str, Field]:
    fields = learner.model.tokenizer(name).spec.fields
    return {key: field for key, field in fields.items() if key != PREDICTED}  # which no tokenizer reads


def _has_length(learner: Learner, name: str) -> bool:
    return len(learner.model.names) > 1 or any(field.ragged for field in _fields(learner, name).values())


def _axes(learner: Learner, put: str) -> dict[int, str]:
    """The axes of an input that may have any size: samples, and what is ragged."""
    name, _, key = put.rpartition(".")
    field = _fields(learner, name).get(key)
    is_ragged = field is not None and field.ragged and learner.model.tokenizer(name).spec.max_length > 1
    return {0: "batch", 1: f"{name}.longest"} if is_ragged else {0: "batch"}
