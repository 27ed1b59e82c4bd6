"""Codes are learnt from what is decoded of them."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from builders import image, image_spec, model, text, text_spec
from contracts import check_objective
from small_codec import KINDS, LEARNT

from mmtx.batch import Batch, fake_batch
from mmtx.errors import InvalidValue
from mmtx.learner import Learner
from mmtx.objectives.reconstruct import Reconstruct
from mmtx.training.followed_layers import FollowedLayers

SPECS = {"image": image_spec(), "text": text_spec()}


def learner(kind: str = "vq", name: str = "image") -> Learner:
    specs = {name: LEARNT[name]().spec, "text": text_spec()}
    whole = model({name: LEARNT[name](kind, dim=24), "text": text(causal=False)})
    objective = Reconstruct(specs=specs, model=whole, weight=1.0, name=name)
    return Learner(model=whole, objectives={"reconstruct": objective}, specs=specs)


def batch(size: int = 5) -> Batch:
    return fake_batch(SPECS, size, ragged=False)


@pytest.mark.parametrize(("kind", "name"), [*((kind, "image") for kind in KINDS), ("vq", "video"), ("vq", "audio")])
def test_contract(kind: str, name: str) -> None:
    whole = learner(kind, name)
    check_objective(whole.objective("reconstruct"), whole.model, whole.specs)


@pytest.mark.parametrize("name", ["video", "audio"])
def test_of_films_and_sounds_real_codes_alone_are_counted(name: str) -> None:
    whole = learner("vq", name).eval()
    given = fake_batch(whole.specs, 5)
    tokenizer = whole.model.tokenizer(name)
    counts = tokenizer.num_tokens(given.lengths[name]).tolist()
    assert len({*counts}) > 1
    objective = whole.objective("reconstruct")
    assert float(whole(given)["reconstruct"].stats["uses"][0].sum()) == sum(counts)
    rows = objective.predictions(whole.model, given)
    assert [len(codes) for codes in rows["codes"]] == counts
    ids, commitments = [], []
    for index, count in enumerate(counts):
        alone = {key: values[index : index + 1] for key, values in given[name].items()}
        found = tokenizer.through_codes(alone, given.lengths[name][index : index + 1])
        ids.append(found.ids[0, :count].tolist())
        commitments.append(float(found.errors[0].detach()) + float(found.commitment[0, :count].mean().detach()))
    assert rows["codes"] == ids
    assert objective.metrics(whole(given)["reconstruct"].totals())["loss"] == pytest.approx(
        sum(commitments) / 5, rel=1e-4
    )


@pytest.mark.parametrize("kind", KINDS)
def test_metrics_are_those_of_each_picture_in_a_loop(kind: str) -> None:
    whole, given = learner(kind).eval(), batch()
    codec = whole.model.tokenizer("image").codec
    squares, losses, ids = [], [], []
    for pixels in given["image"]["pixels"]:
        found = codec({"pixels": pixels[None]}, torch.ones(1, dtype=torch.long))
        squares.append(float((found.numbers - pixels / 255).square().mean()))
        losses.append(squares[-1] + float(found.quantised.commitment.mean()))
        ids += found.quantised.ids.flatten().tolist()
    shares = [ids.count(code) / len(ids) for code in set(ids)]
    metrics = whole.objective("reconstruct").metrics(whole(given)["reconstruct"].totals())
    assert metrics == pytest.approx(
        {
            "loss": sum(losses) / 5,
            "rmse": math.sqrt(sum(squares) / 5),
            "codes_used": len(shares) / codec.quantiser.num_codes,
            "code_perplexity": math.exp(-sum(share * math.log(share) for share in shares)),
        },
        rel=1e-5,
    )


def test_the_codebook_follows_the_whole_step() -> None:
    """Two micro-batches are one; absent pictures and a step that is left out change nothing."""
    books = {}
    for case in ("whole", "parts", "left out"):
        own, given = learner().train(), batch(6)
        absent = replace(given, lengths={**given.lengths, "image": torch.tensor([1, 1, 1, 1, 0, 0])}, full={})
        parts = (
            [absent.select(slice(0, 2)), absent.select(slice(2, 6))] if case == "parts" else [given.select(slice(0, 4))]
        )
        followed = FollowedLayers(own.model)
        for part in parts:
            own(part)
            followed.add(own.statistics)
        followed.follow(lambda own: own, torch.tensor(float(case == "left out")))
        books[case] = own.model.tokenizer("image").codec.quantiser.codebook.data
    fresh = learner().model.tokenizer("image").codec.quantiser.codebook.data
    assert books["left out"].equal(fresh) and not books["whole"].equal(fresh)
    torch.testing.assert_close(books["parts"], books["whole"])


@pytest.mark.parametrize("kind", KINDS)
def test_it_learns(kind: str) -> None:
    """Pictures of black and white squares."""
    whole, squares = learner(kind).train(), torch.randint(2, (16, 1, 2, 2), dtype=torch.uint8) * 255
    given = batch(16).with_values("image", pixels=squares.repeat_interleave(4, 2).repeat_interleave(4, 3))
    optimizer, followed = torch.optim.Adam(whole.parameters(), lr=0.01), FollowedLayers(whole.model)
    losses = []
    for _ in range(60):
        score = whole(given)["reconstruct"]
        followed.add(whole.statistics)
        losses.append(score.ratio("rmse"))
        optimizer.zero_grad()
        (score.loss_sum / score.count).backward()
        optimizer.step()
        followed.follow(lambda own: own, torch.zeros(()))
    assert losses[-1] < 0.25 * losses[0]


def test_examples_have_the_error_of_each() -> None:
    whole, given = learner().eval(), batch(2)
    found = whole.model.tokenizer("image").codec(given["image"], given.lengths["image"])
    errors = (found.numbers - given["image"]["pixels"] / 255).square().flatten(1).mean(1).sqrt()
    examples = whole.objective("reconstruct").examples(whole.model, given)
    assert [each.predicted for each in examples] == [f"rmse {error:.3f}" for error in errors.tolist()]


def test_names_without_codes_are_refused() -> None:
    whole = model({"image": image()})
    with pytest.raises(InvalidValue, match="name=image learns no codes"):
        Reconstruct(specs=SPECS, model=whole, weight=1.0, name="image")
