"""Films of a digit that moves."""

import math
from itertools import pairwise

import pytest
import torch
from contracts import check_source

from mmtx.config.compose import compose
from mmtx.data.multimodal.moving_digits import STEPS
from mmtx.errors import ConfigErrors, InvalidValue
from mmtx.experiment import construct_source


def source(*words):
    return construct_source(compose(["data=moving_digits", "objective=[classify]", "data.num_train=40", *words]))


@pytest.mark.parametrize("words", [(), ("data.min_frames=1", "data.max_frames=4", "data.speed=3", "data.canvas=9")])
def test_contract(words):
    check_source(source(*words))


def centre(frame):
    """Of what is drawn, on a torus: the mean angle of its rows, and of its columns, as pixels."""
    weights, canvas = frame.double(), frame.shape[-1]
    turn = torch.exp(2j * math.pi * torch.arange(canvas) / canvas)
    return [float((weights.sum(axis) * turn).sum().angle()) * canvas / (2 * math.pi) for axis in (1, 0)]


@pytest.mark.parametrize("speed", [1, 3])
def test_the_label_is_the_way_that_the_centre_moves(speed):
    test, seen = source(f"data.speed={speed}").test(), set()
    for i in range(60):
        frames, label = test[i]["video"]["frames"], int(test[i]["label"]["class"])
        step = [*STEPS.values()][label]
        for before, after in pairwise(centre(frame[0]) for frame in frames):
            wrapped = [(b - a + 8) % 16 - 8 for a, b in zip(before, after, strict=True)]
            assert wrapped == pytest.approx([speed * s for s in step], abs=1e-6)
        seen.add(label)
    assert seen == set(range(8))


def test_films_are_as_long_as_is_drawn_and_always_the_same():
    ragged = ("data.min_frames=2", "data.max_frames=5")
    train = source(*ragged).train()
    assert {len(train[i]["video"]["frames"]) for i in range(40)} == {2, 3, 4, 5}
    assert torch.equal(train[3]["video"]["frames"], source(*ragged).train()[3]["video"]["frames"])
    other = source(*ragged, "data.split_seed=1").train()
    assert not torch.equal(train[3]["video"]["frames"][0], other[3]["video"]["frames"][0])


def test_no_frame_shows_the_direction():
    """Films of each begin in every quarter of the canvas alike."""
    train = source("data.num_train=1600", "data.min_frames=1", "data.max_frames=1").train()
    ink = torch.zeros(8, 16, 16)
    for i in range(1600):
        ink[int(train[i]["label"]["class"])] += train[i]["video"]["frames"][0, 0]
    quarters = ink.view(8, 2, 8, 2, 8).sum((2, 4)) / ink.sum((1, 2))[:, None, None]
    assert (quarters - 0.25).abs().max() < 0.1  # of about 200 films each, four standard deviations or more


@pytest.mark.parametrize(
    "word", ["data.canvas=7", "data.min_frames=0", "data.max_frames=9", "data.speed=8", "data.num_val=0"]
)
def test_bad_keys_are_named(word):
    with pytest.raises((ConfigErrors, InvalidValue), match=word.partition("=")[0].removeprefix("data.")):
        source(word)
