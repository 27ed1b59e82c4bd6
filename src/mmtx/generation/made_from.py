"""What pictures and sounds are made from: a class, a text, or a sample of the run's data."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from mmtx.batch import Batch, Sample
from mmtx.data.collate import collate
from mmtx.errors import InvalidValue, UserError, some
from mmtx.generation.rest_of_set import INPUTS, inputs_of, rest_of_set, with_field
from mmtx.generation.trained import Trained
from mmtx.generation.translation import source_ids
from mmtx.learner import Learner


def given_batch(trained: Trained, writes: str | None, options: Mapping[str, Any], count: int) -> Batch:
    """As many samples of the rest of the set, all the same, on the model's device.

    Args:
        trained: the model.
        writes: the name that is made.
        options: ``label``, ``prompt`` and ``index``, of which one gives the rest of the set; the others are None.
        count: of samples.

    Raises:
        UserError: an option cannot be, or none is given where one is needed.
    """
    sample = _given(trained, writes, options)
    specs = {name: trained.learner.specs[name] for name in sample}
    return trained.sent(collate([sample] * count, specs, size=count))


def _given(trained: Trained, writes: str | None, options: Mapping[str, Any]) -> Sample:
    """The rest of the set, of which one option gives all."""
    learner, names = trained.learner, inputs_of(trained.learner, writes)
    given = {key: value for key, value in options.items() if value is not None}
    if len(given) > 1:
        first, second, *_ = given
        raise InvalidValue(second, given[second], f"cannot be given beside {first}={given[first]}; give one of them")
    if "index" in given or not names:
        return rest_of_set(trained, names, None, given.get("index"))
    keys = [key for key in ("label", "prompt") if with_field(learner, names, key)]
    if not given:
        ways = " or ".join([f"{key}=..." for key in keys] + ["index=N"])
        raise UserError(f"this model makes '{writes}' from {', '.join(names)}; give {ways}")
    ((key, value),) = given.items()
    (name, *_), others = (
        with_field(learner, names, key),
        [each for each in names if INPUTS[key] not in _fields(learner, each)],
    )
    if others:
        raise InvalidValue(key, value, f"gives no {some(others)}, which this set needs too", "index=N")
    fields = {"class": _class(learner, name, str(value))} if key == "label" else {}
    return {name: fields or {"ids": source_ids(learner, name, str(value))}}


def _fields(learner: Learner, name: str) -> list[str]:
    return [*learner.specs[name].fields]


def _class(learner: Learner, name: str, label: str) -> Tensor:
    """The code of a class, by its name, else by its number."""
    spec = learner.specs[name]
    names, number = spec.class_names or (), spec.fields["class"].num_classes or 0
    if label in names:
        return torch.tensor(names.index(label))
    if label.isdecimal() and int(label) < number:
        return torch.tensor(int(label))
    raise InvalidValue("label", label, f"is no class of '{name}'", some(names) if names else f"0..{number - 1}")
