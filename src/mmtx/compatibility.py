"""Compatibility of data, set and objectives, each of which is valid by itself."""

from collections import Counter
from collections.abc import Iterator, Mapping

import torch

from mmtx.batch import Spec, fake_batch
from mmtx.data.base import Source
from mmtx.errors import InvalidValue
from mmtx.learner import Learner
from mmtx.modalities.base import Tokenizer
from mmtx.modalities.capabilities import Ids, LearnsCodes
from mmtx.model import MultimodalTransformer
from mmtx.objectives.reconstruct import Reconstruct
from mmtx.objectives.text_head import TextHead


def mismatches(learner: Learner, source: Source) -> list[str]:
    """Everything that does not fit together, each with what to change."""
    found = [*_of_parts(learner, source)] if len(source.parts) > 1 else []
    for part in source.parts.values():
        found += [*_of_clocks(learner.model, part.specs), *_of_texts(learner, part.specs)]
        found += _of_order(learner.model, part.specs)
    return [*dict.fromkeys(found), *_of_stacks(learner), *_of_statistics(learner), *_of_codes(learner)]


def _of_codes(learner: Learner) -> Iterator[str]:
    """Names whose codes nothing would learn: no token of theirs has a gradient for what decodes them."""
    learnt = {each.name for name in learner.objectives if isinstance(each := learner.objective(name), Reconstruct)}
    for name in learner.model.names:
        if isinstance(learner.model.tokenizer(name), LearnsCodes) and name not in learnt:
            yield f"modality.{name} has codes, and nothing learns them: add the objective reconstruct"


def _of_parts(learner: Learner, source: Source) -> Iterator[str]:
    """Parts of a mixture without any name of a stack or for an objective; objectives to which no part applies."""
    applying = {part: learner.applying(dataset.specs) for part, dataset in source.parts.items()}
    for part, dataset in source.parts.items():
        offers, model = ", ".join(dataset.specs), learner.model
        for key, names in (("modality", model.decoded), ("encode", model.encoded)):
            if names and not any(name in dataset.specs for name in names):
                yield f"data.parts.{part} offers none of {key}=[{','.join(names)}]; it has {offers}"
        if not applying[part]:
            objectives = ",".join(learner.objectives)
            yield f"data.parts.{part} gives objective=[{objectives}] nothing to predict; it has {offers}"
    for name in learner.objectives:
        if not any(name in objectives for objectives in applying.values()):
            needs = ", ".join(learner.objective(name).needs)
            yield f"objective.{name} needs {needs}, which no part of the data has together"


def _of_clocks(model: MultimodalTransformer, specs: Mapping[str, Spec]) -> Iterator[str]:
    """Names of one clock with unequal numbers of items. A single item, such as a picture, goes with any; a text whose
    ids bring times leaves room among them for any number of others."""
    names = [name for name in model.names if name in specs]
    for clock, count in Counter(model.clock_of[name] for name in names).items():
        on_clock = [name for name in names if model.clock_of[name] == clock] if count > 1 else []
        extents = {name: _items_and_times(model.tokenizer(name), specs[name]) for name in on_clock}
        several = {name: (items, times) for name, (items, times) in extents.items() if items > 1}
        with_room = {
            name for name in several if isinstance(model.tokenizer(name), Ids) and "times" in specs[name].fields
        }
        items = {items for name, (items, _) in several.items() if name not in with_room}
        if len(items) > 1 or len({times for _, times in several.values()}) > 1:
            counts = ", ".join(f"{name} {items} (of {times})" for name, (items, times) in several.items())
            yield (
                f"modality: on the clock '{clock}', names differ in how many moments they have: {counts}; "
                f"make them equal in the data, or give one a clock of its own, modality.{list(several)[-1]}.clock=null"
            )


def _of_order(model: MultimodalTransformer, specs: Mapping[str, Spec]) -> Iterator[str]:
    """Mixers that read tokens one after the other, in a stack whose tokens share an order."""
    has_names = all(any(name in specs for name in names) for names in (model.decoded, model.encoded) if names)
    if not has_names or not any(stack.needs_time_order for stack in model.stacks.values()):
        return
    own, was_training = {name: spec for name, spec in model.read_specs.items() if name in specs}, model.training
    try:
        with torch.no_grad():
            model.eval().tokenize(fake_batch(own, 1, ragged=False))
    except InvalidValue as error:
        yield str(error)
    finally:
        model.train(was_training)


def _of_texts(learner: Learner, specs: Mapping[str, Spec]) -> Iterator[str]:
    """Texts that may be longer than their context; a predicted text is in the set without its last id."""
    objectives = [learner.objective(name) for name in learner.objectives]
    written = [{part.text for part in each.modules() if isinstance(part, TextHead)} for each in objectives]
    for name in (name for name in learner.model.names if name in specs):
        tokenizer, longest = learner.model.tokenizer(name), specs[name].max_length
        if objectives and all(name in objective.streams for objective in objectives):
            continue
        least = longest - 1 if written and all(name in texts for texts in written) else longest
        if isinstance(tokenizer, Ids) and tokenizer.context < least:
            key = f"modality.{name}.context"
            short = f"{key}={tokenizer.context} is too short for texts of the data, which have up to {longest} tokens"
            yield f"{short}; at least {least}, or {key}=null"


def _of_stacks(learner: Learner) -> Iterator[str]:
    """A backbone with parameters to learn, whose output no objective reads."""
    model, reads = learner.model, [learner.objective(name).reads for name in learner.objectives]
    learns = any(parameter.requires_grad for parameter in model.backbone.parameters())
    if learns and model.encoded and all(names and set(names) <= set(model.encoded) for names in reads):
        objectives, encode, rest = (",".join(names) for names in (learner.objectives, model.encoded, model.decoded))
        yield (
            f"encode=[{encode}]: nothing reads the backbone's output for {rest}, as objective=[{objectives}] reads the "
            f"encoder's alone; set modality=[{encode}] encode=[], or add an objective that reads {rest}"
        )


def _of_statistics(learner: Learner) -> Iterator[str]:
    """Objectives that use statistics of layers, of which none has any."""
    model, was_training = learner.model, learner.model.training
    asking = [name for name in learner.objectives if learner.objective(name).uses_statistics]
    if not asking:
        return
    with torch.no_grad(), model.sharing():
        model.eval()(fake_batch({**learner.specs, **model.read_specs}, 1, ragged=False))
        none = not model.statistics
    model.train(was_training)
    if none:
        yield (
            f"objective.{asking[0]} uses statistics of layers, and no layer counts anything; "
            "choose a backbone.mlp or backbone.kinds.<letter>.mlp that does, or leave it out of objective"
        )


def _items_and_times(tokenizer: Tokenizer, spec: Spec) -> tuple[int, int]:
    """Items of the longest sample, and of the whole episode that it may be a window of."""
    batch, was_training = fake_batch({"": spec}, 1, ragged=False), tokenizer.training
    with torch.no_grad():
        items = tokenizer.eval()(batch[""], batch.lengths[""], True).num_items
    tokenizer.train(was_training)
    times = spec.fields.get("times")
    return items, items if times is None else times.num_classes or items
