"""Codes of a picture: one token per id."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from builders import Letters, text_spec
from contracts import check_tokenizer
from small_codec import small_codes

from mmtx.batch import Spec
from mmtx.data.specs import text_spec as spec_of
from mmtx.modalities.codes import Codes


def made(causal: bool = True, spec: Spec | None = None) -> Codes:
    torch.manual_seed(0)
    vocabulary = small_codes()
    return Codes(spec=spec or spec_of(vocabulary, vocabulary.num_tokens), dim=12, clock=None, causal=causal)


@pytest.mark.parametrize("causal", [True, False])
def test_contract(causal: bool) -> None:
    check_tokenizer(made(causal))


def test_tokens_are_turned_back_into_ids_and_pictures() -> None:
    tokenizer = made()
    ids = torch.cat([torch.full((2, 1), 9), torch.randint(9, (2, 16))], dim=1)
    inverted = tokenizer.invert(tokenizer({"ids": ids}, torch.full((2,), 17), True))
    assert inverted["ids"].equal(ids) and inverted["pixels"].equal(small_codes().pixels(ids[:, 1:]))


class Axes:
    """Keeps what is drawn."""

    shown: Any = None

    def imshow(self, picture: Any, **_: Any) -> None:
        self.shown = torch.as_tensor(picture)

    def set(self, **_: Any) -> None: ...


def test_the_picture_is_drawn_where_it_is_whole() -> None:
    tokenizer, axes = made(), Axes()
    ids = torch.cat([torch.tensor([9]), torch.randint(9, (16,))])
    tokenizer.draw(axes, {"ids": ids}, 5)
    assert axes.shown is None
    tokenizer.draw(axes, {"ids": ids}, 17)
    assert axes.shown.equal(small_codes().pixels(ids[None, 1:])[0, 0])


def test_a_text_is_refused() -> None:
    with pytest.raises(ValueError, match="reads codes of pictures"):
        made(spec=text_spec(vocabulary=Letters()))
