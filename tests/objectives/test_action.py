"""The action of every step, from the tokens before it."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from builders import (
    POSITIONS,
    action,
    backbone,
    grid,
    grid_spec,
    merge,
    model,
    pictures_spec,
    series,
    series_spec,
    steps_batch,
    text,
    text_batch,
    text_spec,
)
from builders import image as pictures
from contracts import check_objective

from mmtx.batch import Batch, Field, Spec
from mmtx.errors import InvalidValue
from mmtx.model import MultimodalTransformer
from mmtx.nn.positions import Learned
from mmtx.objectives.action import Action
from mmtx.objectives.base import Example
from mmtx.tokens import Clock, HiddenStates, Span

CLASSES = {
    "return": series_spec(1),
    "state": series_spec(3),
    "action": replace(series_spec(num_classes=4), class_names=("up", "down", "left", "right")),
}
VECTORS = {**CLASSES, "action": series_spec(2)}
VIEWS = {"mission": text_spec(), "view": grid_spec(), "action": series_spec(num_classes=4)}
PICTURES = {"view": pictures_spec(), "action": series_spec(num_classes=4)}
SETS: dict[str, tuple[dict[str, Spec], list[str], dict[str, Any]]] = {
    "classes": (CLASSES, ["return", "state", "action"], {}),
    "vectors": (VECTORS, ["return", "state", "action"], {}),
    "vectors in -1..1": (VECTORS, ["return", "state", "action"], {"squash": True}),
    "cloning": (CLASSES, ["state", "action"], {}),
    "cloning vectors": (VECTORS, ["state", "action"], {"dropout": 0.1}),
    "states alone": (CLASSES, ["state"], {}),
    "a view of four tokens": (VIEWS, ["mission", "view", "action"], {"read": "view"}),
    "a picture of four tokens": (PICTURES, ["view", "action"], {"read": "view"}),
}


def made_model(
    specs: dict[str, Spec], names: list[str], *, clocks: dict[str, Clock] | None = None, **kwargs: Any
) -> MultimodalTransformer:
    torch.manual_seed(0)
    tokenizers: dict[str, Any] = {}
    for name in names:
        fields = specs[name].fields
        if "ids" in fields:
            tokenizers[name] = text(specs[name])
        elif "cells" in fields:
            tokenizers[name] = grid(specs[name], patch_size=2)
        elif "pixels" in fields:
            tokenizers[name] = pictures(specs[name], clock="step")
        else:
            tokenizers[name] = series(specs[name])
    clocks = {"step": Clock(embedding=Learned)} if clocks is None else clocks
    return model(tokenizers, backbone(positions=POSITIONS["learned"]), clocks=clocks, **kwargs)


def made(key: str, **changes: Any) -> tuple[MultimodalTransformer, Action]:
    specs, names, keys = SETS[key]
    whole = made_model(specs, names)
    return whole, action(whole, specs, **{**keys, **changes})


def windows(key: str, lengths: list[int], begin: list[int], seed: int = 0) -> Batch:
    specs = SETS[key][0]
    steps = steps_batch({name: spec for name, spec in specs.items() if name != "mission"}, lengths, begin, seed)
    return merge(steps, text_batch([3] * len(lengths), seed=seed, name="mission")) if "mission" in specs else steps


def alone(batch: Batch, index: int, length: int) -> Batch:
    """One sample without its padding."""
    one = batch.select(slice(index, index + 1))
    fields = {
        name: parts if name == "mission" else {key: values[:, :length] for key, values in parts.items()}
        for name, parts in one.fields.items()
    }
    return replace(one, fields=fields, full=dict.fromkeys(fields, False))


@pytest.mark.parametrize("key", SETS)
def test_contract(key: str) -> None:
    whole, objective = made(key)
    check_objective(objective, whole, SETS[key][0])


@pytest.mark.parametrize("key", SETS)
def test_equals_brute_force_on_real_steps(key: str) -> None:
    """Sample by sample without padding, step by step, from the mean of the step's tokens."""
    whole, objective = made(key)
    lengths = [4, 2, 1]
    batch = windows(key, lengths, [0, 7, 3])
    loss, right, per_step = torch.zeros(()), 0, 4 if objective.read == "view" else 1
    for index, length in enumerate(lengths):
        own = alone(batch, index, length)
        hidden = whole(own).tokens(objective.read)[0]
        assert len(hidden) == length * per_step
        for step in range(length):
            out = objective.head(hidden[step * per_step : (step + 1) * per_step].mean(0))
            true = own["action"][objective.field][0, step]
            if objective.is_discrete:
                loss = loss + F.cross_entropy(out[None], true[None])
                right += int(out.argmax() == true)
            else:
                loss = loss + ((out.tanh() if objective.squash else out) - true).square().sum()
    score = objective(whole, batch)
    torch.testing.assert_close(score.loss_sum, loss)
    assert score.count == (7 if objective.is_discrete else 14), "per step, or per number"
    metrics = objective.metrics(score)
    assert metrics["loss"] == pytest.approx(loss.item() / score.count.item(), rel=1e-5)
    if objective.is_discrete:
        assert metrics["accuracy"] == pytest.approx(right / 7)
    else:
        assert set(metrics) == {"loss"}


@pytest.mark.parametrize("key", ["classes", "vectors", "a view of four tokens"])
def test_what_stands_in_padding_is_not_learned(key: str) -> None:
    whole, objective = made(key)
    batch = windows(key, [4, 2], [0, 5])
    other = windows(key, [4, 4], [0, 5], seed=1)
    score = objective(whole, batch)
    filled = batch
    for name, parts in batch.fields.items():
        if name != "mission":
            values = {field: torch.cat([v[:1], v[1:]]) for field, v in parts.items()}
            for field, v in values.items():
                v[1, 2:] = other[name][field][1, 2:]
            filled = filled.with_name(name, values, batch.lengths[name])
    again = objective(whole, filled)
    assert again.vector().equal(score.vector())
    true = filled["action"][objective.field].clone()
    true[1, 1] = true[1, 1] + 1 if not objective.is_discrete else (true[1, 1] + 1) % 4
    changed = filled.with_name("action", {**filled["action"], objective.field: true}, filled.lengths["action"])
    assert objective(whole, changed).loss_sum != score.loss_sum, "a real step is"


def test_a_step_is_read_where_it_stands_though_actions_are_fewer() -> None:
    """Tokens per step follow from the tokenizer, not from the lengths of a batch."""
    whole, objective = made("a view of four tokens")
    batch = windows("a view of four tokens", [4, 4], [0, 2])
    states = whole(batch)
    full = objective.predict(states, 4)
    torch.testing.assert_close(objective.predict(states, 3), full[:, :3])
    torch.testing.assert_close(objective.predict(states, 1), full[:, :1])
    longer = objective.predict(states, 5)
    torch.testing.assert_close(longer[:, :4], full)
    torch.testing.assert_close(longer[:, 4], objective.head.bias.expand(2, -1), msg="a step without an observation")


@pytest.mark.parametrize("key", ["classes", "vectors", "a view of four tokens"])
def test_the_action_of_a_step_is_not_heard_before_it_is_chosen(key: str) -> None:
    """Other actions from some step on change what is chosen after that step alone."""
    whole, objective = made(key)
    batch = windows(key, [4, 4], [0, 6])
    before = objective.predict(whole(batch), 4)
    values = batch["action"][objective.field].clone()
    values[:, 2:] = 1 - values[:, 2:].clamp(max=1)
    changed = batch.with_name("action", {**batch["action"], objective.field: values}, batch.lengths["action"], True)
    after = objective.predict(whole(changed), 4)
    assert (after != before).any(-1).tolist() == [[False, False, False, True]] * 2


def test_dropout_is_for_training() -> None:
    whole, objective = made("classes", dropout=0.5)
    states = whole(windows("classes", [3], [0]))
    assert objective.predict(states, 3).equal(objective.predict(states, 3))
    objective.train()
    assert not objective.predict(states, 3).equal(objective.predict(states, 3))


def test_squash_keeps_vectors_in_bounds() -> None:
    whole, objective = made("vectors in -1..1")
    with torch.no_grad():
        objective.head.weight.mul_(1000)
    predicted = objective.predict(whole(windows("vectors", [3], [0])), 3)
    assert predicted.abs().max() <= 1
    plain = made("vectors")[1]
    plain.head.load_state_dict(objective.head.state_dict())
    raw = plain.predict(whole(windows("vectors", [3], [0])), 3)
    torch.testing.assert_close(predicted, raw.tanh())
    whole, objective = made("classes", squash=True)
    with torch.no_grad():
        objective.head.weight.mul_(1000)
    assert objective.predict(whole(windows("classes", [3], [0])), 3).abs().max() > 1, "scores of classes are no actions"


# --- choosing ---------------------------------------------------------------------------------------------------------


def states_of(hidden: torch.Tensor) -> HiddenStates:
    """As if the model had made this of the states."""
    count, steps = hidden.shape[:2]
    return HiddenStates(hidden, torch.ones(1, steps, dtype=torch.bool), {"state": Span(0, steps, 0, 0)})


def generators(seeds: list[int]) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(seed) for seed in seeds]


def test_it_acts_from_the_last_step() -> None:
    whole, objective = made("classes")
    states = whole(windows("classes", [3, 3], [0, 4]))
    chosen = objective.act(states, 3, generators([0, 1]))
    assert chosen.equal(objective.predict(states, 3)[:, 2].argmax(-1))
    whole, objective = made("vectors")
    states = whole(windows("vectors", [3, 3], [0, 4]))
    assert objective.act(states, 3, generators([0, 1])).equal(objective.predict(states, 3)[:, 2])


def test_classes_are_drawn_by_their_scores() -> None:
    """Shares of 4000 draws are those of the softmax, sharper at a lower temperature."""
    count = 4000
    hidden = torch.randn(1, 1, 24, generator=torch.Generator().manual_seed(0)).expand(count, 1, 24)
    for temperature in (1.0, 0.5):
        objective = made("classes", temperature=temperature)[1]
        expected = (objective.predict(states_of(hidden[:1]), 1)[0, 0] / temperature).softmax(0)
        assert expected.max() < 0.95 and expected.std() > 0.05, "neither certain nor uniform"
        drawn = objective.act(states_of(hidden), 1, generators(list(range(count))))
        shares = torch.bincount(drawn, minlength=4) / count
        torch.testing.assert_close(shares, expected, atol=0.03, rtol=0)


def test_a_draw_depends_on_its_own_generator() -> None:
    objective = made("classes", temperature=1.0)[1]
    hidden = torch.randn(1, 1, 24).expand(20, 1, 24)
    together = objective.act(states_of(hidden), 1, generators(list(range(20))))
    assert len(set(together.tolist())) > 1
    for seed in range(20):
        assert objective.act(states_of(hidden[:1]), 1, generators([seed])).equal(together[seed : seed + 1])


# --- examples ---------------------------------------------------------------------------------------------------------


def test_examples_are_the_actions_of_real_steps() -> None:
    whole, objective = made("classes")
    batch = windows("classes", [3, 2, 0], [0, 5, 0])
    predicted, true = objective.predict(whole(batch), 3).argmax(-1), batch["action"]["class"]
    names = CLASSES["action"].class_names
    assert names is not None
    expected = []
    for row, length in enumerate([3, 2, 0]):
        shown = [" ".join(names[i] for i in ids[row, :length].tolist()) for ids in (predicted, true)]
        expected.append(Example(shown[0], shown[1], shown[0] == shown[1] if length else None))
    assert objective.examples(whole, batch) == expected
    assert expected[1].truth.count(" ") == 1


def windows_with_actions(batch: Batch, classes: torch.Tensor) -> Batch:
    return batch.with_name("action", {**batch["action"], "class": classes}, batch.lengths["action"])


def test_an_example_is_right_if_every_action_is() -> None:
    """Without actions in the set, predictions do not attend to the truth."""
    whole, objective = made("states alone")
    batch = windows("states alone", [3, 2, 3], [0, 5, 0])
    predicted = objective.predict(whole(batch), 3).argmax(-1)
    true = predicted.clone()
    true[1, 2], true[2, 1] = (true[1, 2] + 1) % 4, (true[2, 1] + 1) % 4  # the first of them is padding
    examples = objective.examples(whole, windows_with_actions(batch, true))
    assert [example.right for example in examples] == [True, True, False]
    nameless = {**CLASSES, "action": series_spec(num_classes=4)}
    shown = action(whole, nameless).examples(whole, batch)[0].truth
    assert shown == " ".join(map(str, batch["action"]["class"][0].tolist()))


def test_examples_of_vectors_are_numbers() -> None:
    whole, objective = made("vectors")
    batch = windows("vectors", [2, 1], [0, 0])
    values = torch.tensor([[[0.123, -1.0], [2.0, 0.5]], [[0.25, 3.0], [0.0, 0.0]]])
    batch = batch.with_name("action", {**batch["action"], "values": values}, batch.lengths["action"])
    examples = objective.examples(whole, batch)
    assert [example.truth for example in examples] == ["0.12 -1.00; 2.00 0.50", "0.25 3.00"]
    assert [example.right for example in examples] == [None, None]
    assert examples[0].predicted.count(";") == 1


# --- refusals ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("names", "clock", "changes", "message"),
    [
        (["return", "state", "action"], None, {"read": "action"}, "read=action attends to 'action'"),
        (["return", "action", "state"], None, {}, r"read=state attends to 'action' of its own step.*\[state,action\]"),
        (["action", "return", "state"], None, {"read": "return"}, "read=return attends to 'action'"),
        (["state", "action"], Clock(mutual=True), {}, "read=state attends to 'action'.*not mutual"),
    ],
)
def test_what_hears_the_action_cannot_choose_it(
    names: list[str], clock: Clock | None, changes: dict[str, Any], message: str
) -> None:
    whole = made_model(CLASSES, names, clocks={"step": clock} if clock else {})
    with pytest.raises(InvalidValue, match=message):
        action(whole, CLASSES, **changes)


@pytest.mark.parametrize(("of_state", "of_action"), [("a", "b"), (None, "step"), ("step", None)])
def test_another_clock_is_refused(of_state: str | None, of_action: str | None) -> None:
    tokenizers = {
        "state": series(CLASSES["state"], clock=of_state),
        "action": series(CLASSES["action"], clock=of_action),
    }
    with pytest.raises(InvalidValue, match="read=state attends to 'action'.*both on one clock"):
        action(model(tokenizers), CLASSES)


def test_encoded_actions_would_be_attended_by_all() -> None:
    """By cross-attention, those of later steps as well."""
    tokenizers = {"state": series(CLASSES["state"]), "action": series(CLASSES["action"])}
    body, second = backbone(cross_attention=True), backbone(seed=1)
    whole = model(tokenizers, body, encoder=second, encode=["action"])
    with pytest.raises(InvalidValue, match="read=state attends to 'action'"):
        action(whole, CLASSES)


def test_states_that_an_encoder_hears_would_tell_what_was_done() -> None:
    """A return that attends to later states can read the action off them, whether or not it is in the set."""
    tokenizers = {"return": series(CLASSES["return"]), "state": series(CLASSES["state"])}
    body, second = backbone(cross_attention=True), backbone(seed=1)
    whole = model(tokenizers, body, encoder=second, encode=["state"])
    with pytest.raises(InvalidValue, match="read=return attends to all steps of 'state', which is encoded"):
        action(whole, CLASSES, read="return")


def test_without_actions_in_the_set_any_order_will_do() -> None:
    whole = made_model(CLASSES, ["state", "return"], clocks={"step": Clock(mutual=True)})
    assert action(whole, CLASSES).labels == ("action",)


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"action": "deed"}, ValueError, "action=deed names no part of the data; there is return, state, action"),
        ({"read": "view"}, ValueError, "read=view names no modality of the set; there is return, state, action"),
        ({"val_episodes": 0}, InvalidValue, "val_episodes=0 must be at least 1"),
        ({"test_episodes": 0}, InvalidValue, "test_episodes=0 must be at least 1"),
        ({"temperature": -0.1}, InvalidValue, "temperature=-0.1 must be at least 0"),
        ({"target_returns": []}, InvalidValue, r"target_returns=\[\] is empty"),
    ],
)
def test_what_cannot_work_is_refused(changes: dict[str, Any], error: type[Exception], message: str) -> None:
    whole = made_model(CLASSES, ["return", "state", "action"])
    with pytest.raises(error, match=message):
        action(whole, CLASSES, **changes)


@pytest.mark.parametrize(
    "fields",
    [{"class": Field((), torch.long, 4)}, {"ids": Field((None,), torch.long, 4, 5)}],
    ids=["one for all steps", "no class"],
)
def test_an_action_is_one_of_every_step(fields: dict[str, Field]) -> None:
    whole = made_model(CLASSES, ["return", "state"])
    with pytest.raises(InvalidValue, match="action=action has no class or values for each step"):
        action(whole, {**CLASSES, "action": Spec(fields)})


def test_what_has_no_steps_cannot_tell_actions() -> None:
    whole = made_model(VIEWS, ["mission", "view"])
    with pytest.raises(InvalidValue, match="read=mission has no tokens of every step"):
        action(whole, VIEWS, read="mission")


@pytest.mark.parametrize(("largest", "squash"), [(1.0, True), (1.000001, True), (2.0, False), (None, True)])
def test_squashed_actions_have_to_lie_within_reach(largest: float | None, squash: bool) -> None:
    specs, names, keys = SETS["vectors"]
    reaching = {**specs, "action": with_largest(specs["action"], largest)}
    assert action(made_model(specs, names), reaching, **{**keys, "squash": squash}).squash == squash


def test_squashed_actions_beyond_1_are_refused_with_the_largest() -> None:
    specs, names, keys = SETS["vectors"]
    reaching = {**specs, "action": with_largest(specs["action"], 2.0)}
    with pytest.raises(InvalidValue, match="^squash=True predicts numbers of -1..1, and actions of the data reach 2; "):
        action(made_model(specs, names), reaching, **{**keys, "squash": True})


def with_largest(spec: Spec, largest: float | None) -> Spec:
    return replace(spec, fields={key: replace(field, largest=largest) for key, field in spec.fields.items()})


@pytest.mark.parametrize("temperature", [1e-40, math.nan, math.inf, -1.0])
def test_a_temperature_that_cannot_be_divided_by_is_refused(temperature: float) -> None:
    with pytest.raises(InvalidValue, match="^temperature="):
        made("classes", temperature=temperature)
