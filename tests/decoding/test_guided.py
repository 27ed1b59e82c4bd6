"""Guidance by names of the set: by hand, from whole forward passes."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from builders import audio, audio_batch, backbone, encoder_decoder, image, image_batch, merge, model, text, text_batch
from torch import Tensor

from mmtx.batch import Batch
from mmtx.decoding.generate import generate
from mmtx.decoding.guided import Guided
from mmtx.decoding.sampling import Sampling
from mmtx.errors import InvalidValue
from mmtx.model import MultimodalTransformer

TOKENIZERS = {"image": image, "audio": audio, "text": text}


def prefix() -> MultimodalTransformer:
    return model({name: make() for name, make in TOKENIZERS.items()}, backbone(init_std=0.3))


def encoded() -> MultimodalTransformer:
    return encoder_decoder({name: make() for name, make in TOKENIZERS.items()}, ["image", "audio"], init_std=0.3)


models = pytest.mark.parametrize("make", [prefix, encoded], ids=["in the set", "by cross-attention"])


def batch() -> Batch:
    """Of the last sample there is no picture."""
    return merge(image_batch([1, 1, 0]), audio_batch([1600, 900, 1200]), text_batch([2, 2, 2]))


def scores(whole: MultimodalTransformer) -> Any:
    return lambda hidden: hidden @ whole.tokenizer("text").id_vectors.T  # type: ignore[attr-defined]


def log_probabilities(whole: MultimodalTransformer, given: Batch, *absent: str) -> Tensor:
    lacks = torch.ones(len(given), dtype=torch.bool)
    states = whole(given.without(dict.fromkeys(absent, lacks)))
    return scores(whole)(states.tokens("text")[:, -1]).log_softmax(-1)


@models
@torch.no_grad()
def test_scores_are_led_away_from_those_without_a_name(make: Any) -> None:
    whole, given = make(), batch()
    room: dict[str, Any] = {"start": 2, "stop": 6, "cache": True}
    full, blind = log_probabilities(whole, given), log_probabilities(whole, given, "image")
    found = Guided(whole, scores(whole), given, "text", scales={"image": 1.5}, **room).scores()
    torch.testing.assert_close(found, blind + 1.5 * (full - blind), atol=1e-4, rtol=1e-4)
    assert (found - full)[:2].abs().max() > 1e-3
    deaf = log_probabilities(whole, given, "audio")
    found = Guided(whole, scores(whole), given, "text", scales={"image": 3.0, "audio": 0.5}, **room).scores()
    torch.testing.assert_close(found, full + 2 * (full - blind) - 0.5 * (full - deaf), atol=1e-4, rtol=1e-4)


@models
def test_guided_texts_are_the_same_with_and_without_a_cache(make: Any) -> None:
    """And those of a loop by hand."""
    whole, given = make(), batch()
    options: dict[str, Any] = {"max_new_tokens": 5, "guidance": {"image": 4.0}}
    written = generate(whole, scores(whole), given, "text", **options)
    assert written == generate(whole, scores(whole), given, "text", cache=False, **options)
    ids = given["text"]["ids"]
    with torch.no_grad():
        for _ in range(5):
            now = given.with_name("text", {"ids": ids}, torch.full((3,), ids.shape[1]), full=True)
            full, blind = log_probabilities(whole, now), log_probabilities(whole, now, "image")
            ids = torch.cat([ids, (blind + 4 * (full - blind)).argmax(-1, keepdim=True)], 1)
    assert written == ids[:, 2:].tolist()


@models
def test_a_scale_of_one_is_off(make: Any) -> None:
    whole = make()

    def write(**guidance: float) -> list[list[int]]:
        generator = torch.Generator().manual_seed(0)
        keys: dict[str, Any] = {"max_new_tokens": 6, "sampling": Sampling(), "generator": generator}
        return generate(whole, scores(whole), batch(), "text", guidance=guidance, **keys)

    assert write(image=1.0, audio=1) == write()
    assert write(image=5.0, audio=1.0) == write(image=5.0) != write()


@torch.no_grad()
def test_an_id_that_is_never_written_stays_out() -> None:
    whole = prefix()

    def without_three(hidden: Tensor) -> Tensor:
        return scores(whole)(hidden).index_fill(-1, torch.tensor([3]), -math.inf)

    room: dict[str, Any] = {"start": 2, "stop": 6, "cache": True}
    found = Guided(whole, without_three, batch(), "text", scales={"image": 2.0}, **room).scores()
    assert (found[:, 3] == -math.inf).all()
    assert found.isfinite().sum() == found.numel() - 3


@pytest.mark.parametrize(
    ("guidance", "message"),
    [
        ({"radar": 2.0}, "guidance.radar=2.0 names nothing that 'text' is written from .* image, audio beside it"),
        ({"text": 2.0}, "guidance.text=2.0 names nothing"),
        ({"image": -1.0}, "guidance.image=-1.0 must be a number, at least 0, and finite; 1 is off"),
        ({"image": math.nan}, "guidance.image=nan must be a number"),
    ],
)
def test_guidance_that_cannot_be_is_refused(guidance: Any, message: str) -> None:
    with pytest.raises(InvalidValue, match=message):
        generate(prefix(), lambda hidden: hidden, batch(), "text", max_new_tokens=1, guidance=guidance)
