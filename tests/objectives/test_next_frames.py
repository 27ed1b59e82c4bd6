"""Frames from those before them: what is learnt, what is made, and what is refused."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch
from builders import backbone, model
from contracts import check_objective

from mmtx.batch import Batch, Field, Spec, fake_batch
from mmtx.decoding.flow import Integration
from mmtx.errors import InvalidValue, UserError
from mmtx.modalities.video import Video
from mmtx.model import MultimodalTransformer
from mmtx.nn.adaptive_norm import AdaptiveNorm
from mmtx.objectives.forced_frames import ForcedFrames
from mmtx.objectives.frame_metrics import squared_error, structural_similarity
from mmtx.objectives.next_frames import NextFrames

LONGEST, PER_FRAME = 4, 4
FILM = {"film": Spec({"frames": Field((None, 1, 8, 8), torch.uint8, max_length=LONGEST)})}
BOTH = pytest.mark.parametrize("objective_class", [NextFrames, ForcedFrames])
ADAPTIVE = partial(AdaptiveNorm, eps=1e-6)


def video(**changes: Any) -> Video:
    keys = {"patch_size": 4, "tubelet_frames": 1, "causal": True, "mean": 0.5, "std": 0.5}
    return Video(spec=FILM["film"], dim=24, clock=None, **{**keys, **changes})


def made(objective_class: type[NextFrames], norm: Any = ADAPTIVE, **changes: Any) -> tuple[MultimodalTransformer, Any]:
    """With weights that are not zero, as after some training."""
    keys = {"given": 2} | ({"times": "logit_normal", "num_steps": 1} if objective_class is ForcedFrames else {})
    tokenizer = changes.pop("tokenizer", None) or video()
    whole = model({"film": tokenizer}, backbone(num_layers=1, **({"norm": norm} if norm else {})))
    torch.manual_seed(1)
    objective = objective_class(specs=FILM, model=whole, weight=1.0, name="film", **{**keys, **changes})
    with torch.no_grad():
        objective.projection.weight.normal_(std=0.2)
        for name, parameter in whole.named_parameters():
            if "modulation" in name or ".gate." in name:
                parameter.normal_(std=0.2)
    return whole, objective.eval()


def films(lengths: list[int]) -> Batch:
    batch = fake_batch(FILM, len(lengths), ragged=False)
    there = torch.arange(LONGEST) < torch.tensor(lengths)[:, None]
    frames = batch["film"]["frames"] * there[..., None, None, None]
    return Batch({"film": {"frames": frames}}, {"film": torch.tensor(lengths)}, {}, torch.arange(len(lengths)))


@BOTH
def test_contract(objective_class: type[NextFrames]) -> None:
    whole, objective = made(objective_class)
    check_objective(objective, whole, FILM)


def test_a_later_frame_changes_no_earlier_prediction() -> None:
    whole, objective = made(NextFrames)
    batch = films([4])
    changed = batch["film"]["frames"].clone()
    changed[:, 2] = 255 - changed[:, 2]
    before, after = (objective.predicted(whole, each) for each in (batch, batch.with_values("film", frames=changed)))
    assert before[:, : 2 * PER_FRAME].equal(after[:, : 2 * PER_FRAME])
    assert not before[:, 2 * PER_FRAME :].allclose(after[:, 2 * PER_FRAME :])


def test_the_loss_is_the_error_of_the_frame_after() -> None:
    whole, objective = made(NextFrames)
    batch = films([4, 3])
    found, numbers = objective.predicted(whole, batch), objective.numbers(batch)
    total = 0.0
    for row, length in enumerate((4, 3)):
        for frame in range(length - 1):
            tokens = slice(frame * PER_FRAME, (frame + 1) * PER_FRAME)
            after = slice((frame + 1) * PER_FRAME, (frame + 2) * PER_FRAME)
            total += float((found[row, tokens] - numbers[row, after]).square().sum())
    score = objective(whole, batch)
    assert float(score.loss_sum) == pytest.approx(total, rel=1e-5) and int(score.count) == 5 * PER_FRAME * 16


def test_noise_of_a_frame_is_read_by_it_and_by_later_ones_alone() -> None:
    whole, objective = made(ForcedFrames)
    batch = objective.prepare(whole, films([4]), torch.Generator().manual_seed(0))
    mixed, moment = batch["film"]["noise"], batch["film"]["moment"]
    assert moment.shape == (1, LONGEST) and moment.unique().numel() == LONGEST, "each has its own"
    later = moment.clone()
    later[:, 2] = 1 - later[:, 2]
    before, after = (objective.velocity(whole, batch, mixed, each) for each in (moment, later))
    assert before[:, : 2 * PER_FRAME].equal(after[:, : 2 * PER_FRAME])
    assert not before[:, 2 * PER_FRAME :].allclose(after[:, 2 * PER_FRAME :])


def test_a_frame_is_made_given_clean_ones() -> None:
    """One step of Euler's method, by hand: the velocity of the last frame, those before it with the time 1."""
    whole, objective = made(ForcedFrames)
    batch, noise = films([4]), torch.randn(1, PER_FRAME, 16, generator=torch.Generator().manual_seed(0))
    given = objective.numbers(batch)[:, : 2 * PER_FRAME]
    found = objective.next_frame(whole, batch, given, noise, Integration(1, "euler"))
    three = films([3]).with_values("film", frames=batch["film"]["frames"])
    mixed = torch.cat([given, noise, torch.zeros_like(noise)], dim=1)
    velocity = objective.velocity(whole, three, mixed, torch.tensor([[1.0, 1.0, 0.0, 0.0]]))
    torch.testing.assert_close(found, noise + velocity[:, 2 * PER_FRAME : 3 * PER_FRAME])


@BOTH
def test_metrics_are_of_the_frames_that_are_made(objective_class: type[NextFrames]) -> None:
    whole, objective = made(objective_class)
    batch = (
        objective.prepare(whole, films([4, 3]), torch.Generator()) if objective_class is ForcedFrames else films([4, 3])
    )
    metrics = objective.metrics(objective(whole, batch))
    real = batch["film"]["frames"].float() / 255
    numbers = objective.completed(whole, batch)
    frames = (whole.tokenizer("film").fields_of(numbers)["frames"] / 255).clamp(0, 1)  # type: ignore[operator]
    assert frames[:, :2].allclose(real[:, :2], atol=1e-5), "the given ones"
    pairs = [(0, 2), (0, 3), (1, 2)]
    errors = squared_error(frames, real)
    assert metrics["mse"] == pytest.approx(sum(float(errors[pair]) for pair in pairs) / 3, rel=1e-4)
    copied = squared_error(real[:, 1:2].expand_as(real), real)
    assert metrics["mse_of_copy"] == pytest.approx(sum(float(copied[pair]) for pair in pairs) / 3, rel=1e-4)
    similar = structural_similarity(frames, real)
    assert metrics["ssim"] == pytest.approx(sum(float(similar[pair]) for pair in pairs) / 3, rel=1e-4)


@BOTH
def test_films_go_on(objective_class: type[NextFrames]) -> None:
    """Each frame as it is made of those before it, made ones among them; a seed makes the same again."""
    whole, objective = made(objective_class)
    begun = Batch({"film": {"frames": films([4])["film"]["frames"][:, :2]}}, {"film": torch.tensor([2])}, {})
    once, again = (objective.continue_film(whole, begun, torch.Generator().manual_seed(0)) for _ in range(2))
    assert once.shape == (1, LONGEST, 1, 8, 8) and once.equal(again)
    torch.testing.assert_close(once[:, :2], begun["film"]["frames"].float(), atol=1e-3, rtol=1e-4)
    three = objective.continue_film(whole, begun, torch.Generator().manual_seed(0), length=3)
    assert three.shape[1] == 3
    if objective_class is NextFrames:
        cut = Batch({"film": {"frames": once[:, :3]}}, {"film": torch.tensor([3])}, {})
        last = whole.tokenizer("film").fields_of(objective.predicted(whole, cut)[:, -PER_FRAME:])  # type: ignore[operator]
        torch.testing.assert_close(once[:, 3:], last["frames"])
    with pytest.raises(InvalidValue, match=r"length=2 must lie in 3\.\.4"):
        objective.continue_film(whole, begun, torch.Generator(), length=2)
    with pytest.raises(UserError, match="a film of 4 frames cannot go on"):
        objective.continue_film(whole, films([4]), torch.Generator())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"tokenizer": video(tubelet_frames=2)}, "name=film has no frames that follow one another"),
        ({"tokenizer": video(causal=False)}, "name=film has no frames that follow one another.*causal=true"),
        ({"given": 4}, r"given=4 must lie in 1\.\.3"),
        ({"num_steps": 0}, "num_steps=0 must be at least 1"),
        ({"norm": None}, "name=film has a time for each frame, which norms read.*adaptive"),
    ],
)
def test_what_cannot_be_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidValue, match=message):
        made(ForcedFrames, **changes)
