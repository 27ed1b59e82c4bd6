"""What keeps two declarations of one name from meaning the same: its codes, its numbers, or their sizes."""

from __future__ import annotations

from mmtx.batch import Spec, Vocabulary
from mmtx.data.text.vocabulary import described
from mmtx.errors import some


def difference(one: Spec, other: Spec) -> str | None:
    """In what two specs of a name differ, with both values; None where what fits one fits the other.

    Lengths may differ, and so may how many times there are. Codes that have no names have to be as many.
    """
    if set(one.fields) != set(other.fields):
        return f"their fields, {', '.join(one.fields)} and {', '.join(other.fields)}"
    for key, field in one.fields.items():
        again = other.fields[key]
        if (field.shape, field.dtype, field.rising) != (again.shape, again.dtype, again.rising):
            return f"the field {key}, {field.shape} of {field.dtype} and {again.shape} of {again.dtype}"
        if (field.num_classes is None) != (again.num_classes is None):
            return f"the field {key}, which has classes in one of them"
    if _known(one.vocabulary) != _known(other.vocabulary):
        return f"how its text becomes ids, {_shown(one.vocabulary)} and {_shown(other.vocabulary)}"
    if one.class_names != other.class_names:
        return f"its classes, {_some(one.class_names)} and {_some(other.class_names)}"
    named = one.vocabulary is not None or one.class_names is not None
    for key, field in one.fields.items():
        if not named and not field.rising and field.num_classes != other.fields[key].num_classes:
            return f"the field {key}, {field.num_classes} and {other.fields[key].num_classes} classes without names"
    for key in ("sample_rate_hz", "trim_db"):
        if getattr(one, key) != getattr(other, key):
            return f"{key}, {getattr(one, key)} and {getattr(other, key)}"
    return None


def _known(vocabulary: Vocabulary | None) -> object:
    return None if vocabulary is None else described(vocabulary)


def _shown(vocabulary: Vocabulary | None) -> str:
    return "none" if vocabulary is None else f"{type(vocabulary).__name__} of {vocabulary.size} ids"


def _some(labels: tuple[str, ...] | None) -> str:
    return "none" if labels is None else f"{len(labels)} ({some(labels)})"
