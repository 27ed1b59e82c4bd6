"""The classes of a public model's head, by their numbers and names, whatever their order in a file."""

from collections import Counter
from collections.abc import Mapping
from typing import Any

import torch

from mmtx.batch import Field, Spec
from mmtx.errors import UserError
from mmtx.interop.family import Config

ONE_OF = "single_label_classification"


def check_classes(config: Mapping[str, Any], rows: int) -> None:
    """Checks the keys of a config about the classes of a head with so many rows.

    Raises:
        UserError: the head is not for one class of several, or the config contradicts it or itself.
    """
    kind = config.get("problem_type")
    if kind not in (None, ONE_OF) or rows == 1:
        what = f"problem_type={kind}" if kind not in (None, ONE_OF) else "a head of 1 row, which is a regression"
        raise UserError(f"this {config['architectures'][0]} has {what}; mmtx reads heads for one class of several")
    for key in ("num_labels", "_num_labels"):
        if config.get(key) not in (None, rows):
            raise UserError(f"{key}={config[key]}, but the head has {rows} rows")
    names = _by_number(config.get("id2label"), rows)
    for name, number in (config.get("label2id") or {}).items():
        if names is None or (names.get(int(number)) != name and name != f"LABEL_{number}"):
            problem = "is missing" if names is None else f"has {names.get(int(number))!r} there"
            raise UserError(f"label2id names class {number} {name!r}; id2label {problem}")


def _by_number(id2label: Any, rows: int) -> dict[int, str] | None:
    """Names by number. Raises UserError unless the numbers are those of the rows, each once."""
    if not id2label:
        return None
    names = {int(number): str(name) for number, name in id2label.items()}
    wrong = sorted(set(names) ^ set(range(rows))) or [number for number in names if len(id2label) != len(names)]
    if wrong:
        what = "names" if wrong[0] in names else "lacks"
        raise UserError(
            f"id2label {what} class {wrong[0]} and has {len(id2label)} names; the head has rows 0..{rows - 1}"
        )
    return names


def label_spec(config: Mapping[str, Any], rows: int | None) -> Spec:
    """The spec of the classes of a head, in the order of its rows; two classes without names if there is no such head.

    Names that occur twice have their number appended: they are two classes.
    """
    names = _by_number(config.get("id2label"), rows) if rows is not None else None
    labels = None
    if names is not None:
        times = Counter(names.values())
        ordered = (names[number] for number in range(len(names)))
        labels = tuple(name if times[name] == 1 else f"{name} ({i})" for i, name in enumerate(ordered))
    return Spec({"class": Field((), torch.long, rows or 2)}, class_names=labels)


def labels_of(specs: Mapping[str, Spec]) -> Config:
    """The keys of a config for a `label_spec`."""
    label = specs.get("label")
    if label is None:
        return {}
    names = label.class_names or tuple(f"LABEL_{i}" for i in range(label.fields["class"].num_classes or 0))
    return {
        "num_labels": len(names),
        "id2label": {str(i): name for i, name in enumerate(names)},
        "label2id": {name: i for i, name in enumerate(names)},
    }
