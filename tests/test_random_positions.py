"""Randomised positions: a random rising subset in training, as ever in evaluation."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from builders import POSITIONS, backbone, image, model, series, text, text_batch, text_spec

from mmtx.embeddings import random_places
from mmtx.errors import InvalidValue
from mmtx.model import MultimodalTransformer
from mmtx.nn.positions import Positions

RANGE, LENGTH = 32, 6


def spread(name: str, most: int = RANGE) -> Positions:
    return replace(POSITIONS[name], random_range=most)


def of_text(positions: Positions) -> MultimodalTransformer:
    return model({"text": text(text_spec(max_length=8))}, backbone(positions=positions))


@pytest.mark.parametrize("name", ["learned", "sinusoidal", "rotary", "index", "alibi", "t5"])
def test_training_is_a_pass_of_tokens_that_stand_farther_apart(name: str) -> None:
    whole, batch = of_text(spread(name)), text_batch([LENGTH, 4])
    plain = whole.tokenize(batch)
    assert plain.connectivity.position[0, :, 0].tolist() == list(range(LENGTH))
    torch.manual_seed(1)
    trained = whole.train()(batch).hidden
    torch.manual_seed(1)
    places = torch.randperm(RANGE)[:LENGTH].sort().values
    whole.eval()
    position = torch.stack([places, places, places[:1].expand(LENGTH)], dim=-1)[None]
    index = None if plain.connectivity.index is None else places[None]
    apart = replace(plain.connectivity, position=position, index=index)
    place = plain.place
    if "text" in whole.position_embeddings:
        embed = whole.position_embeddings["text"]
        place = place - embed(torch.arange(LENGTH)[:, None]) + embed(places[:, None])
    expected = whole.run(replace(plain, connectivity=apart, place=place)).hidden
    torch.testing.assert_close(trained, expected, atol=1e-5, rtol=1e-5)
    assert (trained - whole(batch).hidden).abs().max() > 1e-3


def test_every_place_is_drawn_equally_often() -> None:
    torch.manual_seed(0)
    tokens = text(text_spec(max_length=8))(text_batch([LENGTH])["text"], torch.tensor([LENGTH]), True)
    drawn = torch.stack([random_places([tokens], 16) for _ in range(800)])
    assert (drawn.diff(dim=1) > 0).all() and drawn.min() == 0 and drawn.max() == 15
    share, deviation = LENGTH / 16, (LENGTH / 16 * (1 - LENGTH / 16) / 800) ** 0.5
    assert ((drawn.flatten().bincount() / 800 - share).abs() < 4 * deviation).all()


def test_a_learned_table_has_all_places() -> None:
    assert of_text(spread("learned")).position_embeddings["text"].table.weight.shape == (RANGE, 24)
    both = model({"image": image(), "text": text()}, backbone(positions=spread("learned")))
    assert both.position_embeddings["image"].table.weight.shape == (4, 24), "pictures have the places of their grid"


def test_refused_ranges() -> None:
    key = "^backbone.positions.random_range=7 "
    with pytest.raises(InvalidValue, match=f"{key}is less than the 12 tokens that a sample of image, text may have$"):
        model({"image": image(), "text": text()}, backbone(positions=spread("rotary", 7)))
    with pytest.raises(InvalidValue, match=f"{key}cannot be: samples have times of their own in 'state'"):
        model({"state": series()}, backbone(positions=spread("rotary", 7)))
    with pytest.raises(InvalidValue, match=r"^positions.random_range=32 spreads positions, by which windows are"):
        backbone(positions=spread("rotary"), window=3, layers="LG")
    with pytest.raises(InvalidValue, match="^random_range=0 must be at least 1"):
        spread("rotary", 0)
