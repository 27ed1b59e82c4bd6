"""Codes of a picture: one token per id."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from builders import Letters, text_spec
from contracts import check_tokenizer
from small_codec import small_codec, small_codes, small_film_codec, small_sound_codec

from mmtx.batch import Spec
from mmtx.data.specs import text_spec as spec_of
from mmtx.modalities.codes import Codes

CODECS = {"pictures": small_codec, "films": small_film_codec, "sounds": small_sound_codec}


def made(causal: bool = True, spec: Spec | None = None, coded: str = "pictures") -> Codes:
    torch.manual_seed(0)
    vocabulary = small_codes(CODECS[coded]())
    return Codes(spec=spec or spec_of(vocabulary, vocabulary.num_tokens), dim=12, clock=None, causal=causal)


@pytest.mark.parametrize(("causal", "coded"), [(True, "pictures"), (False, "films"), (True, "sounds")])
def test_contract(causal: bool, coded: str) -> None:
    check_tokenizer(made(causal, coded=coded))


def test_tokens_are_turned_back_into_ids_and_pictures() -> None:
    tokenizer = made()
    ids = torch.cat([torch.full((2, 1), 9), torch.randint(9, (2, 16))], dim=1)
    inverted = tokenizer.invert(tokenizer({"ids": ids}, torch.full((2,), 17), True))
    assert inverted["ids"].equal(ids) and inverted["pixels"].equal(small_codes().decoded(ids[:, 1:]))


@pytest.mark.parametrize("coded", ["films", "sounds"])
def test_films_and_sounds_of_any_length_are_those_of_their_codec(coded: str) -> None:
    """A film of two rows of codes beside one of three; what stands behind the end of either is not read."""
    tokenizer, codec = made(coded=coded), CODECS[coded]()
    row = codec.codes_of_a_row
    ids = torch.cat([torch.full((2, 1), 9), torch.randint(9, (2, 3 * row))], dim=1)
    lengths = torch.tensor([1 + 2 * row, 1 + 3 * row])
    inverted = tokenizer.invert(tokenizer({"ids": ids}, lengths, False))["frames"]
    for index, rows in enumerate((2, 3)):
        (alone,) = codec.values(ids[index : index + 1, 1 : 1 + rows * row])
        torch.testing.assert_close(inverted[index][: len(alone)], alone)


class Axes:
    """Keeps what is drawn."""

    shown: Any = None

    def imshow(self, picture: Any, **_: Any) -> None:
        self.shown = torch.as_tensor(picture)

    def __getattr__(self, _: str) -> Any:
        return lambda *_, **__: None


def test_the_picture_is_drawn_where_it_is_whole() -> None:
    tokenizer, axes = made(), Axes()
    ids = torch.cat([torch.tensor([9]), torch.randint(9, (16,))])
    tokenizer.draw(axes, {"ids": ids}, 5)
    assert axes.shown is None
    tokenizer.draw(axes, {"ids": ids}, 17)
    assert axes.shown.equal(small_codes().decoded(ids[None, 1:])[0, 0])


def test_a_text_is_refused() -> None:
    with pytest.raises(ValueError, match="reads codes of a trained codec"):
        made(spec=text_spec(vocabulary=Letters()))


def test_films_and_sounds_are_drawn_as_far_as_they_go() -> None:
    """A row and a half of a film, two thirds of a sound."""
    axes = Axes()
    made(coded="films").draw(axes, {"ids": torch.cat([torch.tensor([9]), torch.randint(9, (6,))])}, 7)
    assert axes.shown.shape == (8, 2 * 8)
    made(coded="sounds").draw(axes, {"ids": torch.cat([torch.tensor([9]), torch.randint(9, (4,))])}, 5)
    assert axes.shown.shape == (6, 4 * 3)
    axes.shown = None
    made(coded="films").draw(axes, {"ids": torch.tensor([9, 1, 2])}, 3)
    assert axes.shown is None
