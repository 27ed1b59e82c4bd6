"""The flow objective: floor and likelihood in closed form, what is drawn, guidance, and what is refused."""

from __future__ import annotations

import math
from functools import partial
from pathlib import Path
from typing import Any

import PIL.Image
import pytest
import torch
from builders import (
    backbone,
    image,
    image_batch,
    image_spec,
    label_spec,
    merge,
    model,
    series,
    series_spec,
    steps_batch,
    text,
    text_batch,
    text_spec,
)
from contracts import check_objective
from torch import Tensor

from mmtx.batch import Batch, Field, Spec
from mmtx.decoding.flow import Integration
from mmtx.errors import InvalidValue
from mmtx.modalities.vectors import Vectors
from mmtx.modalities.video import Video
from mmtx.model import MultimodalTransformer
from mmtx.nn.adaptive_norm import AdaptiveNorm
from mmtx.nn.positions import Positions
from mmtx.nn.rotary import Rotary
from mmtx.objectives import flow
from mmtx.objectives.flow import Flow
from mmtx.tokens import Clock

INDEX = Positions(absolute=None, rotary=Rotary(axes=["index"], base=100.0), bias=None)
ADAPTIVE = partial(AdaptiveNorm, eps=1e-6)
PLANE = {"x": Spec({"values": Field((2,), torch.float32)})}
DRAWN = {"label": label_spec(), "image": image_spec()}
ACTED = {"state": Spec({"values": Field((3,), torch.float32)}), "action": series_spec(2, num_times=None)}


def made(specs: dict[str, Spec], whole: MultimodalTransformer, **changes: Any) -> Flow:
    """With a velocity that is not zero, as after some training."""
    keys = {"weight": 1.0, "names": [[*specs][-1]], "times": "uniform", "likelihood_steps": None}
    torch.manual_seed(1)
    objective = Flow(specs=specs, model=whole, **{**keys, **changes}).eval()
    with torch.no_grad():
        for parameter in objective.heads.parameters():
            parameter.normal_(std=0.2)
    return objective


def plane(**changes: Any) -> tuple[MultimodalTransformer, Flow]:
    whole = model({"x": series(PLANE["x"])}, backbone(num_layers=1))
    return whole, made(PLANE, whole, **changes)


def drawing(norm: Any = None, **changes: Any) -> tuple[MultimodalTransformer, Flow]:
    own = {"label": series(DRAWN["label"], clock=None), "image": image(DRAWN["image"])}
    whole = model(own, backbone(positions=INDEX, **({} if norm is None else {"norm": norm})))
    with torch.no_grad():
        for name, parameter in whole.named_parameters():
            if "modulation" in name or ".gate." in name:
                parameter.normal_(std=0.2)
    return whole, made(DRAWN, whole, **changes)


def acting(**changes: Any) -> tuple[MultimodalTransformer, Flow]:
    own = {"state": series(ACTED["state"], clock=None), "action": series(ACTED["action"], clock="chunk")}
    whole = model(own, backbone(positions=INDEX))
    return whole, made(ACTED, whole, **changes)


def points(values: Tensor) -> Batch:
    lengths = {"x": torch.ones(len(values), dtype=torch.long)}
    return Batch({"x": {"values": values}}, lengths, {"x": True}, torch.arange(len(values)))


def tried(lengths: list[int]) -> Batch:
    """States, and actions of so many steps; who has none lacks the state as well."""
    there = torch.tensor([int(length > 0) for length in lengths])
    state = torch.randn(len(lengths), 3, generator=torch.Generator().manual_seed(2)) * there[:, None]
    states = Batch({"state": {"values": state}}, {"state": there}, {}, torch.arange(len(lengths)))
    return merge(states, steps_batch({"action": ACTED["action"]}, lengths))


def a_state() -> Batch:
    return Batch({"state": {"values": torch.ones(1, 3)}}, {"state": torch.tensor([1])}, {"state": True})


def of_labels(labels: list[int]) -> Batch:
    count = torch.ones(len(labels), dtype=torch.long)
    return Batch(
        {"label": {"class": torch.tensor(labels)}}, {"label": count}, {"label": True}, torch.arange(len(labels))
    )


@pytest.mark.parametrize("times", ["uniform", "logit_normal"])
def test_the_optimal_velocity_has_the_loss_of_the_floor(times: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of data with the deviation s, the variance of data - noise given x_t is s² / ((1 - t)² + t² s²); its mean over
    uniform times is s π/2, and over others an integral."""
    deviation = torch.tensor([0.5, 2.0])
    whole, objective = plane(times=times)
    data = 1.0 + deviation * torch.randn(200_000, 2, generator=torch.Generator().manual_seed(0))

    def optimal(_: Any, batch: Batch, mixed: dict[str, Tensor], moment: Tensor) -> dict[str, Tensor]:
        t = moment[:, None, None]
        slope = (t * deviation**2 - (1 - t)) / ((1 - t) ** 2 + (t * deviation) ** 2)
        return {"x": 1.0 + slope * (mixed["x"] - t)}

    monkeypatch.setattr(objective, "velocity", optimal)
    batch = objective.prepare(whole, points(data), torch.Generator().manual_seed(0))
    loss = objective.metrics(objective(whole, batch))["loss"]
    if times == "uniform":
        floor = float(deviation.mean()) * math.pi / 2
    else:
        t = torch.randn(1_000_000, generator=torch.Generator().manual_seed(1)).double().sigmoid()[:, None]
        floor = float((deviation**2 / ((1 - t) ** 2 + (t * deviation) ** 2)).mean())
    assert loss == pytest.approx(floor, rel=0.01)


def test_the_loss_is_that_of_a_plain_loop() -> None:
    """Over samples and names, of real tokens alone; the path from noise at 0 to data at 1."""
    whole, objective = acting()
    batch = tried([5, 2, 0])
    objective.fit([batch])
    batch = objective.prepare(whole, batch, torch.Generator().manual_seed(0))
    scaled = objective.head("action").numbers(batch)
    total = 0.0
    for row, length in enumerate([5, 2, 0]):
        noise, t = batch["action"]["noise"][row], float(batch["action"]["moment"][row])
        if not length:
            continue
        mixed = {"action": (1 - t) * noise + t * scaled[row]}
        alone = batch.select(slice(row, row + 1))
        found = objective.velocity(whole, alone, {"action": mixed["action"][None]}, torch.tensor([t]))["action"][0]
        total += (found - (scaled[row] - noise))[:length].square().sum().item()
    assert objective(whole, batch).loss_sum.item() == pytest.approx(total, rel=1e-5)
    assert int(objective.count(batch)) == (5 + 2) * 2


@pytest.mark.peers
def test_path_and_target_are_those_of_torchcfm() -> None:
    why = "needs torchcfm: pip install --no-deps torchcfm==1.0.7 pot==0.9.7.post1"
    cfm = pytest.importorskip("torchcfm.conditional_flow_matching", reason=why)
    whole, objective = plane()
    batch = objective.prepare(whole, points(torch.randn(7, 2)), torch.Generator().manual_seed(0))
    seen = {}

    def remember(_: Any, batch: Batch, mixed: dict[str, Tensor], moment: Tensor) -> dict[str, Tensor]:
        seen.update(mixed=mixed["x"], moment=moment)
        return {"x": torch.zeros_like(mixed["x"])}

    objective.velocity = remember  # type: ignore[method-assign]
    loss = objective(whole, batch).loss_sum
    noise, data = batch["x"]["noise"], batch["x"]["values"][:, None]
    matcher = cfm.ConditionalFlowMatcher(sigma=0.0)
    _, path, target = matcher.sample_location_and_conditional_flow(noise, data, t=seen["moment"])
    torch.testing.assert_close(seen["mixed"], path)
    torch.testing.assert_close(loss, target.square().sum())


FILM = {"film": Spec({"frames": Field((None, 1, 4, 4), torch.float32, max_length=5)})}


def films(lengths: list[int]) -> Batch:
    frames = torch.rand(len(lengths), max(lengths), 1, 4, 4, generator=torch.Generator().manual_seed(3))
    frames *= (torch.arange(max(lengths)) < torch.tensor(lengths)[:, None])[..., None, None, None]
    return Batch({"film": {"frames": frames}}, {"film": torch.tensor(lengths)}, {}, torch.arange(len(lengths)))


def filming(tubelet_frames: int = 2, **changes: Any) -> tuple[MultimodalTransformer, Flow]:
    keys: dict[str, Any] = {"dim": 24, "patch_size": 2, "causal": True, "mean": 0.5, "std": 0.5, "clock": None}
    own = Video(spec=FILM["film"], tubelet_frames=tubelet_frames, **keys)
    whole = model({"film": own}, backbone(positions=INDEX))
    return whole, made(FILM, whole, **changes)


def test_frames_that_fill_a_tubelet_carry_no_loss() -> None:
    """Of films in tubelets of two frames, of which the last of an odd one repeats its last frame: squared errors are
    those of the frames that there are, each once, in the loss, in the count and in predictions."""
    whole, objective = filming()
    batch = objective.prepare(whole, films([5, 3, 2, 0, 1]), torch.Generator().manual_seed(0))
    tokenizer, moment = whole.tokenizer("film"), batch["film"]["moment"]
    assert isinstance(tokenizer, Video)
    data, noise = objective.head("film").numbers(batch), batch["film"]["noise"]
    mixed = (1 - moment[:, None, None]) * noise + moment[:, None, None] * data
    found = objective.velocity(whole, batch, {"film": mixed}, moment)["film"]

    def frames(numbers: Tensor) -> Tensor:
        return (tokenizer.fields_of(numbers)["frames"] - 0.5) / 0.5

    wrong = (frames(found) - frames(data - noise)).detach().square().sum((2, 3, 4))
    each = [float(row[:length].sum()) for row, length in zip(wrong, [5, 3, 2, 0, 1], strict=True)]
    assert objective(whole, batch).loss_sum.item() == pytest.approx(sum(each), rel=1e-5)
    assert int(objective.count(batch)) == (5 + 3 + 2 + 1) * 16
    columns = objective.predictions(whole, batch)
    assert columns["loss"] == pytest.approx(each, rel=1e-5)
    assert columns["numbers"] == [80, 48, 32, 0, 16]


def test_frames_that_fill_a_tubelet_are_not_made() -> None:
    """A film of three frames has the numbers of three, and nothing in the place of the fourth."""
    whole, objective = filming()
    canvas = objective.head("film").blank(films([3, 3]), torch.tensor([3, 3]))
    found = objective.made(whole, canvas, torch.Generator().manual_seed(0), Integration(2))["film"]
    texts = objective._written(canvas, {"film": found})
    assert [len(text.replace(";", "").split()) for text in texts] == [3 * 16] * 2
    assert (found.view(2, 2, 4, 2, 4)[:, 1, :, 1] == 0).all() and (found != 0).sum() == 2 * 3 * 16
    assert objective.head("film").made(objective.head("film").numbers(films([5]))).shape == (1, 5, 1, 4, 4)


@pytest.mark.slow
@pytest.mark.parametrize("tubelet_frames", [2, 3])
def test_contract_of_films(tubelet_frames: int) -> None:
    whole, objective = filming(tubelet_frames, likelihood_steps=1)
    check_objective(objective, whole, FILM)


def test_times_are_spread_over_the_batch() -> None:
    """As many in each part of the interval; of the logit-normal ones, by their own quantiles."""
    for times in ("uniform", "logit_normal"):
        whole, objective = plane(times=times)
        batch = objective.prepare(whole, points(torch.zeros(1000, 2)), torch.Generator().manual_seed(0))
        moment = batch["x"]["moment"].double()
        level = moment if times == "uniform" else torch.special.ndtr(moment.logit())
        parts = (level * 10).long().bincount(minlength=10)
        assert (parts - 100).abs().max() <= 1


def test_what_has_no_scale_is_standardised() -> None:
    whole, objective = acting()
    batch = tried([5, 2, 0])
    batch["action"]["values"].mul_(30).add_(7)
    objective.fit([batch])
    real = objective.head("action").real(batch)
    numbers = objective.head("action").numbers(batch)[real]
    torch.testing.assert_close(numbers.mean(0), torch.zeros(2), atol=1e-5, rtol=0)
    torch.testing.assert_close(numbers.std(0, correction=0), torch.ones(2))
    back = objective.head("action").fields_of(objective.head("action").numbers(batch))["values"]
    torch.testing.assert_close(back, batch["action"]["values"])
    assert objective.fitted_names == ("action",) and drawing()[1].fitted_names == ()


@pytest.mark.parametrize("changes", [{}, {"summary": True, "num_registers": 2}, {"cut": True, "patch_size": 3}])
def test_pixels_come_back_from_their_numbers(changes: dict[str, Any]) -> None:
    spec = image_spec(channels=3, height=8, width=8)
    tokenizer = image(spec, **{"mean": [0.1, 0.2, 0.3], "std": [0.4, 0.5, 0.6], **changes})
    batch = image_batch([1, 1], spec)
    side = 8 // tokenizer.patch_size * tokenizer.patch_size
    back = tokenizer.fields_of(tokenizer.numbers(batch["image"], batch.lengths["image"]))["pixels"]
    whole = batch["image"]["pixels"][..., :side, :side].float()
    torch.testing.assert_close(back[..., :side, :side], whole, atol=1e-3, rtol=0)


@torch.no_grad()
def test_likelihoods_of_a_network_integrate_to_one() -> None:
    """Over the plane, by a grid; noise has nearly all of its density within it."""
    whole, objective = plane()
    whole.double(), objective.double()
    for parameter in objective.heads.parameters():
        parameter.mul_(0.4)  # smooth enough for the grid
    axis = torch.linspace(-6, 6, 41, dtype=torch.double)
    grid = torch.cartesian_prod(axis, axis)
    density = objective.log_likelihood(whole, points(grid), Integration(8)).exp()
    assert float(density.sum()) * float(axis[1] - axis[0]) ** 2 == pytest.approx(1, abs=4e-3)
    of_noise = torch.distributions.Normal(0.0, 1.0).log_prob(grid).sum(1).exp()
    assert (density - of_noise).abs().max() > 0.02, "the flow moves something"


def test_likelihoods_are_in_the_units_of_the_data() -> None:
    """A flow that stands still leaves the standardised data normal."""
    whole, objective = plane(likelihood_steps=2)
    for parameter in objective.heads.parameters():
        torch.nn.init.zeros_(parameter)
    data = torch.tensor([3.0, -1.0]) + torch.tensor([0.1, 20.0]) * torch.randn(50, 2)
    objective.fit([points(data)])
    mean, deviation = data.double().mean(0), data.double().std(0, correction=0)
    expected = -torch.distributions.Normal(mean, deviation).log_prob(data.double()).sum(1)
    batch = objective.prepare(whole, points(data), torch.Generator().manual_seed(0))
    assert objective.predictions(whole, batch)["nats"] == pytest.approx(expected.tolist(), rel=1e-4)
    assert objective.metrics(objective(whole, batch))["nats"] == pytest.approx(float(expected.mean()) / 2, rel=1e-4)


@torch.no_grad()
@pytest.mark.parametrize("norm", [None, ADAPTIVE])
def test_noise_and_time_change_no_name_before(norm: Any) -> None:
    whole, _ = drawing(norm)
    objective = made(DRAWN, whole)
    batch = merge(of_labels([3, 1]), image_batch([1, 1]))
    alone = whole.run(whole.tokenize(batch, ["label"])).tokens("label")
    seen = []
    run = whole.run
    whole.run = lambda token_set: seen.append(run(token_set)) or seen[-1]  # type: ignore[method-assign]
    for t in (0.1, 0.9):
        objective.velocity(whole, batch, {"image": torch.randn(2, 4, 16)}, torch.full((2,), t))
    for states in seen:
        torch.testing.assert_close(states.tokens("label"), alone)
    assert not torch.allclose(seen[0].tokens("image"), seen[1].tokens("image"))


@torch.no_grad()
@pytest.mark.parametrize("norm", [None, ADAPTIVE])
def test_the_velocity_depends_on_the_time(norm: Any) -> None:
    whole, objective = drawing(norm)
    batch, mixed = merge(of_labels([3, 1]), image_batch([1, 1])), {"image": torch.randn(2, 4, 16)}
    early, late = (objective.velocity(whole, batch, mixed, torch.full((2,), t))["image"] for t in (0.1, 0.9))
    mingled = objective.velocity(whole, batch, mixed, torch.tensor([0.1, 0.9]))["image"]
    assert not torch.allclose(early, late, atol=1e-3)
    torch.testing.assert_close(mingled, torch.stack([early[0], late[1]]))


@torch.no_grad()
def test_guidance_is_by_its_formula() -> None:
    whole, objective = drawing()
    batch, how = merge(of_labels([3, 1, 0]), image_batch([1, 1, 1])), Integration(3, "euler")

    def numbers(**scales: float) -> Tensor:
        return objective.made(whole, batch, torch.Generator().manual_seed(0), how, scales)["image"]

    plain = objective.made(whole, batch, torch.Generator().manual_seed(0), how)["image"]
    assert numbers(label=1).equal(plain), "a scale of 1 is none"
    x = torch.randn(3, 64, generator=torch.Generator().manual_seed(0)).unflatten(1, (4, 16))
    without = batch.without({"label": torch.ones(3, dtype=torch.bool)})
    for step in range(3):
        t = torch.full((3,), step / 3)
        given, other = (objective.velocity(whole, each, {"image": x}, t)["image"] for each in (batch, without))
        x = x + (other + 2.5 * (given - other)) / 3
    torch.testing.assert_close(numbers(label=2.5), x, atol=1e-5, rtol=1e-5)


def test_steps_of_a_series_attend_to_each_other() -> None:
    """An earlier step depends on a later one, since all are made at once."""
    whole, objective = acting()
    batch = tried([5])
    mixed = torch.randn(1, 5, 2)
    moved = mixed.clone()
    moved[:, 4] += 1.0
    one, other = (
        objective.velocity(whole, batch, {"action": x}, torch.tensor([0.5]))["action"] for x in (mixed, moved)
    )
    assert not torch.allclose(one[:, 0], other[:, 0], atol=1e-4)


@pytest.fixture
def one_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """Examples are made in one step."""
    monkeypatch.setattr(flow, "SHOWN", Integration(1, "euler"))


@pytest.mark.usefixtures("one_step")
@pytest.mark.parametrize("norm", [pytest.param(None, marks=pytest.mark.slow), ADAPTIVE])
def test_contract_of_pictures(norm: Any) -> None:
    whole, objective = drawing(norm)
    check_objective(objective, whole, DRAWN)


@pytest.mark.usefixtures("one_step")
def test_contract_of_two_names_and_likelihoods() -> None:
    specs = {"x": PLANE["x"], "action": series_spec(2, max_length=3, num_times=None)}
    own = {"x": series(specs["x"], clock=None), "action": series(specs["action"], clock="chunk")}
    whole = model(own, backbone(positions=INDEX, num_layers=1))
    check_objective(made(specs, whole, names=["x", "action"], likelihood_steps=1), whole, specs)


@pytest.mark.parametrize("norm", [None, ADAPTIVE])
def test_packed_padded_and_alone_are_the_same(norm: Any) -> None:
    specs = {"text": text_spec(), **ACTED}
    own = {
        "text": text(),
        "state": series(ACTED["state"], clock=None),
        "action": series(ACTED["action"], clock="chunk"),
    }
    whole = model(own, backbone(positions=INDEX, **({} if norm is None else {"norm": norm})))
    objective = made(specs, whole)
    batch = merge(text_batch([4, 0, 2, 6]), tried([5, 2, 0, 3]))
    results = []
    for given in (batch, batch.packed()):
        prepared = objective.prepare(whole, given, torch.Generator().manual_seed(0))
        for module in (whole, objective):
            module.zero_grad()
        score = objective(whole, prepared)
        score.loss_sum.backward()
        parameters = [*whole.parameters(), *objective.parameters()]
        results.append((score.vector(), [p.grad for p in parameters if p.grad is not None]))
        if given is batch:
            rows = [objective(whole, prepared.select(slice(i, i + 1))).loss_sum for i in range(4)]
            torch.testing.assert_close(torch.stack(rows).sum(), score.loss_sum)
    torch.testing.assert_close(*results, atol=1e-4, rtol=1e-4)


def test_a_seed_draws_the_same_again() -> None:
    whole, objective = acting()
    state = a_state()

    def written(seed: int, **options: Any) -> str:
        draws, how = torch.Generator().manual_seed(seed), Integration(2)
        return objective.generate(whole, state, draws, integration=how, **options)

    assert written(0) == written(0) != written(1)
    assert len(written(0).split("; ")) == 5 and len(written(0, length=2).split("; ")) == 2
    assert len(set(written(0, count=3).splitlines())) == 3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"count": 0}, "count=0 must be at least 1"),
        ({"length": 6}, "length=6 must lie in 1..5"),
        ({"guidance": {"view": 2}}, "guidance.view=2 names nothing that 'action' is written from"),
        ({"guidance": {"action": 2}}, "guidance.action=2 names nothing that 'action' is written from"),
        ({"guidance": {"state": -1}}, "guidance.state=-1 must be a number, at least 0"),
    ],
)
def test_options_that_cannot_be(options: dict[str, Any], message: str) -> None:
    whole, objective = acting()
    with pytest.raises(InvalidValue, match=message):
        objective.generate(whole, a_state(), torch.Generator(), **options)


def test_pictures_are_drawn_for_each_sample() -> None:
    """Of 0..255, the same as the numbers that are made of it."""
    whole, objective = drawing()
    labels, how = of_labels([1, 3, 1]), Integration(2)
    drawn = objective.make(whole, labels, torch.Generator().manual_seed(0), 3, integration=how)
    canvas = merge(labels, image_batch([1, 1, 1]))
    numbers = objective.made(whole, canvas, torch.Generator().manual_seed(0), how)["image"]
    expected = (whole.tokenizer("image").fields_of(numbers)["pixels"]).clamp(0, 255).round().to(torch.uint8)
    assert drawn.shape == (3, 1, 8, 8) and drawn.equal(expected)
    alone = model({"image": image(DRAWN["image"])}, backbone(positions=INDEX))
    several = made({"image": DRAWN["image"]}, alone).make(alone, Batch({}, {}), torch.Generator(), 4, integration=how)
    assert several.shape == (4, 1, 8, 8), "a set of nothing else"
    other, acts = acting()
    values = acts.make(other, a_state(), torch.Generator().manual_seed(0), 1, integration=how)
    assert acts.made_field == "values" and values.shape[::2] == (1, 2), "vectors are made as they are"


@pytest.mark.usefixtures("one_step")
def test_what_is_made_is_drawn_beneath(tmp_path: Path) -> None:
    for (whole, objective), batch in (
        (drawing(), merge(of_labels([1, 3]), image_batch([1, 1]))),
        (acting(), tried([5, 3])),
    ):
        examples = objective.examples(whole, batch)
        table, picture = objective.show(whole, batch, examples, tmp_path / "flow_step3")
        assert len(table.read_text().splitlines()) == 2 and PIL.Image.open(picture).height > 300


def test_pictures_have_one_length() -> None:
    whole, objective = drawing()
    with pytest.raises(InvalidValue, match="length=2 cannot be chosen"):
        objective.generate(whole, of_labels([1]), torch.Generator(), length=2)


def test_names_behind_do_not_guide() -> None:
    specs = {"image": image_spec(), "label": label_spec()}
    whole = model({"image": image(), "label": series(specs["label"], clock=None)}, backbone(positions=INDEX))
    objective = made(specs, whole, names=["image"])
    with pytest.raises(InvalidValue, match="names nothing that 'image' is written from"):
        objective.generate(whole, of_labels([1]), torch.Generator(), guidance={"label": 2})
    mutual = model(
        {"image": image(clock="scene"), "label": series(specs["label"], clock="scene")},
        backbone(positions=INDEX),
        clocks={"scene": Clock(mutual=True)},
    )
    objective = made(specs, mutual, names=["image"])
    options: Any = {"guidance": {"label": 2}, "integration": Integration(1)}
    assert objective.generate(mutual, of_labels([1]), torch.Generator().manual_seed(0), **options)


def refused(specs: dict[str, Spec], own: dict[str, Any], message: str, body: Any = None, **changes: Any) -> None:
    with pytest.raises(ValueError, match=message):
        made(specs, model(own, body or backbone(positions=INDEX)), **changes)


def test_names_that_no_flow_makes() -> None:
    specs, own = {"text": text_spec(), **DRAWN}, {"text": text(), "label": series(DRAWN["label"]), "image": image()}
    refused(specs, own, "names=text is not made of numbers", names=["text"])
    refused(specs, own, "names=label is not made of numbers", names=["label"])
    refused(specs, own, "names=sound names no modality of the set", names=["sound"])
    refused(specs, own, "must name one or several", names=["image", "image"])
    refused(specs, own, "must name one or several", names=[])
    refused(specs, own, "likelihood_steps=0 must be at least 1", likelihood_steps=0)
    large = {"image": image_spec(3, 16, 16)}
    refused(large, {"image": image(large["image"])}, "derivative for each of the 768 numbers", likelihood_steps=5)


def test_steps_need_a_clock_and_positions_of_their_own() -> None:
    own = {"state": series(ACTED["state"]), "action": series(ACTED["action"])}
    refused(ACTED, own, "names=action has steps that are made at once, and shares its clock with state")
    own = {"state": series(ACTED["state"]), "action": series(ACTED["action"], clock="chunk")}
    refused(ACTED, own, "no positions tell them apart", backbone())


@pytest.mark.slow
@pytest.mark.usefixtures("one_step")
def test_vectors_without_an_order_need_no_positions() -> None:
    specs = {"radar": Spec({"values": Field((None, 2), torch.float32, max_length=4)})}
    whole = model({"radar": Vectors(spec=specs["radar"], dim=24, clock=None)}, backbone())
    objective = made(specs, whole)
    check_objective(objective, whole, specs)
