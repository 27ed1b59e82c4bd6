"""A text written from another text, a picture, or a sample of the data."""

from collections.abc import Callable, Sequence
from functools import partial

import torch

from mmtx.batch import Batch
from mmtx.data.collate import collate
from mmtx.data.text.vocabulary import TextVocabulary
from mmtx.errors import InvalidValue, UserError, check_within
from mmtx.generation.rest_of_set import INPUTS, rest_of_set
from mmtx.generation.trained import Trained
from mmtx.learner import Learner
from mmtx.modalities.text import Text
from mmtx.objectives.seq2seq import Seq2Seq

MOST_NEW_TOKENS = 2**31 - 1


def translate(
    trained: Trained,
    objective: Seq2Seq,
    *,
    prompt: str | None = None,
    image: str | None = None,
    index: int | None = None,
    max_new_tokens: int | None = None,
    beam_size: int | None = None,
    length_penalty: float | None = None,
) -> str:
    """A whole text, written from the rest of the set (objective=[seq2seq]).

    Args:
        trained: the model.
        objective: that writes.
        prompt: the text to translate
        image: or a picture file to describe
        index: or a sample, counted from 0, of the run's test (or validation) data
        max_new_tokens: upper limit; null: the model's context
        beam_size: hypotheses of beam search; null: as trained
        length_penalty: above 0 longer texts gain; null: as trained

    Raises:
        UserError: an option cannot be, or nothing is given to write from.
    """
    write, learner = writing(trained, objective, max_new_tokens, beam_size, length_penalty), trained.learner
    others = [name for name in learner.model.names if name != objective.text]
    for key, value in (("image", image), ("index", index)) if prompt is not None else ():
        if value is not None:
            raise InvalidValue(key, value, "cannot be given beside prompt=TEXT; give one of them")
    if prompt is not None:
        source = next(name for name in others if isinstance(learner.model.tokenizer(name), Text))
        sample = {source: {"ids": source_ids(learner, source, prompt)}}
    elif image is None and index is None:
        raise UserError(f"this model writes from {', '.join(others)}; give {_sources(learner, others)}")
    else:
        sample = rest_of_set(trained, others, image, index)
    return write(collate([sample], learner.specs))[0]


def writing(
    trained: Trained,
    objective: Seq2Seq,
    max_new_tokens: int | None,
    beam_size: int | None,
    length_penalty: float | None,
) -> Callable[[Batch], list[str]]:
    """From a batch to its texts. Raises InvalidValue for settings with which nothing can be searched."""
    if max_new_tokens is not None:
        check_within("max_new_tokens", max_new_tokens, 1, MOST_NEW_TOKENS)
    objective.search_with(beam_size, length_penalty)
    return partial(objective.write, trained.learner.model, max_new_tokens=max_new_tokens, cache=trained.cache)


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
    tokenizers = [learner.model.tokenizer(name) for name in names]
    keys = [key for key, kind in INPUTS.items() if any(isinstance(each, kind) for each in tokenizers)]
    return " or ".join([*(f"{key}={'TEXT' if key == 'prompt' else 'FILE'}" for key in keys), "index=N"])
