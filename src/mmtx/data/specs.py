"""Specs of names that many datasets have: a class, labels, and a text."""

from dataclasses import replace

import torch

from mmtx.batch import Field, Spec, Vocabulary


def class_spec(names: tuple[str, ...]) -> Spec:
    """One class for each sample, with the names of the classes in the order of their codes."""
    return Spec({"class": Field((), torch.long, num_classes=len(names))}, class_names=names)


def labels_spec(names: tuple[str, ...]) -> Spec:
    """Any number of classes for each sample, none as well: a bool for each, in the order of their names."""
    return Spec({"labels": Field((len(names),), torch.bool, num_classes=len(names))}, class_names=names)


def text_spec(vocabulary: Vocabulary, max_length: int) -> Spec:
    """Texts of at most `max_length` ids."""
    ids = Field((None,), torch.long, num_classes=vocabulary.size, max_length=max_length)
    return Spec({"ids": ids}, vocabulary=vocabulary)


def conversation_spec(vocabulary: Vocabulary, max_length: int) -> Spec:
    """Texts of which only some ids are predicted, as ``predicted`` says."""
    text = text_spec(vocabulary, max_length)
    return replace(text, fields={**text.fields, "predicted": Field((None,), torch.bool, max_length=max_length)})


def scratched_spec(vocabulary: Vocabulary, max_length: int) -> Spec:
    """Texts of which only some ids are predicted, and of these only those of the field ``scored`` are scored."""
    text = conversation_spec(vocabulary, max_length)
    return replace(text, fields={**text.fields, "scored": Field((None,), torch.bool, max_length=max_length)})
