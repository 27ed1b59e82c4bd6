"""A text written from another, or from a sample of the data."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from mmtx.data.collate import collate
from mmtx.errors import InvalidValue, UserError
from mmtx.learner import Learner
from mmtx.modalities.audio import Audio
from mmtx.modalities.image import Image
from mmtx.modalities.text import Text
from mmtx.objectives.seq2seq import Seq2Seq
from mmtx.write.continuation import rest_of_set


def translate(place: str, learner: Learner, objective: Seq2Seq, options: Mapping[str, Any]) -> str:
    """The text that the model writes given ``prompt=TEXT``, ``image=FILE``, or ``index=N``."""
    others = [name for name in learner.model.names if name != objective.text]
    source = next((name for name in others if isinstance(learner.model.tokenizer(name), Text)), None)
    if options["prompt"] is not None and source is None:
        raise UserError(f"prompt=TEXT: this model writes from {', '.join(others)}; give {_ways(learner, others)}")
    for key in ("image", "index") if options["prompt"] is not None else ():
        if options[key] is not None:
            raise InvalidValue(key, options[key], "says nothing beside prompt=TEXT; give one of them")
    if source is not None and options["prompt"] is not None:
        sample = {source: {"ids": source_ids(learner, source, options["prompt"])}}
    elif options["image"] is None and options["index"] is None:
        raise UserError(f"this model writes from {', '.join(others)}; give {_ways(learner, others)}")
    else:
        sample = rest_of_set(learner, place, others, options)
    objective.search_with(options["beam_size"], options["length_penalty"])
    limit, cache = options["max_new_tokens"], bool(options["cache"])
    return objective.write(learner.model, collate([sample], learner.specs), max_new_tokens=limit, cache=cache)[0]


def source_ids(learner: Learner, name: str, text: str) -> torch.Tensor:
    """Ids of a text as the data has them: between its marks, where it has any."""
    vocabulary, longest = learner.specs[name].vocabulary, learner.specs[name].fields["ids"].max_length
    assert vocabulary is not None and longest is not None
    begin = [vocabulary.begin] if vocabulary.begin is not None else []
    end = [vocabulary.end] if vocabulary.end is not None else []
    ids = [*begin, *vocabulary.encode(text), *end]
    if len(ids) > longest:
        raise InvalidValue("prompt", text, f"is {len(ids)} ids long; the model reads {longest}")
    return torch.tensor(ids)


WAYS = {Text: 'prompt="..."', Image: "image=FILE", Audio: "audio=FILE"}


def _ways(learner: Learner, names: list[str]) -> str:
    """What can be given to a model that writes from these names."""
    kinds = [type(learner.model.tokenizer(name)) for name in names]
    return " or ".join([*(WAYS[kind] for kind in kinds if kind in WAYS), "index=N"])
