"""One check per stage, which everything of its kind passes."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace

import numpy
import pytest
import torch
from beartype.door import is_bearable
from torch import Tensor, nn

from mmtx.batch import Batch, Sample, Spec, fake_batch
from mmtx.data.base import Source, Split
from mmtx.data.collate import collate
from mmtx.data.fitted import FittedState
from mmtx.data.spec_difference import spec_difference
from mmtx.modalities.base import Tokenizer
from mmtx.model import MultimodalTransformer
from mmtx.objectives.base import Example, Objective, Score
from mmtx.objectives.capabilities import Predicts, Prepares
from mmtx.objectives.predictions import columns_of, predictions_of
from mmtx.token_order import join
from mmtx.tokens import Tokens


def check_source(source: Source) -> None:
    """What training, evaluation and the tokenizers take for granted of a dataset."""
    assert source.specs, "a source declares at least one name"
    for name, spec in source.specs.items():
        _check_spec(name, spec)
    splits = {"train": source.train(), "val": source.val(), "test": source.test()}
    assert splits["train"] is not None, "there is something to learn from"
    seen: set[str] = set()
    for part, split in splits.items():
        if split is not None:
            seen |= _check_split(part, split, source)
    assert seen == set(source.specs), f"declared, and in no sample: {set(source.specs) - seen}"


def _check_spec(name: str, spec: Spec) -> None:
    assert spec.fields, f"{name} has no fields"
    counts = {field.num_classes for field in spec.fields.values()}
    if spec.class_names is not None:
        assert len(spec.class_names) in counts, (
            f"{name}: {len(spec.class_names)} labels, but fields of {counts} classes"
        )
        assert len(set(spec.class_names)) == len(spec.class_names), f"{name} has a label twice"
    if spec.vocabulary is not None:
        assert spec.vocabulary.size in counts, f"{name}: {spec.vocabulary.size} ids, but fields of {counts} classes"
        assert len(spec.vocabulary.byte_lengths()) == spec.vocabulary.size
    for key, field in spec.fields.items():
        assert field.num_classes is None or not field.dtype.is_floating_point, f"{name}.{key}: classes are integers"


def _check_split(part: str, split: Split, source: Source) -> set[str]:
    """The names that its samples have."""
    assert len(split) > 0, f"{part} is empty; a split that is not there is None"
    with pytest.raises(IndexError):
        split[len(split)]
    indices = sorted({0, len(split) - 1, *random.Random(0).sample(range(len(split)), min(len(split), 14))})
    samples = [_draw(split, i, seed=1) for i in indices]
    # training may be augmented, by the global generators alone; what is evaluated never changes
    again = [_draw(split, i, seed=1 if part == "train" else 2) for i in reversed(indices)]
    for i, first, second in zip(indices, samples, reversed(again), strict=True):
        assert _equal(first, second), f"{part}[{i}] is not the same when it is read again"
    batch = collate(samples, source.specs, ids=indices)  # raises where a sample does not fit its spec
    names = {name for sample in samples for name in sample}
    for name, spec in source.specs.items():
        _check_values(f"{part}: {name}", batch, name, spec)
    return names & set(source.specs)


def _check_values(where: str, batch: Batch, name: str, spec: Spec) -> None:
    for key, field in spec.fields.items():
        values = batch[name][key][batch.present(name)]
        assert values.dtype == field.dtype, f"{where}.{key}"
        if field.dtype.is_floating_point:
            assert values.isfinite().all(), f"{where}.{key} is not finite"
        elif field.num_classes is not None and values.numel():
            low, high = int(values.min()), int(values.max())
            assert 0 <= low <= high < field.num_classes, f"{where}.{key} lies in {low}..{high}"


def _draw(split: Split, index: int, seed: int) -> Sample:
    torch.default_generator.manual_seed(seed)
    random.seed(seed)
    numpy.random.seed(seed)
    return split[index]


def _equal(one: Sample, other: Sample) -> bool:
    return one.keys() == other.keys() and all(
        one[name].keys() == other[name].keys()
        and all(torch.equal(value, other[name][key]) for key, value in one[name].items())
        for name in one
    )


def check_learns(
    whole: Callable[[], Source],
    part: Callable[[], Source],
    names: Collection[str] | None = None,
    splits: Collection[str] = ("train",),
) -> None:
    """What a dataset learns from its data goes through `Source.fitted`, so that a run can hand it to the next.

    Args:
        whole: makes the dataset.
        part: makes it of a part of the same data, in which less can be learnt.
        names: whose encodings are compared; None: all.
        splits: of the part, whose samples are all in some split of the whole, without augmentation.
    """
    first = _made(whole, FittedState())
    handed = FittedState.from_run(first.specs, first.fitted.state())
    second = _made(part, handed)
    assert not handed.missing, "a source asks for what its like did not learn"
    for name, spec in first.specs.items():
        assert spec_difference(spec, second.specs[name]) is None, f"{name} is declared otherwise"
    compared = set(first.specs if names is None else names)
    known = _encodings(first, ("train", "val", "test"), compared)
    strange = _encodings(second, splits, compared) - known
    assert not strange, f"what is learnt outside of Source.fitted encodes {sorted({name for name, _ in strange})} anew"


def learns(whole: Callable[[], Source], part: Callable[[], Source]) -> bool:
    """Whether the part of the data teaches anything else than the whole: else `check_learns` shows nothing."""
    one, other = _made(whole, FittedState()), _made(part, FittedState())
    states = [{key: str(value) for key, value in each.fitted.state().items()} for each in (one, other)]
    return states[0] != states[1] or any(spec_difference(spec, other.specs[name]) for name, spec in one.specs.items())


def _made(make: Callable[[], Source], learnt: FittedState) -> Source:
    with learnt.active():
        return make()


def _encodings(source: Source, splits: Collection[str], names: Collection[str]) -> set[tuple[str, bytes]]:
    made = {"train": source.train, "val": source.val, "test": source.test}
    samples = [_draw(split, i, 1) for each in splits for split in [made[each]()] if split for i in range(len(split))]
    return {
        (name, b"".join(fields[key].contiguous().numpy().tobytes() for key in sorted(fields)))
        for sample in samples
        for name, fields in sample.items()
        if name in names
    }


def check_tokenizer(tokenizer: Tokenizer, apart: str = "nothing") -> None:
    """What `join` and the model take for granted of a tokenizer; `apart` begins the names of parameters that an
    objective reaches by another way than its tokens."""
    tokenizer.eval()
    check_coded(tokenizer, dict.fromkeys(tokenizer.coded, "name"), {"name": tokenizer.spec})
    specs, size = {"name": tokenizer.spec}, 4
    longest, short = fake_batch(specs, size, ragged=False), fake_batch(specs, size, seed=1)
    some_absent = _shortened(short, specs, {"name": short.lengths["name"] * torch.tensor([0, 1, 1, 1])})
    whole = _tokenize(tokenizer, longest)
    assert whole.full, "the host's knowledge that all samples are full is passed on"
    assert whole.lengths.tolist() == [whole.content.shape[1]] * size
    for batch in (longest, replace(longest, full={}), short, some_absent):
        tokens = _tokenize(tokenizer, batch)
        _check_tokens(tokenizer, tokens, batch.full.get("name", False))
        assert (tokens.lengths > 0).equal(batch.present("name")), "who is absent in the batch has no tokens"
        assert tokenizer.num_tokens(batch.lengths["name"]).equal(tokens.lengths), "lengths are foreseen"
        for index in range(size):
            alone, real = _tokenize(tokenizer, batch.select(slice(index, index + 1))), int(tokens.lengths[index])
            assert alone.lengths.tolist() == [real], "a sample's tokens do not depend on its batch"
            torch.testing.assert_close(alone.content[0, :real], tokens.content[index, :real], atol=1e-5, rtol=1e-5)
    _check_padding_is_not_read(tokenizer, some_absent)
    _check_gradients(tokenizer, whole, apart, reach=True)
    nobody = _shortened(short, specs, {"name": torch.zeros(size, dtype=torch.long)})
    _check_gradients(tokenizer, _tokenize(tokenizer, nobody), apart, reach=False)


def check_objective(objective: Objective, model: MultimodalTransformer, specs: Mapping[str, Spec]) -> None:
    """What training, evaluation and the records take for granted of an objective."""
    batch = fake_batch(specs, 6)
    everyone = {name: lengths.clone() for name, lengths in batch.lengths.items()}
    some_absent = {name: torch.where(torch.arange(6) == i, 0, n) for i, (name, n) in enumerate(everyone.items())}
    partly = _shortened(batch, specs, some_absent)
    nobody = collate([], specs, size=3)
    assert set(objective.labels) <= set(specs)
    check_needs(objective, model, batch)
    check_coded(objective, objective.coded, {name: specs[name] for name in objective.needs})
    for training in (True, False):
        objective.train(training)
        model.train(training)
        for given in (batch, partly, nobody):
            _check_score(objective, model, _prepared(objective, model, given))
    for raw in (batch, partly):
        given = _prepared(objective, model, raw)
        whole = _score(objective, model, given)
        parts = [_score(objective, model, given.select(part)) for part in (slice(0, 1), slice(1, 6))]
        _check_close(whole.vector(), parts[0].vector() + parts[1].vector(), "scores add up over a batch's parts")
        filled = _score(objective, model, _with_fillers(given))
        _check_close(filled.vector(), whole.vector(), "samples that have nothing in them change nothing")
        _check_metrics(objective, whole)
        together = objective.metrics(parts[0].totals() + parts[1].totals())
        assert together == pytest.approx(objective.metrics(whole), rel=1e-4, abs=1e-5), "so do metrics"
        examples = objective.examples(model, raw)
        assert len(examples) == len(raw), "one example per sample"
        assert all(isinstance(example, Example) for example in examples)
        check_predictions(objective, model, raw)
    check_predictions(objective, model, nobody)
    assert len(objective.examples(model, nobody)) == len(nobody)
    assert all(example.right is None for example in objective.examples(model, nobody)), "nothing is right or wrong"


NO_COLUMNS = {"Unmask": "the texts of its examples are all that it predicts"}
"""Why objectives offer no predictions of their own."""


def check_predictions(objective: Objective, model: MultimodalTransformer, batch: Batch) -> None:
    """A value of the declared type for every sample and column, or None; and a plain one, as JSON holds it."""
    assert isinstance(objective, Predicts) or type(objective).__name__ in NO_COLUMNS
    columns = columns_of(objective)
    with torch.no_grad():
        values = predictions_of(objective, model, batch, _prepared(objective, model, batch))
    assert set(values) == set(columns)
    for name, kind in columns.items():
        assert len(values[name]) == len(batch), name
        assert all(is_bearable(value, kind | None) for value in values[name]), f"{name} is no {kind}"


def check_coded(module: nn.Module, coded: Mapping[str, str], specs: Mapping[str, Spec]) -> None:
    """Parameters with a row for each code of the data are declared, so that another run takes them by names."""
    counts = {
        name: [field.num_classes for key, field in spec.fields.items() if key in ("class", "labels", "ids")]
        for name, spec in specs.items()
    }
    for key, parameter in module.named_parameters():
        names = [name for name, count in counts.items() if parameter.dim() and len(parameter) in count]
        assert not names or coded.get(key) in names, f"{key} has a row for each code of {names}: declare it in `coded`"
    for key, name in coded.items():
        rows = [len(parameter) for own, parameter in module.named_parameters() if own == key]
        assert name in specs and all(row >= (counts[name][0] or 0) for row in rows), f"coded: {key} of {name}"


def _tokenize(tokenizer: Tokenizer, batch: Batch) -> Tokens:
    return tokenizer(batch["name"], batch.lengths["name"], batch.full.get("name", False))


def _check_tokens(tokenizer: Tokenizer, tokens: Tokens, full: bool) -> None:
    count, length, width = tokens.content.shape
    assert tokens.full == full
    assert width == tokenizer.dim
    assert tokens.content.dtype == torch.get_default_dtype()
    assert tokens.content.isfinite().all()
    assert 1 <= length <= tokenizer.max_tokens
    assert 0 <= tokens.num_prefix_tokens < length, "something besides prefix tokens"
    assert tokens.lengths.shape == (count,)
    assert ((tokens.lengths >= 0) & (tokens.lengths <= length)).all()
    assert tokens.coordinates.shape == (length, len(tokenizer.extent))
    for axis, places in enumerate(tokenizer.extent):
        own = tokens.coordinates[tokens.num_prefix_tokens :, axis]
        assert ((own >= 0) & (own < places)).all(), f"axis {axis} has {places} places"
    assert tokens.time.shape in ((1, length), (count, length))
    assert (tokens.time >= 0).all()
    if len(tokens.time) == 1:
        assert int(tokens.time.max()) + 1 == tokens.num_items, "items count from 0"
    if tokens.num_items == length:
        later = torch.arange(1, length)[None] < tokens.lengths[:, None]
        assert (tokens.time.diff(dim=1) > 0).expand(count, -1)[later].all(), "as many items as tokens: it rises"
    join({"name": tokens}, {"name": torch.zeros(1, length, width)}, {"name": "name"})


def _check_padding_is_not_read(tokenizer: Tokenizer, batch: Batch) -> None:
    """Whatever stands where nothing is leaves the real tokens as they are."""
    noise = fake_batch({"name": tokenizer.spec}, len(batch), seed=2, ragged=False)
    filled = {}
    for key, field in tokenizer.spec.fields.items():
        values, other = batch["name"][key], noise["name"][key]
        other = other[:, : values.shape[1]] if field.ragged else other
        filled[key] = torch.where(_real(values, batch.lengths["name"], field.ragged), values, other)
    before, after = _tokenize(tokenizer, batch), _tokenize(tokenizer, replace(batch, fields={"name": filled}))
    assert after.lengths.equal(before.lengths)
    real = torch.arange(before.content.shape[1])[None] < before.lengths[:, None]
    torch.testing.assert_close(after.content[real], before.content[real], atol=1e-6, rtol=1e-6)


def _check_gradients(tokenizer: Tokenizer, tokens: Tokens, apart: str, reach: bool) -> None:
    """Every parameter is in the graph, whoever is present; and something comes of it if anyone is."""
    tokenizer.zero_grad()
    weight = torch.randn(tokens.content.shape, generator=torch.Generator().manual_seed(0))
    (tokens.content * weight).sum().backward()
    learnt = {key: parameter for key, parameter in tokenizer.named_parameters() if parameter.requires_grad}
    for key, parameter in learnt.items():
        if key.startswith(apart):
            continue
        assert parameter.grad is not None, f"{key} is not in the graph"
        assert parameter.grad.isfinite().all(), key
        assert not reach or parameter.grad.any(), f"no gradient reaches {key}"


def _check_score(objective: Objective, model: MultimodalTransformer, batch: Batch) -> None:
    """Finite, counted as announced, and with every parameter of the objective in the graph."""
    objective.zero_grad()
    model.zero_grad()
    score = objective(model, batch)
    assert score.count.item() == objective.count(batch).item(), "the count is known before anything is computed"
    assert score.vector().isfinite().all()
    assert score.count > 0 or not any(count.any() for _, count in score.stats.values())
    if score.count == 0:
        assert score.loss_sum.item() == 0, "no prediction, no loss"
    score.loss_sum.backward()
    for part in (objective, model):
        for key, parameter in part.named_parameters():
            assert parameter.grad is None or parameter.grad.isfinite().all(), key
    for key, parameter in objective.named_parameters():
        assert parameter.grad is not None, f"{key} is not in the graph"
    objective.metrics(score)  # of nothing, too


def check_needs(objective: Objective, model: MultimodalTransformer, batch: Batch) -> None:
    """Where a whole batch lacks a name, as those of a mixture do, the objective does not apply, or does without it."""
    assert objective.applies(batch)
    for name in batch.fields:
        fields, lengths = dict(batch.fields), dict(batch.lengths)
        del fields[name], lengths[name]
        less = replace(batch, fields=fields, lengths=lengths)
        heard = all(any(each in less for each in stack) for stack in (model.decoded, model.encoded) if stack)
        if heard and objective.applies(less):  # parts that offer a stack nothing are refused before
            _check_score(objective, model, _prepared(objective, model, less))


def _prepared(objective: Objective, model: MultimodalTransformer, batch: Batch) -> Batch:
    """What the objective counts and scores, which is as long as the batch."""
    if not isinstance(objective, Prepares):
        return batch
    prepared = objective.prepare(model, batch, torch.Generator().manual_seed(0))
    assert len(prepared) == len(batch)
    return prepared


def _score(objective: Objective, model: MultimodalTransformer, batch: Batch) -> Score:
    with torch.no_grad():
        return objective(model, batch)


def _check_metrics(objective: Objective, score: Score) -> None:
    metrics = objective.metrics(score)
    assert "loss" in metrics
    for key, value in metrics.items():
        assert isinstance(value, float), key
        assert math.isfinite(value), key
    again = objective.metrics(Score.nothing() + score.totals("cpu"))
    assert again == pytest.approx(metrics, rel=1e-5), "metrics of sums that were sent around are the same"


def _check_close(actual: Tensor, expected: Tensor, message: str) -> None:
    torch.testing.assert_close(actual, expected, atol=1e-4, rtol=1e-5, msg=lambda detail: f"{message}: {detail}")


def _shortened(batch: Batch, specs: Mapping[str, Spec], lengths: dict[str, Tensor]) -> Batch:
    """Some samples shorter or absent, with zeros where nothing is, as collating leaves them."""
    fields = {
        name: {
            key: values * _real(values, lengths[name], specs[name].fields[key].ragged) for key, values in parts.items()
        }
        for name, parts in batch.fields.items()
    }
    return replace(batch, fields=fields, lengths=lengths, full=dict.fromkeys(fields, False))


def _with_fillers(batch: Batch, count: int = 2) -> Batch:
    """The batch with samples at its end that have nothing in them."""

    def longer(values: Tensor) -> Tensor:
        return torch.cat([values, values.new_zeros(count, *values.shape[1:])])

    fields = {name: {key: longer(values) for key, values in parts.items()} for name, parts in batch.fields.items()}
    lengths = {name: longer(values) for name, values in batch.lengths.items()}
    assert batch.ids is not None
    return Batch(fields, lengths, dict.fromkeys(fields, False), torch.cat([batch.ids, -torch.ones(count).long()]))


def _real(values: Tensor, lengths: Tensor, ragged: bool) -> Tensor:
    """Which values stand where a sample is."""
    real = (torch.arange(values.shape[1])[None] < lengths[:, None]) if ragged else lengths > 0
    return real.view(*real.shape, *[1] * (values.dim() - real.dim())).expand_as(values)
