"""Joint-embedding prediction: blocks by loops, the loss by hand, the teacher, and what is refused."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from builders import (
    POSITIONS,
    STEMS,
    audio,
    audio_spec,
    backbone,
    image,
    image_batch,
    image_spec,
    model,
    pictures_spec,
    series,
    series_spec,
    text,
    text_spec,
)
from contracts import check_objective

from mmtx.batch import fake_batch
from mmtx.errors import InvalidValue
from mmtx.modalities.base import Tokenizer
from mmtx.objectives.block_masks import DrawnBlocks, Grid, num_content
from mmtx.objectives.joint_embedding import JointEmbedding, without_targets
from mmtx.objectives.masked_autoencoder import content_lengths
from mmtx.objectives.predictions import predictions_of

SPECS = {
    "image": image_spec(3),
    "state": series_spec(),
    "audio": audio_spec(),
    "text": text_spec(),
    "view": pictures_spec(),
}
TOKENIZERS: dict[str, Any] = {
    "image": partial(image, SPECS["image"], patch_size=2, summary=True),
    "state": partial(series, SPECS["state"]),
    "audio": partial(audio, SPECS["audio"], stem=STEMS["patches"]),
    "text": partial(text, SPECS["text"]),
    "view": partial(image, SPECS["view"], clock="step"),
}


def made(*names: str, positions: str = "learned", **changes: Any) -> tuple[Any, JointEmbedding]:
    tokenizers: dict[str, Tokenizer] = {name: TOKENIZERS[name]() for name in names or ("image",)}
    whole = model(tokenizers, backbone(positions=POSITIONS[positions]))
    stack = {"dim": 16, "num_layers": 1, "positions": POSITIONS[positions]}
    keys: dict[str, Any] = {
        "weight": 1.0,
        "names": [*tokenizers],
        "num_targets": 3,
        "target_share": [0.15, 0.2],
        "target_aspect": [0.75, 1.5],
        "context_share": [0.85, 1.0],
        "decay": 0.9,
        "predictor": partial(backbone, **stack),
    }
    torch.manual_seed(1)
    return whole, JointEmbedding(specs=SPECS, model=whole, **{**keys, **changes}).eval()


@pytest.mark.parametrize(
    ("names", "predicted", "positions"),
    [
        pytest.param(["audio"], ["audio"], "learned", id="audio", marks=pytest.mark.slow),
        pytest.param(["view", "state"], ["view", "state"], "rotary", id="view-state"),
        pytest.param(["image", "text"], ["image"], "learned", id="image-text", marks=pytest.mark.slow),
    ],
)
def test_contract(names: list[str], predicted: list[str], positions: str) -> None:
    whole, objective = made(*names, names=predicted, positions=positions)
    check_objective(objective, whole, {name: SPECS[name] for name in names})


@pytest.mark.parametrize("name", ["image", "view", "state", "audio"])
def test_places_are_those_of_the_tokens(name: str) -> None:
    """Steps and coordinates of each token, in a batch whose samples differ in length."""
    tokenizer, batch = TOKENIZERS[name]().eval(), fake_batch({name: SPECS[name]}, 4)
    tokens = tokenizer(batch[name], batch.lengths[name], False)
    grid = Grid.of(tokenizer, num_content(tokenizer, batch, name), torch.device("cpu"))
    coordinates = tokens.coordinates[tokens.num_prefix_tokens :]
    step = torch.arange(len(coordinates)) // math.prod(tokenizer.extent)
    axes = torch.cat([step[:, None], coordinates], dim=1) if tokens.num_items > 1 else coordinates
    assert grid.places.tolist() == axes[:, -2:].tolist()
    sizes = grid.sizes(content_lengths(tokenizer, batch, name))
    for index, count in enumerate(content_lengths(tokenizer, batch, name).tolist()):
        assert sizes[index].tolist() == (axes[:count].amax(0) + 1)[-2:].tolist()


def test_blocks_are_rectangles_of_their_share() -> None:
    """Of 12 x 12 tokens: each is a whole rectangle, whose area and form lie in their limits, up to rounding."""
    tokenizer = image(image_spec(1, 24, 24), patch_size=2)
    grid = Grid.of(tokenizer, 144, torch.device("cpu"))
    sizes = grid.sizes(torch.full((50,), 144))
    blocks = (
        DrawnBlocks((0.15, 0.2), (0.75, 1.5)).drawn(grid, sizes, 4, torch.Generator().manual_seed(0)).view(200, 12, 12)
    )
    places = set()
    for block in blocks:
        rows, columns = block.any(1).nonzero()[:, 0], block.any(0).nonzero()[:, 0]
        height, width = len(rows), len(columns)
        assert rows.tolist() == [*range(int(rows[0]), int(rows[0]) + height)]
        assert int(block.sum()) == height * width, "a rectangle"
        assert 4 <= height <= 7 and 4 <= width <= 6, "12 sqrt(.15 * .75) to 12 sqrt(.2 * 1.5), and their counterparts"
        assert (height - 0.5) * (width - 0.5) <= 0.2 * 144 and (height + 0.5) * (width + 0.5) >= 0.15 * 144
        places |= {int(rows[0]), int(rows[-1])}
    assert {0, 11} <= places, "at both ends too"


def test_a_context_is_left() -> None:
    """The targets that would leave nothing are emptied, the others stay whole and are taken from the context."""
    context = torch.tensor([[True, True, True, False]])
    targets = torch.tensor([[[1, 1, 0, 0], [0, 0, 1, 1], [0, 1, 0, 0]]]).bool()
    left, kept = without_targets(context, targets)
    assert left.tolist() == [[False, False, True, False]]
    assert kept.long().tolist() == [[[1, 1, 0, 0], [0, 0, 0, 0], [0, 1, 0, 0]]]


def test_loss_by_hand() -> None:
    """Sample by sample and target by target, by stacks that get what is in sight, and nothing else."""
    whole, objective = made()
    with torch.no_grad():
        for value in objective.teacher.model.parameters():
            value += 0.05 * torch.randn(value.shape, generator=torch.Generator().manual_seed(3))
    batch = objective.prepare(whole, image_batch([1, 1, 1], SPECS["image"]), torch.Generator().manual_seed(0))
    errors = []
    for index in range(3):
        alone = batch.select(slice(index, index + 1))
        truth = objective.teacher.model(alone).tokens("image")[0]
        truth = (truth - truth.mean(1, keepdim=True)) / (truth.var(1, correction=0, keepdim=True) + 1e-5).sqrt()
        for target in alone["image"]["targets"][0]:
            predicted = _predicted(objective, whole, alone, target)
            difference = (predicted - truth[target]).abs()
            errors += torch.where(difference < 1, difference**2 / 2, difference - 0.5).mean(1).tolist()
    score = objective(whole, batch)
    assert len(errors) == int(score.count) == int(objective.count(batch)) > 0
    assert score.mean_loss() == pytest.approx(sum(errors) / len(errors), rel=1e-5)
    row = predictions_of(objective, whole, batch, batch)
    mean = sum(e * n for e, n in zip(row["error"], row["predicted"], strict=True)) / sum(row["predicted"])
    assert mean == pytest.approx(score.mean_loss(), rel=1e-5)


def _predicted(objective: JointEmbedding, whole: Any, batch: Any, target: torch.Tensor) -> torch.Tensor:
    """The predictor's values of a target of the only sample, by a set that holds nothing else."""
    context, predictor = batch["image"]["context"][0], objective.predictor
    tokens = whole.tokenize(batch)
    seen = torch.cat([torch.ones(1).bool(), context])  # CLS before the patches
    states = whole.backbone(
        (tokens.content + tokens.place)[:, seen],
        tokens.connectivity.gathered(seen.nonzero().T, torch.ones(1, int(seen.sum())).bool()),
    )
    embedded = predictor.mask.expand(1, 17, -1).clone()
    embedded[:, seen] = predictor.embed(states)
    read = seen | torch.cat([torch.zeros(1).bool(), target])
    places = torch.cat(
        [predictor.prefixes["image"], predictor.positions["image"](tokens.connectivity.position[0, 1:, 1:])]
    )
    connectivity = tokens.connectivity.gathered(read.nonzero().T, torch.ones(1, int(read.sum())).bool())
    hidden = torch.zeros(17, 16)
    hidden[read] = predictor.stack((embedded + places)[:, read], connectivity)[0]
    return predictor.heads["image"](hidden[1:][target])


def test_targets_carry_no_gradient() -> None:
    """Nothing of the teacher can have one, and pixels have one through the context alone."""
    whole, objective = made("state", positions="rotary")
    assert not [*objective.teacher.parameters()] and not any(
        p.requires_grad for p in objective.teacher.model.parameters()
    )
    batch = objective.prepare(
        whole, fake_batch({"state": SPECS["state"]}, 3, ragged=False), torch.Generator().manual_seed(0)
    )
    values = batch["state"]["values"].clone().requires_grad_()
    given = batch.with_values("state", values=values)
    assert not any(each.requires_grad for each in objective.truth(given).values())
    objective(whole, given).loss_sum.backward()
    assert values.grad is not None
    assert values.grad.any(-1).equal(batch["state"]["context"])


def test_what_is_a_target_is_not_seen() -> None:
    whole, objective = made()
    batch = objective.prepare(whole, image_batch([1], SPECS["image"]), torch.Generator().manual_seed(0))
    truth = objective.truth(batch)
    before = objective.errors(whole, batch, truth)["image"]
    for patch in (
        int(batch["image"]["targets"].any(1)[0].nonzero()[0]),
        int(batch["image"]["context"][0].nonzero()[0]),
    ):
        pixels = batch["image"]["pixels"].clone()
        row, column = divmod(patch, 4)
        pixels[0, :, 2 * row : 2 * row + 2, 2 * column : 2 * column + 2] ^= 255
        after = objective.errors(whole, batch.with_values("image", pixels=pixels), truth)["image"]
        assert torch.equal(before, after) != bool(batch["image"]["context"][0, patch])


def test_the_teacher_is_an_average() -> None:
    """Of a few steps, in float64 by the definition; a step that does not count changes nothing; no mode, no average of
    the weights and no optimiser reaches it."""
    whole, objective = made()
    expected, steps = {name: value.detach().double() for name, value in whole.named_parameters()}, 4
    for step in range(1, steps + 1):
        with torch.no_grad():
            for value in whole.parameters():
                value += 0.1 * step
        objective.follow(whole, step / steps, torch.zeros(()))
        decay = 0.9 + 0.1 * step / steps
        for name, value in whole.named_parameters():
            expected[name] = decay * expected[name] + (1 - decay) * value.double()
        objective.follow(whole, step / steps, torch.ones(()))
    own = dict(objective.teacher.model.named_parameters())
    for name, value in expected.items():
        torch.testing.assert_close(own[name].double(), value, atol=1e-6, rtol=1e-6)
    assert not objective.train().teacher.model.training
    other = made()[1]
    other.load_state_dict(objective.state_dict())
    assert all(own[name].equal(value) for name, value in other.teacher.model.named_parameters())
    objective.begin(whole)
    assert all(own[name].equal(value) for name, value in whole.named_parameters())


def test_spread() -> None:
    """0 where all states are the same, else the deviation over tokens."""
    whole, objective = made()
    batch = objective.prepare(whole, image_batch([1, 1], SPECS["image"]), torch.Generator().manual_seed(0))
    there = batch["image"]["targets"].any(1)
    truth = F.layer_norm(objective.teacher(batch).tokens("image"), (24,))[there].double()
    expected = truth.var(0, correction=0).mean().sqrt().item()
    assert objective.metrics(objective(whole, batch))["spread"] == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize(
    ("names", "changes", "message"),
    [
        (["image"], {"names": ["picture"]}, "names=picture names no modality of the set"),
        (["image"], {"names": []}, r"names=\[\] must name one or several"),
        (["text"], {}, r"names=text has tokens that are not made from numbers of their own.*\(Text\)"),
        (["image"], {"num_targets": 0}, "num_targets=0 must be at least 1"),
        (["image"], {"decay": 1.5}, r"decay=1\.5 must lie in 0\.\.1"),
        (
            ["image"],
            {"target_share": [0.2, 0.1]},
            r"target_share=\[0\.2, 0\.1\] must be two numbers above 0 and at most 1",
        ),
        (["image"], {"context_share": [0.5]}, r"context_share=\[0\.5\] must be two numbers"),
        (["image"], {"target_aspect": [0.0, 1.0]}, r"target_aspect=\[0\.0, 1\.0\] must be two numbers above 0, the"),
        (["state"], {}, "decoder.positions=absolute cannot tell the steps of 'state' apart"),
    ],
)
def test_refusals(names: list[str], changes: dict[str, Any], message: str) -> None:
    with pytest.raises((InvalidValue, ValueError), match=message):
        made(*names, **changes)
