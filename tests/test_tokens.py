"""A set of tokens: spans of its names, packing, and the way back."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from mmtx.token_order import join
from mmtx.tokens import Clock, HiddenStates, Span, Tokens, TokenSet, pack, split


def tokens(length: int, lengths: list[int], *, summaries: int = 0, registers: int = 0, columns: int = 1) -> Tokens:
    """One item of `length` tokens, prefix tokens included."""
    generator = torch.Generator().manual_seed(length)
    return Tokens(
        content=torch.randn(len(lengths), length, 3, generator=generator),
        coordinates=torch.arange(length * columns).view(length, columns),
        time=torch.zeros(1, length, dtype=torch.long),
        lengths=torch.tensor(lengths),
        num_items=1,
        full=all(count == length for count in lengths),
        num_summaries=summaries,
        num_registers=registers,
    )


def joined(groups: dict[str, Tokens], place: dict[str, Tensor] | None = None) -> TokenSet:
    places = place or {name: torch.ones(1, group.content.shape[1], 3) for name, group in groups.items()}
    return join(groups, places, {name: name for name in groups})


def packed(token_set: TokenSet, *lengths: int) -> TokenSet:
    return pack(replace(token_set, lengths=lengths))


@pytest.fixture
def picture_and_words() -> dict[str, Tokens]:
    return {"image": tokens(5, [5, 0], summaries=1, registers=2, columns=2), "text": tokens(3, [3, 2])}


def test_tokens_stand_name_after_name(picture_and_words: dict[str, Tokens]) -> None:
    token_set = joined(picture_and_words)
    assert dict(token_set.spans) == {"image": Span(0, 5, 1, 2), "text": Span(5, 8, 0, 0)}
    assert token_set.content.equal(torch.cat([group.content for group in picture_and_words.values()], dim=1))
    assert token_set.place.shape == (1, 8, 3)
    assert token_set.connectivity.valid.tolist() == [[True] * 8, [False] * 5 + [True, True, False]]


def test_places_of_unequal_batch_axes_are_joined(picture_and_words: dict[str, Tokens]) -> None:
    """One modality's places may differ from sample to sample while another's are shared."""
    places = {"image": torch.zeros(1, 5, 3), "text": torch.arange(18.0).view(2, 3, 3)}
    token_set = joined(picture_and_words, places)
    assert token_set.place.shape == (2, 8, 3)
    assert token_set.place[:, 5:].equal(places["text"])
    assert not token_set.place[:, :5].any()


def test_coordinates_become_positions(picture_and_words: dict[str, Tokens]) -> None:
    position = joined(picture_and_words).connectivity.position
    assert position[0, :5].tolist() == [[0, 0, 1], [0, 2, 3], [0, 4, 5], [0, 6, 7], [0, 8, 9]]
    assert position[0, 5:].tolist() == [[1, 0, 0], [1, 1, 0], [1, 2, 0]]
    assert position[1, 5:, 0].tolist() == [0, 0, 0], "where the picture is absent, the text begins at once"


def test_with_content_keeps_the_places(picture_and_words: dict[str, Tokens]) -> None:
    token_set = joined(picture_and_words)
    other = token_set.with_content(torch.zeros_like(token_set.content))
    assert not other.content.any()
    assert other.place is token_set.place
    assert other.connectivity is token_set.connectivity


@pytest.mark.parametrize("in_a_packed_row", [False, True])
def test_split_reads_names_summaries_and_content(picture_and_words: dict[str, Tokens], in_a_packed_row: bool) -> None:
    token_set = joined(picture_and_words)
    if in_a_packed_row:
        token_set = packed(token_set, 8, 2)
    states = split(token_set.content, token_set.connectivity, token_set.spans)
    image, text = picture_and_words["image"].content, picture_and_words["text"].content
    assert states.summaries("image")[0].equal(image[0, :1])
    assert states.tokens("image")[0].equal(image[0, 3:]), "neither summary nor registers"
    assert states.tokens("text")[1].equal(torch.cat([text[1, :2], torch.zeros(1, 3)]))
    assert states.summaries("text").shape == (2, 0, 3)
    assert not states.hidden[1, :5].any(), "nothing is where there is no token"
    expected = [[False] * 3 + [True] * 5, [False] * 5 + [True, True, False]]
    assert states.content_mask().tolist() == expected
    assert states.valid[0].all(), "reading does not change what is there"


def test_what_is_shared_by_all_samples_stays_one_row() -> None:
    """A full set needs one row of integers for the whole batch, and promises so."""
    connectivity = joined({"image": tokens(4, [4, 4, 4]), "text": tokens(3, [3, 3, 3])}).connectivity
    assert connectivity.order.shape[0] == connectivity.position.shape[0] == connectivity.valid.shape[0] == 1
    assert not connectivity.padded
    assert not connectivity.packed
    states = HiddenStates(
        torch.zeros(3, 7, 3), connectivity.valid, {"image": Span(0, 4, 1, 0), "text": Span(4, 7, 0, 0)}
    )
    assert states.content_mask().tolist() == [[False, True, True, True, True, True, True]]


def test_what_the_host_does_not_know_is_not_packed(picture_and_words: dict[str, Tokens]) -> None:
    token_set = joined(picture_and_words)
    assert pack(token_set) is token_set


def test_packing_keeps_places_and_gradients(picture_and_words: dict[str, Tokens]) -> None:
    """Places that differ within a batch travel with their tokens, and gradients come back the same way."""
    place = {"image": torch.randn(2, 5, 3), "text": torch.randn(1, 3, 3, requires_grad=True)}
    token_set = joined(picture_and_words, place)
    row = packed(token_set, 8, 2)
    assert row.content.shape == (1, 10, 3)
    assert row.place[0, 8:].equal(token_set.place[1, 5:7])
    assert row.connectivity.segment.tolist() == [[0] * 8 + [1] * 2]
    assert not row.connectivity.padded
    weight = torch.arange(1.0, 11.0)[None, :, None]
    (row.place * weight).sum().backward()
    grad = place["text"].grad
    assert grad is not None
    assert grad[0, :, 0].tolist() == [6 + 9, 7 + 10, 8], "padding gets no gradient"


def test_where_nobody_has_anything_a_token_of_padding_is_a_row() -> None:
    row = packed(joined({"text": tokens(3, [0, 0])}), 0, 0)
    assert row.content.shape == (1, 1, 3)
    assert not row.connectivity.valid.any()
    assert row.connectivity.packing is not None
    assert row.connectivity.packing.segment_lengths == (0, 0, 1)
    states = split(row.content, row.connectivity, row.spans)
    assert states.hidden.shape == (2, 3, 3)
    assert not states.hidden.any()


def test_clocks_that_are_not_listed_break_ties_by_place() -> None:
    groups = {"a": tokens(1, [1]), "b": tokens(1, [1])}
    place = {name: torch.zeros(1, 1, 3) for name in groups}
    clock_of = dict.fromkeys(groups, "frame")
    assert join(groups, place, clock_of).connectivity.dense()[0].tolist() == [[True, False], [True, True]]
    mutual = join(groups, place, clock_of, {"frame": Clock(mutual=True)})
    assert mutual.connectivity.dense()[0].tolist() == [[True, True], [True, True]]
