"""A text written from another text, a picture, or a sample of the data."""

from collections.abc import Sequence
from typing import Any

import torch

from mmtx.data.collate import collate
from mmtx.data.text.vocabulary import TextVocabulary
from mmtx.errors import InvalidValue, UserError
from mmtx.generation.rest_of_set import INPUTS, inputs_of, rest_of_set, with_field
from mmtx.generation.trained import Trained
from mmtx.learner import Learner
from mmtx.objectives.capabilities import Writes


def translate(
    trained: Trained,
    objective: Writes,
    *,
    prompt: str | None = None,
    image: str | None = None,
    index: int | None = None,
    **options: Any,
) -> str:
    """A whole text, written from the rest of the set (objective=[seq2seq] or [ctc]).

    Args:
        trained: the model.
        objective: that writes.
        prompt: the text to translate
        image: or a picture file to describe
        index: or a sample, counted from 0, of the run's test (or validation) data
        options: of the objective.

    Raises:
        UserError: an option cannot be, or nothing is given to write from.
    """
    learner = trained.learner
    others = inputs_of(learner, objective.writes)
    for key, value in (("image", image), ("index", index)) if prompt is not None else ():
        if value is not None:
            raise InvalidValue(key, value, "cannot be given beside prompt=TEXT; give one of them")
    if prompt is not None:
        source = with_field(learner, others, "prompt")[0]
        sample = {source: {"ids": source_ids(learner, source, prompt)}}
    elif image is None and index is None:
        raise UserError(f"this model writes from {', '.join(others)}; give {_sources(learner, others)}")
    else:
        sample = rest_of_set(trained, others, image, index)
    return objective.write(learner.model, trained.sent(collate([sample], learner.specs)), **options)[0]


def source_ids(learner: Learner, name: str, text: str) -> torch.Tensor:
    """Ids of a text as the data has them: between its marks, where it has any."""
    vocabulary, longest = learner.specs[name].vocabulary, learner.specs[name].fields["ids"].max_length
    assert isinstance(vocabulary, TextVocabulary) and longest is not None
    ids = vocabulary.encode_marked(text)
    if len(ids) > longest:
        raise InvalidValue("prompt", text, f"is {len(ids)} ids long; the model reads {longest}")
    return torch.tensor(ids)


def _sources(learner: Learner, names: Sequence[str]) -> str:
    """What can be given to a model that writes from these names."""
    keys = [key for key in INPUTS if with_field(learner, names, key)]
    return " or ".join([*(f"{key}={'TEXT' if key == 'prompt' else 'FILE'}" for key in keys), "index=N"])
