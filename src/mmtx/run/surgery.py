"""Changes of a model that leave what it has learnt: more ids, other sizes, fewer names, more names."""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch

from mmtx.batch import Spec, Vocabulary
from mmtx.data.text.vocabulary import TextVocabulary
from mmtx.errors import InvalidValue
from mmtx.experiment import rebuild
from mmtx.learner import Learner
from mmtx.modalities import Image, Text
from mmtx.nn.low_rank_update import merge_updates
from mmtx.run.added_name import add_name
from mmtx.run.init_from import Report, check_any_fits, take
from mmtx.run.init_parts import begin_part
from mmtx.run.offer import offer_of, read_other
from mmtx.run.weight_shapes import coded


def operate(
    learner: Learner,
    *,
    drop: list[str] | None = None,
    tokens: list[str] | int | None = None,
    context: int | None = None,
    size: int | None = None,
    add: dict[str, str] | None = None,
    projector: str = "mlp",
) -> tuple[Learner, list[Report]]:
    """Another learner with the weights of one, and what became of them; and of those of each name that is added.

    Args:
        learner: that was loaded or imported; its low-rank updates become part of the weights.
        drop: names that leave the set, with their parameters.
        tokens: spellings of new tokens of all texts, or how many ids there are more where there is no tokenizer. Their
            rows begin as the mean of all others, in the embedding and in the head.
        context: the longest text. A table of positions is cut, or drawn out linearly where it becomes longer.
        size: height and width of pictures in pixels. A table of positions is resampled bicubically.
        add: names that come into the set, before those that are there, each with a run or a public model, whose stack
            for the name becomes its own encoder. What is computed without the name stays as it was.
        projector: behind such an encoder, of ``modality/projector``; it begins as drawn.

    Raises:
        UserError: it cannot be changed so.
    """
    other = copy.deepcopy(learner)
    other.origin = None  # it is what it is now, not what was in a file
    merge_updates(other)
    config = copy.deepcopy({**(learner.config or {}), "lora": None, "freeze": []})
    specs = dict(learner.specs)
    _drop(drop or [], config, specs)
    if tokens:
        _grow(tokens, specs)
    if context is not None:
        _lengthen(learner, context, config, specs)
    if size is not None:
        _resize(learner, size, config, specs)
    parts = {name: read_other(place, []) for name, place in (add or {}).items()}
    for name, part in reversed(parts.items()):
        add_name(name, part, projector, config, specs)
    made, report = rebuild(config, specs), Report("the model", key="")
    added = tuple(f"model.tokenizers.{name}." for name in parts)
    take(made, lambda key: not key.startswith(added), offer_of(other), report)
    check_any_fits(report, made.model.backbone, other.model.backbone, "model.backbone.", "backbone")
    if tokens:
        _fill_rows(made, other, report)
    places = {name: Report(place, f"add.{name}") for name, place in (add or {}).items()}
    return made, [report, *(begin_part(made, name, part, places[name], config) for name, part in parts.items())]


def _drop(names: Sequence[str], config: dict[str, Any], specs: dict[str, Spec]) -> None:
    for name in names:
        if name not in config["modality"]:
            raise InvalidValue("drop", name, f"is not in the set; it has {', '.join(config['modality'])}")
        del config["modality"][name]
        specs.pop(name, None)
    if not config["modality"]:
        raise InvalidValue("drop", list(names), "leaves nothing in the set")
    config["encode"] = [name for name in config["encode"] if name not in names]


def _grow(tokens: list[str] | int, specs: dict[str, Spec]) -> None:
    texts = {name: spec for name, spec in specs.items() if spec.vocabulary is not None and "ids" in spec.fields}
    if not texts:
        raise InvalidValue("tokens", tokens, "are of a text, and this model has none")
    grown: dict[int, Vocabulary] = {}  # two texts may share one
    for name, spec in texts.items():
        assert spec.vocabulary is not None
        vocabulary = grown.setdefault(id(spec.vocabulary), _grown(spec.vocabulary, tokens))
        ids = replace(spec.fields["ids"], num_classes=vocabulary.size)
        specs[name] = replace(spec, vocabulary=vocabulary, fields={**spec.fields, "ids": ids})


def _grown(vocabulary: Vocabulary, tokens: Sequence[str] | int) -> Vocabulary:
    """A vocabulary with more ids behind all others."""
    state, made = dict(vocabulary.state()), copy.copy(vocabulary)
    assert isinstance(made, TextVocabulary)
    if isinstance(tokens, int):
        if "tokenizer" in state or state.keys() < {"size"}:
            raise InvalidValue("tokens", tokens, "counts ids of a model without a tokenizer; spell them: tokens=[<a>]")
        state["size"] += tokens
    else:
        state |= _with_tokens(state, tokens)
    made.load(state)
    return made


def _with_tokens(state: Mapping[str, Any], tokens: Sequence[str]) -> dict[str, Any]:
    """A tokenizer with more tokens, and its size; rows that no token had are left where they are."""
    if "tokenizer" not in state or not state["tokenizer"].lstrip().startswith("{"):
        raise InvalidValue("tokens", list(tokens), "are added to a tokenizer.json, which this model lacks", "a number")
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_str(state["tokenizer"])
    if known := [token for token in tokens if tokenizer.token_to_id(token) is not None]:
        raise InvalidValue("tokens", ", ".join(known), "has an id already")
    spare = state["size"] - tokenizer.get_vocab_size()
    if spare:
        raise InvalidValue("tokens", list(tokens), f"would take ids of {spare} rows that the model has without tokens")
    tokenizer.add_tokens(list(tokens))
    return {"tokenizer": tokenizer.to_str(), "size": tokenizer.get_vocab_size()}


def _lengthen(learner: Learner, context: int, config: dict[str, Any], specs: dict[str, Spec]) -> None:
    texts = [name for name in learner.model.names if isinstance(learner.model.tokenizer(name), Text) and name in specs]
    if not texts:
        raise InvalidValue("context", context, "is of a text, and this model has none")
    for name in texts:
        config["modality"][name]["context"] = context
        ids = replace(specs[name].fields["ids"], max_length=context)
        specs[name] = replace(specs[name], fields={**specs[name].fields, "ids": ids})


def _resize(learner: Learner, size: int, config: dict[str, Any], specs: dict[str, Spec]) -> None:
    pictures = [name for name in learner.model.names if isinstance(learner.model.tokenizer(name), Image)]
    pictures = [name for name in pictures if name in specs]
    if not pictures:
        raise InvalidValue("size", size, "is of pictures, and this model has none")
    for name in pictures:
        pixels = specs[name].fields["pixels"]
        resized = replace(pixels, shape=(pixels.shape[0], size, size))
        specs[name] = replace(specs[name], fields={**specs[name].fields, "pixels": resized})
    if "size" in config["data"]:
        config["data"]["size"] = size


@torch.no_grad()
def _fill_rows(made: Learner, other: Learner, report: Report) -> None:
    """Old rows as they were; new ones are their mean."""
    ours, theirs, names = made.state_dict(), other.state_dict(), coded(made)
    for key in [key for key in report.new if key in theirs and key in names]:
        old, value = theirs[key], ours[key]
        value[: len(old)] = old
        value[len(old) :] = old.mean(0)
        report.new.remove(key)
        report.left.remove(key)
        report.grown.append(f"{key} ({len(value) - len(old)} of {len(value)} rows, the mean of the others)")
