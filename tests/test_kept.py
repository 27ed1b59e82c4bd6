"""A set without some of its tokens: what is kept attends as if the others were padding."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from builders import (
    POSITIONS,
    audio,
    audio_batch,
    backbone,
    image,
    image_batch,
    merge,
    model,
    series,
    series_spec,
    steps_batch,
    text,
    text_batch,
)
from torch import Tensor

from mmtx.attention.rule import Pattern
from mmtx.kept import keep
from mmtx.tokens import TokenSet

SETS: dict[str, tuple[dict[str, Any], Any]] = {
    "picture": ({"image": image(summary=True, num_registers=1)}, image_batch([1, 1, 1])),
    "absent": ({"image": image(summary=True)}, image_batch([1, 0, 1])),
    "series": ({"state": series()}, steps_batch({"state": series_spec()}, [5, 2, 3])),
    "sound": ({"audio": audio()}, audio_batch([128, 40, 90])),
    "caption": ({"image": image(), "text": text()}, merge(image_batch([1, 1, 1]), text_batch([8, 3, 5]))),
}


def masked_as_padding(token_set: TokenSet, gone: Tensor) -> TokenSet:
    """The whole set, of which some tokens are declared invalid: the same rule, computed otherwise."""
    connectivity = token_set.connectivity
    valid = connectivity.valid & ~gone
    return replace(token_set, connectivity=replace(connectivity, valid=valid, padded=True, pattern=Pattern.MIXED))


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("positions", ["learned", "rotary"])
@pytest.mark.parametrize("kind", SETS)
def test_as_if_the_others_were_padding(kind: str, positions: str, packed: bool) -> None:
    tokenizers, batch = SETS[kind]
    whole_model = model(tokenizers, backbone(positions=POSITIONS[positions]))
    name = next(iter(tokenizers))
    whole = whole_model.tokenize(batch.packed() if packed else batch)
    span, valid = whole.spans[name], whole.connectivity.valid.expand(3, -1)
    count = span.stop - span.content_start
    drawn = torch.rand(3, count, generator=torch.Generator().manual_seed(0)).argsort(1)
    masked = (drawn >= 2) & valid[:, span.content_start : span.stop]
    most = min(2, count)
    kept = keep(whole, {name: masked}, {name: most})
    gone = torch.zeros(3, whole.content.shape[1], dtype=torch.bool)
    gone[:, span.content_start : span.stop] = masked

    whole = whole_model.tokenize(batch)
    expected = whole_model.run(masked_as_padding(whole, gone)).hidden
    actual = whole_model.run(kept.token_set).hidden
    rows = torch.arange(3)[:, None]
    assert actual.shape[1] == whole.content.shape[1] - count + most
    assert kept.real.sum() == (valid & ~gone).sum(), "all that is real and not masked is there, once"
    torch.testing.assert_close(actual[kept.real], expected[rows, kept.columns][kept.real], atol=1e-5, rtol=1e-5)
    restored = kept.spread(actual, torch.full((24,), 7.0), whole.content.shape[1])
    assert (restored[gone] == 7.0).all()
    torch.testing.assert_close(restored[valid & ~gone], expected[valid & ~gone], atol=1e-5, rtol=1e-5)
