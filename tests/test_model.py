"""The whole model: who influences whom, padding, packing, and what is absent."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import pytest
import torch
from builders import (
    POSITIONS,
    attention,
    backbone,
    grid,
    grid_spec,
    image,
    image_batch,
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
from hypothesis import given
from hypothesis import strategies as st
from random_sets import RandomSet, examples, group, random_sets
from torch import Tensor

from mmtx.attention.kernels import Dense
from mmtx.batch import Batch, Field, Spec
from mmtx.modalities.base import Tokenizer
from mmtx.model import MultimodalTransformer
from mmtx.nn.backbone import Backbone
from mmtx.nn.norms import RMSNorm
from mmtx.nn.positions import Learned, Positions, Sinusoidal
from mmtx.tokens import Clock, HiddenStates, Tokens, TokenSet, pack, split

BACKBONES: dict[str, dict[str, Any]] = {
    **{name: {"positions": positions} for name, positions in POSITIONS.items()},
    "rotary, sinks, local and global": {
        "positions": POSITIONS["rotary"],
        "attention": attention(sinks=True),
        "window": 3,
        "layers": "LG",
    },
    "t5, all local": {"positions": POSITIONS["t5"], "window": 2, "layers": "L"},
    "post-norm, groups": {
        "norm_place": "after",
        "attention": attention(num_kv_heads=1, qk_norm=partial(RMSNorm, eps=1e-6)),
        "layer_scale": 0.5,
    },
}
backbones = pytest.mark.parametrize("changes", BACKBONES.values(), ids=BACKBONES.keys())


def image_and_text(**changes: Any) -> MultimodalTransformer:
    body = backbone(**changes)  # seeds what follows
    return model({"image": image(summary=True, num_registers=1), "text": text()}, body)


def some_absent() -> Batch:
    """Two whole samples, one without its picture, one without its text, one with nothing at all."""
    return merge(image_batch([1, 1, 0, 1, 0]), text_batch([5, 3, 2, 0, 0]))


def num_tokens(token_set: TokenSet) -> list[int]:
    valid = token_set.connectivity.valid
    return valid.expand(token_set.content.shape[0], -1).sum(1).tolist()


def packed(token_set: TokenSet) -> TokenSet:
    return pack(replace(token_set, lengths=tuple(num_tokens(token_set))))


def gradients(module: torch.nn.Module) -> dict[str, Tensor]:
    return {name: p.grad.clone() for name, p in module.named_parameters() if p.grad is not None}


def scalar(states: HiddenStates) -> Tensor:
    """Some function of all real tokens that weighs each of them differently."""
    weight = torch.linspace(-1, 1, states.hidden.numel()).view_as(states.hidden)
    return (states.hidden * weight * states.valid[..., None]).sum()


@examples(25)
@given(random_sets(), st.sampled_from(["G", "L", "LG", "GLL"]), st.integers(1, 3), st.booleans())
def test_nothing_is_heard_but_what_may_be(
    random_set: RandomSet, pattern: str, window: int, in_packed_rows: bool
) -> None:
    """A token of other content changes those tokens alone that attend to it, directly or through layers between."""
    body = backbone(dim=4, num_heads=1, num_layers=3, window=window, layers=pattern).double().eval()
    token_set = random_set.join()
    if in_packed_rows:
        token_set = packed(token_set)
    connectivity = token_set.connectivity
    rows, length = token_set.content.shape[:2]
    reach = torch.eye(length).expand(rows, -1, -1)
    for layer_window in body.windows:
        reach = (connectivity.reference(layer_window).expand(rows, -1, -1).float() @ reach).clamp(max=1)
    with torch.no_grad():
        before = body(token_set.content.double(), connectivity)
        for changed_token in range(length):
            content = token_set.content.double()
            content[:, changed_token] += torch.tensor([1.0, -2.0, 0.5, 3.0])
            changed = (body(content, connectivity) != before).any(-1)
            valid = connectivity.valid.expand(rows, -1)
            assert changed[valid].equal(reach[:, :, changed_token].bool()[valid]), f"token {changed_token}"


@backbones
def test_packed_rows_equal_padded_ones(changes: dict[str, Any]) -> None:
    """Hidden states and the gradients of every parameter."""
    whole = image_and_text(**changes)
    results = []
    for arrange in (lambda token_set: token_set, packed):
        whole.zero_grad()
        states = whole.run(arrange(whole.tokenize(some_absent())))
        scalar(states).backward()
        results.append((states.hidden.detach(), gradients(whole)))
    (hidden, padded_grads), (packed_hidden, packed_grads) = results
    torch.testing.assert_close(packed_hidden, hidden, atol=1e-5, rtol=1e-5)
    assert padded_grads.keys() == packed_grads.keys()
    for name, grad in padded_grads.items():
        scale = max(grad.abs().max().item(), 1.0)
        torch.testing.assert_close(packed_grads[name], grad, atol=1e-5 * scale, rtol=1e-4, msg=lambda m, n=name: n + m)


@backbones
def test_packed_rows_render_alike_on_other_devices(changes: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """The dense mask that another device gets gives what the calls per segment give."""
    whole = image_and_text(**changes)
    token_set = packed(whole.tokenize(some_absent()))
    expected = whole.run(token_set).hidden
    connectivity = type(token_set.connectivity)
    monkeypatch.setattr(connectivity, "render", lambda self, window, **_: Dense(self.dense(window)[:, None]))
    monkeypatch.setattr(connectivity, "bias", lambda self, rendering, of: of(self.position, self.position))
    torch.testing.assert_close(whole.run(token_set).hidden, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("in_packed_rows", [False, True])
@backbones
def test_padding_content_changes_nothing(changes: dict[str, Any], in_packed_rows: bool) -> None:
    """Bit for bit: whatever stands where nothing is."""
    whole = image_and_text(**changes)
    batch = some_absent()
    other = merge(image_batch([1] * 5, seed=1), text_batch([5] * 5, seed=1))
    ids, pixels = batch["text"]["ids"].clone(), batch["image"]["pixels"].clone()
    padding = torch.arange(5)[None] >= batch.lengths["text"][:, None]
    absent = batch.lengths["image"] == 0
    ids[padding] = other["text"]["ids"][padding]
    pixels[absent] = other["image"]["pixels"][absent]
    filled = batch.with_name("text", {"ids": ids}, batch.lengths["text"])
    filled = filled.with_name("image", {"pixels": pixels}, batch.lengths["image"])
    arrange = packed if in_packed_rows else lambda token_set: token_set
    with torch.no_grad():
        plain, disturbed = (whole.run(arrange(whole.tokenize(b))).hidden for b in (batch, filled))
    assert disturbed.equal(plain)


def test_parameters_keep_their_order() -> None:
    """The norm of all gradients is summed in it, so that another order changes the last digits of every run."""
    parts = [name.split(".")[0] for name, _ in image_and_text().named_parameters()]
    order = ["tokenizers", "type_embeddings", "backbone", "position_embeddings"]
    assert list(dict.fromkeys(parts)) == [part for part in order if part in parts]
    assert {"type_embeddings", "backbone"} <= {*parts}


def test_a_causal_text_with_padding_is_not_disturbed_by_it() -> None:
    """The rendering that has no mask at all."""
    whole = model({"text": text()})
    batch = text_batch([5, 2])
    ids = batch["text"]["ids"].clone()
    ids[1, 2:] = 7
    with torch.no_grad():
        plain = whole(batch).hidden
        disturbed = whole(batch.with_name("text", {"ids": ids}, batch.lengths["text"])).hidden
    assert disturbed.equal(plain)


@backbones
def test_neighbours_in_a_packed_row_do_not_hear_each_other(changes: dict[str, Any]) -> None:
    whole = image_and_text(**changes)
    batch = merge(image_batch([1, 0, 1]), text_batch([3, 4, 2]))
    pixels, ids = batch["image"]["pixels"].clone(), batch["text"]["ids"].clone()
    pixels[0], ids[0] = 255 - pixels[0], 10 - ids[0]
    neighbour = batch.with_name("text", {"ids": ids}, batch.lengths["text"])
    neighbour = neighbour.with_name("image", {"pixels": pixels}, batch.lengths["image"])
    with torch.no_grad():
        before, after = (whole.run(packed(whole.tokenize(b))).hidden for b in (batch, neighbour))
    assert after[1:].equal(before[1:])
    assert not after[0].equal(before[0])


def test_a_sample_does_not_depend_on_its_batch() -> None:
    """Alone or among longer samples, a sample's hidden states are the same."""
    whole = image_and_text(positions=POSITIONS["rotary"])
    batch = some_absent()
    together = whole(batch)
    for index in range(len(batch)):
        alone = whole(batch.select(slice(index, index + 1)))
        torch.testing.assert_close(alone.hidden[0], together.hidden[index], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("in_packed_rows", [False, True])
@pytest.mark.parametrize("present", [[1, 0, 1], [0, 0, 0]], ids=["one absent", "all absent"])
@backbones
def test_what_is_absent_stays_finite_and_in_the_graph(
    changes: dict[str, Any], present: list[int], in_packed_rows: bool
) -> None:
    """No NaN, and every parameter gets a gradient (zero), which data parallel training waits for."""
    whole = image_and_text(**changes).train()
    token_set = whole.tokenize(merge(image_batch(present), text_batch([3 * p for p in present])))
    states = whole.run(packed(token_set) if in_packed_rows else token_set)
    states.hidden.square().sum().backward()
    assert states.hidden.isfinite().all()
    assert not states.hidden[1].any(), "nothing is where there is no token"
    for name, parameter in whole.named_parameters():
        assert parameter.grad is not None, f"{name} is not in the graph"
        assert parameter.grad.isfinite().all(), name
        if not any(present):
            assert not parameter.grad.any(), name


def test_a_modality_that_is_absent_throughout_keeps_zero_gradients() -> None:
    whole = image_and_text(positions=POSITIONS["learned"])
    scalar(whole(merge(image_batch([0, 0]), text_batch([4, 2])))).backward()
    grads = gradients(whole)
    assert grads.keys() == dict(whole.named_parameters()).keys()
    of_image = {name for name in grads if ".image" in name}
    assert {"tokenizers.image.projection.weight", "tokenizers.image.readouts", "type_embeddings.image"} <= of_image
    for name in of_image:
        assert not grads[name].any(), name
    assert grads["tokenizers.text.embedding.weight"].any()


@pytest.mark.parametrize("name", POSITIONS)
@pytest.mark.parametrize("in_packed_rows", [False, True])
def test_half_precision_is_close(name: str, in_packed_rows: bool) -> None:
    """Under autocast, in every position scheme; the gradients reach float32 parameters."""
    whole = image_and_text(positions=POSITIONS[name])
    arrange = packed if in_packed_rows else lambda token_set: token_set
    expected = whole.run(arrange(whole.tokenize(some_absent()))).hidden
    with torch.autocast("cpu", torch.bfloat16):
        hidden = whole.run(arrange(whole.tokenize(some_absent()))).hidden
    difference, size = (hidden - expected).abs().mean().item(), expected.abs().mean().item()
    assert difference < 0.02 * size
    hidden.float().sum().backward()
    assert all(grad.isfinite().all() for grad in gradients(whole).values())


@pytest.mark.parametrize("name", POSITIONS)
def test_weights_of_half_precision(name: str) -> None:
    """A model that is cast as a whole, RMS norms and far positions included."""
    spec = text_spec(max_length=1000)
    changes: dict[str, Any] = {"norm": partial(RMSNorm, eps=1e-6), "positions": POSITIONS[name]}
    whole = model({"image": image(summary=True), "text": text(spec)}, backbone(**changes))
    batch = merge(image_batch([1, 0]), text_batch([900, 3]))
    with torch.no_grad():
        expected = whole(batch).hidden[0, -5:]
        hidden = whole.bfloat16()(batch).hidden[0, -5:]
    assert hidden.dtype == torch.bfloat16
    assert (hidden.float() - expected).abs().mean() < 0.03 * expected.abs().mean()


def test_positions_are_what_tells_places_apart() -> None:
    """With every scheme but none, and a bidirectional text, the order of two ids matters."""
    for name, positions in POSITIONS.items():
        whole = model({"text": text(causal=False)}, backbone(positions=positions)).double()
        batch = text_batch([3])
        ids = torch.tensor([[1, 2, 3]])
        first, swapped = (
            whole(batch.with_name("text", {"ids": order}, batch.lengths["text"], full=True)).hidden
            for order in (ids, ids[:, [1, 0, 2]])
        )
        alike = torch.allclose(first[:, 2], swapped[:, 2], atol=1e-9)
        assert alike == (name == "none"), name


def test_types_tell_names_apart() -> None:
    spec = text_spec()
    batch = merge(text_batch([3], name="source"), text_batch([3], name="target"))

    def two_texts(type_embeddings: bool) -> MultimodalTransformer:
        tokenizers = {"source": text(spec, causal=False), "target": text(spec, causal=False)}
        whole = model(tokenizers, type_embeddings=type_embeddings)
        whole.tokenizers["target"].load_state_dict(whole.tokenizers["source"].state_dict())
        return whole

    plain = two_texts(type_embeddings=False).tokenize(batch)
    assert not plain.place.any()
    named = two_texts(type_embeddings=True).tokenize(batch)
    source, target = named.place[:, :3], named.place[:, 3:]
    assert source.std(1).max() == target.std(1).max() == 0, "all tokens of a name share it"
    assert not torch.allclose(source, target)


def test_a_checkpoint_survives_a_change_of_the_set() -> None:
    spec = text_spec()
    small = model({"text": text(spec)}, backbone(positions=POSITIONS["learned"]), seed=0)
    large = model({"image": image(), "text": text(spec)}, backbone(positions=POSITIONS["learned"]), seed=1)
    missing, unexpected = large.load_state_dict(small.state_dict(), strict=False)
    assert not unexpected
    assert missing
    assert all(".image" in key for key in missing)


def test_prefix_tokens_have_no_position_of_their_own() -> None:
    """Their content is learned whole; patches alone take a row and a column of the table."""
    whole = model({"image": image(summary=True, num_registers=2)}, backbone(positions=POSITIONS["learned"]))
    place = whole.tokenize(image_batch([1])).place[0] - whole.type_embeddings["image"]
    assert place[:3].abs().max() < 1e-6
    table = whole.position_embeddings["image"].table.weight
    torch.testing.assert_close(place[3:], table)


class Sensors(Tokenizer):
    """A vector as one token that has no coordinates."""

    def __init__(self, *, spec: Spec, dim: int, clock: str | None) -> None:
        super().__init__(spec=spec, dim=dim, clock=clock)
        (size,) = spec.fields["values"].shape
        self.projection = torch.nn.Linear(size or 0, dim)

    @property
    def extent(self) -> tuple[int, ...]:
        return ()

    @property
    def max_tokens(self) -> int:
        return 1

    def num_tokens(self, lengths: Tensor) -> Tensor:
        return lengths

    def forward(self, fields: dict[str, Tensor], lengths: Tensor, full: bool) -> Tokens:
        return Tokens(
            content=self.projection(fields["values"])[:, None],
            coordinates=torch.zeros(1, 0, dtype=torch.long),
            time=torch.zeros(1, 1, dtype=torch.long),
            lengths=lengths,
            num_items=1,
            full=full,
        )


@pytest.mark.parametrize("absolute", [Learned, partial(Sinusoidal, base=10_000.0)], ids=["learned", "sinusoidal"])
def test_a_modality_without_coordinates_needs_no_position(absolute: Any) -> None:
    spec = Spec({"values": Field((3,), torch.float32)})
    body = backbone(positions=Positions(absolute=absolute, rotary=None, bias=None))
    whole = model({"sensors": Sensors(spec=spec, dim=24, clock=None), "text": text()}, body)
    sensors = Batch({"sensors": {"values": torch.randn(2, 3)}}, {"sensors": torch.ones(2, dtype=torch.long)})
    states = whole(merge(sensors, text_batch([3, 2])))
    assert states.tokens("sensors").shape == (2, 1, 24)
    assert list(whole.position_embeddings) == ["text"]


def test_modalities_on_one_clock_are_interleaved() -> None:
    """Two causal texts on one clock: each attends to the other's past, and to the first of two at one moment."""
    whole = model({"a": text(clock="step"), "b": text(clock="step")})
    assert whole.clock_of == {"a": "step", "b": "step"}
    mask = whole.tokenize(merge(text_batch([2], name="a"), text_batch([2], name="b"))).connectivity.dense()[0]
    assert mask.int().tolist() == [[1, 0, 0, 0], [1, 1, 1, 0], [1, 0, 1, 0], [1, 1, 1, 1]]


def test_split_hidden_states_by_hand() -> None:
    """The packed way back, through a backbone that only copies."""
    random_set = RandomSet({"a": group("item", "a", 2, [2, 1]), "b": group("causal", "b", 3, [1, 3])}, {})
    token_set = random_set.join()
    packed_set = packed(token_set)
    states = split(packed_set.content, packed_set.connectivity, packed_set.spans)
    assert states.tokens("b")[1].equal(token_set.content[1, 2:])
    assert not states.tokens("a")[1, 1:].any()


def test_encode_adds_places_to_content() -> None:
    whole = image_and_text(positions=POSITIONS["learned"])
    token_set = whole.tokenize(some_absent())
    body = whole.backbone
    assert isinstance(body, Backbone)
    by_hand = body(token_set.content + token_set.place, token_set.connectivity)
    valid = token_set.connectivity.valid
    assert whole.run(token_set).hidden[valid].equal(by_hand[valid])


# --- trajectories: names on the clock `step` --------------------------------------------------------------------------

STEPS = {"return": series_spec(1), "state": series_spec(3), "action": series_spec(num_classes=4)}
"""Times of these are 0..19."""
VIEW = {"view": grid_spec(), "action": STEPS["action"]}
PICTURE = {"view": pictures_spec(), "action": STEPS["action"]}
SHARED = {"step": Clock(embedding=Learned)}


def trajectories(
    specs: dict[str, Spec], clocks: dict[str, Clock] | None = None, mission: int | None = None, **changes: Any
) -> MultimodalTransformer:
    """A model of steps; `mission` is the place in the set of a causal text on a clock of its own."""
    tokenizers: dict[str, Tokenizer] = {}
    for name, spec in specs.items():
        if "cells" in spec.fields:
            tokenizers[name] = grid(spec, patch_size=2)
        elif "pixels" in spec.fields:
            tokenizers[name] = image(spec, clock="step")
        else:
            tokenizers[name] = series(spec)
    if mission is not None:
        order = [*specs]
        order.insert(mission, "mission")
        tokenizers["mission"] = text()
        tokenizers = {name: tokenizers[name] for name in order}
    return model(tokenizers, backbone(**changes), clocks=SHARED if clocks is None else clocks)


def steps_and_mission(
    specs: dict[str, Spec], lengths: list[int], begin: list[int] | None, words: list[int] | None = None
) -> Batch:
    steps = steps_batch(specs, lengths, begin)
    return steps if words is None else merge(steps, text_batch(words, name="mission"))


def test_a_clocks_embedding_is_shared_and_follows_the_samples_own_times() -> None:
    """All names on the clock have the vector of their time; a name on another clock has none."""
    whole = trajectories(STEPS, mission=1)
    assert list(whole.clock_embeddings) == ["step"]
    assert [key for key in whole.state_dict() if "clock" in key] == ["clock_embeddings.step.table.weight"]
    table = whole.clock_embeddings["step"].table.weight
    assert table.shape == (20, 24)
    batch = steps_and_mission(STEPS, [3, 2], [7, 18], [2, 3])
    token_set = whole.tokenize(batch)
    for name, span in token_set.spans.items():
        own = token_set.place[:, span.start : span.stop] - whole.type_embeddings[name]
        if name == "mission":
            assert own.abs().max() < 1e-6
        else:
            torch.testing.assert_close(own[0], table[7:10])
            torch.testing.assert_close(own[1, :2], table[18:20])


def test_a_clocks_embedding_is_learned_from_all_names_on_it() -> None:
    whole = trajectories(STEPS, mission=0)
    batch = steps_and_mission(STEPS, [2, 1], [4, 9], [2, 2])
    for name in STEPS:
        whole.zero_grad()
        whole(batch).tokens(name).square().sum().backward()
        grad = whole.clock_embeddings["step"].table.weight.grad
        assert grad is not None and set(grad.any(1).nonzero()[:, 0].tolist()) == {4, 5, 9}, name
    whole.zero_grad()
    whole(batch).tokens("mission").square().sum().backward()
    grad = whole.clock_embeddings["step"].table.weight.grad
    assert grad is None or not grad.any(), "the mission stands before the steps"


def test_own_places_and_time_are_added_up() -> None:
    """A view of patches has a row and a column, and the time that it shares with the action."""
    whole = trajectories(VIEW, positions=POSITIONS["learned"])
    token_set = whole.tokenize(steps_batch(VIEW, [2, 1], [5, 0]))
    own = token_set.place[:, :8] - whole.type_embeddings["view"]
    table, places = whole.clock_embeddings["step"].table.weight, whole.position_embeddings["view"].table.weight
    assert list(whole.position_embeddings) == ["view"]
    torch.testing.assert_close(own[0], places.repeat(2, 1) + table[5:7].repeat_interleave(4, 0))
    torch.testing.assert_close(own[1, :4], places + table[0])


@pytest.mark.parametrize("clocks", [{}, {"step": Clock()}, {"scene": Clock(embedding=Learned)}])
def test_without_an_embedding_a_clock_tells_nothing(clocks: dict[str, Clock]) -> None:
    whole = trajectories(STEPS, clocks)
    assert not len(whole.clock_embeddings)
    place = whole.tokenize(steps_batch(STEPS, [3, 2], [7, 0])).place
    expected = torch.stack([whole.type_embeddings[name] for name in STEPS]).repeat_interleave(3, 0)
    torch.testing.assert_close(place[0], expected)


def test_a_clock_shows_as_many_times_as_the_names_on_it_need() -> None:
    def shown(**specs: Spec) -> int:
        return trajectories(specs).clock_embeddings["step"].table.num_embeddings

    assert shown(a=series_spec(num_times=20), b=series_spec(num_times=30)) == 30
    assert shown(a=series_spec(num_times=None, max_length=5), b=series_spec(num_times=None, max_length=7)) == 7
    assert shown(view=grid_spec(num_times=30, max_length=5)) == 30


def with_other_step(whole: MultimodalTransformer, batch: Batch, name: str, step: int) -> Batch:
    """The batch with other content of one name at one step."""
    (key,) = (key for key in batch[name] if key != "times")
    values = batch[name][key].clone()
    if values.dtype.is_floating_point:
        values[:, step] += 1
    else:
        spec = whole.tokenizer(name).spec.fields[key]
        values[:, step] = (values[:, step].long() + 1).remainder(spec.num_classes or 256).to(values.dtype)
    return batch.with_name(name, {**batch[name], key: values}, batch.lengths[name], batch.full[name])


TRAJECTORIES: dict[str, tuple[dict[str, Spec], int | None]] = {
    "return, state, action": (STEPS, None),
    "mission first": (STEPS, 0),
    "mission last": (STEPS, 3),
    "a view of patches": (VIEW, None),
    "a picture of patches": (PICTURE, 0),
}


@pytest.mark.parametrize(
    ("lengths", "begin"),
    [([3, 3], [0, 0]), ([3, 3], [17, 4]), ([3, 1], [0, 9]), ([3], [17]), ([2], [0])],
    ids=["from 0", "from anywhere", "unequal", "one window", "one window from 0"],
)
@pytest.mark.parametrize(("specs", "mission"), TRAJECTORIES.values(), ids=TRAJECTORIES)
def test_who_hears_whom_in_a_trajectory(
    specs: dict[str, Spec], mission: int | None, lengths: list[int], begin: list[int]
) -> None:
    """return -> state -> action -> the next return, never backwards; tokens of one step and name attend to
    each other; all steps attend to a mission before them, and a mission after them attends to all steps."""
    whole = trajectories(specs, mission=mission).double()
    words = None if mission is None else [2, 3][: len(lengths)]
    batch = steps_and_mission(specs, lengths, begin, words)
    names = whole.names
    length_of = {name: words if name == "mission" and words else lengths for name in names}
    clock = {name: 1 if name != "mission" else 0 if mission == 0 else 2 for name in names}

    def when(name: str, step: int) -> tuple[int, int, int]:
        return clock[name], step, names.index(name)

    with torch.no_grad():
        before = whole(batch)
        for name in names:
            for step in range(max(length_of[name])):
                after = whole(with_other_step(whole, batch, name, step))
                for other in names:
                    changed = (after.tokens(other) != before.tokens(other)).any(-1)
                    per_step = 4 if other == "view" else 1
                    for sample, length in enumerate(length_of[other]):
                        for own in range(length):
                            attends = step < length_of[name][sample] and when(name, step) <= when(other, own)
                            tokens = changed[sample, own * per_step : (own + 1) * per_step].tolist()
                            where = f"{other}[{own}] of {name}[{step}] in sample {sample}"
                            assert tokens == [attends] * per_step, where


def test_one_patch_is_heard_by_the_others_of_its_step() -> None:
    whole = trajectories(VIEW).double()
    batch = steps_batch(VIEW, [3], [6])
    cells = batch["view"]["cells"].clone()
    cells[0, 1, 0, 0] = 2 - cells[0, 1, 0, 0]
    cells[0, 1, 0, 1] = (cells[0, 1, 0, 1] + 1) % 3
    changed = batch.with_name("view", {**batch["view"], "cells": cells}, batch.lengths["view"], True)
    with torch.no_grad():
        views, actions = (
            (whole(changed).tokens(name) != whole(batch).tokens(name)).any(-1)[0].tolist()
            for name in ("view", "action")
        )
    assert views == [False] * 4 + [True] * 8
    assert actions == [False, True, True]


@pytest.mark.parametrize("positions", ["none", "rotary", "t5"])
@pytest.mark.parametrize("mission", [None, 0, 3])
def test_a_window_of_steps_does_not_depend_on_its_batch(mission: int | None, positions: str) -> None:
    """Alone, among longer ones, or with others that begin at other times."""
    whole = trajectories(STEPS, mission=mission, positions=POSITIONS[positions])
    batch = steps_and_mission(STEPS, [4, 2, 4], [3, 15, 0], None if mission is None else [2, 2, 2])
    with torch.no_grad():
        together = whole(batch)
        for index, length in enumerate([4, 2, 4]):
            fields = {
                name: parts if name == "mission" else {key: value[:, :length] for key, value in parts.items()}
                for name, parts in batch.select(slice(index, index + 1)).fields.items()
            }
            one = Batch(
                fields,
                {name: lengths[index : index + 1] for name, lengths in batch.lengths.items()},
                dict.fromkeys(fields, True),
            )
            alone = whole(one)
            for name in whole.names:
                own = alone.tokens(name)
                expected = together.tokens(name)[index : index + 1, : own.shape[1]]
                torch.testing.assert_close(own, expected, atol=1e-5, rtol=1e-5)


def test_steps_in_packed_rows_equal_padded_ones() -> None:
    whole = trajectories(STEPS, mission=0, positions=POSITIONS["rotary"])
    token_set = whole.tokenize(steps_and_mission(STEPS, [4, 2, 3], [3, 15, 0], [1, 3, 0]))
    with torch.no_grad():
        torch.testing.assert_close(
            whole.run(packed(token_set)).hidden, whole.run(token_set).hidden, atol=1e-5, rtol=1e-5
        )
