"""How two declarations of one name differ: in their codes, their numbers, or the sizes of these."""

from mmtx.batch import Spec, Vocabulary
from mmtx.data.text.vocabulary import describe_vocabulary
from mmtx.errors import some


def spec_difference(one: Spec, other: Spec) -> str | None:
    """Where two specs of a name differ, with both values; None where what fits one fits the other.

    Lengths may differ, and so may the number of times. Codes without names must be as many in both.
    """
    if set(one.fields) != set(other.fields):
        return f"their fields, {', '.join(one.fields)} and {', '.join(other.fields)}"
    for key, field in one.fields.items():
        again = other.fields[key]
        if (field.shape, field.dtype, field.rising) != (again.shape, again.dtype, again.rising):
            return f"the field {key}, {field.shape} of {field.dtype} and {again.shape} of {again.dtype}"
        if (field.num_classes is None) != (again.num_classes is None):
            return f"the field {key}, which has classes in one of them"
    if _state(one.vocabulary) != _state(other.vocabulary):
        return f"how its text becomes ids, {_vocabulary(one.vocabulary)} and {_vocabulary(other.vocabulary)}"
    if one.class_names != other.class_names:
        return f"its classes, {_classes(one.class_names)} and {_classes(other.class_names)}"
    named = one.vocabulary is not None or one.class_names is not None
    for key, field in one.fields.items():
        if not named and not field.rising and field.num_classes != other.fields[key].num_classes:
            return f"the field {key}, {field.num_classes} and {other.fields[key].num_classes} classes without names"
    for key in ("sample_rate_hz", "trim_db"):
        if getattr(one, key) != getattr(other, key):
            return f"{key}, {getattr(one, key)} and {getattr(other, key)}"
    return None


def _state(vocabulary: Vocabulary | None) -> object:
    return None if vocabulary is None else describe_vocabulary(vocabulary)


def _vocabulary(vocabulary: Vocabulary | None) -> str:
    return "none" if vocabulary is None else f"{type(vocabulary).__name__} of {vocabulary.size} ids"


def _classes(names: tuple[str, ...] | None) -> str:
    return "none" if names is None else f"{len(names)} ({some(names)})"
