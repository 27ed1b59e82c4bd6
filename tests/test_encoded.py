"""A name with an encoder of its own: the contract of tokenizers, and a composition made by hand."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch
from builders import (
    POSITIONS,
    Letters,
    audio,
    backbone,
    image,
    image_batch,
    merge,
    model,
    pictures_spec,
    seq2seq,
    text,
    text_batch,
    text_spec,
)
from contracts import check_tokenizer
from torch import Tensor

from mmtx.encoded import Encoded
from mmtx.errors import InvalidValue
from mmtx.modalities.base import Tokenizer
from mmtx.modalities.capabilities import Augments, Draws
from mmtx.nn.backbone import Backbone
from mmtx.nn.linear_projector import LinearProjector
from mmtx.nn.mlp_projector import MLPProjector
from mmtx.nn.pixel_shuffle import PixelShuffle
from mmtx.nn.resampler import Resampler

WIDTH = 16
PROJECTORS: dict[str, Any] = {
    "linear": LinearProjector,
    "mlp": MLPProjector,
    "pixel_shuffle": partial(PixelShuffle, factor=2),
    "resampler": partial(Resampler, num_queries=3, num_layers=2, num_heads=2),
}
TOKENIZERS: dict[str, Any] = {
    "image": partial(image, patch_size=2),
    "image, read-outs": partial(image, patch_size=2, summary=True, num_registers=1),
    "audio": audio,
    "text": text,
}
CASES = [(a, b) for a in TOKENIZERS for b in PROJECTORS if b != "pixel_shuffle" or a.startswith("image")]


def encoder(**changes: Any) -> Backbone:
    return backbone(seed=7, **{"dim": WIDTH, "positions": POSITIONS["learned"], **changes})


def encoded(tokenizer: Tokenizer, projector: Any = LinearProjector, name: str = "image", **changes: Any) -> Encoded:
    stack = encoder(**changes)
    made = projector(from_dim=WIDTH, dim=24, extent=tokenizer.extent)
    return Encoded(name=name, tokenizer=tokenizer, encoder=stack, projector=made, type_embedding=True)


@pytest.mark.parametrize(("tokenizer", "projector"), CASES)
def test_it_is_a_tokenizer(tokenizer: str, projector: str) -> None:
    check_tokenizer(encoded(TOKENIZERS[tokenizer](dim=WIDTH), PROJECTORS[projector]))


def test_it_draws_and_augments_as_its_tokenizer() -> None:
    assert isinstance(made := encoded(image(dim=WIDTH)), Draws) and isinstance(made, Augments)


def test_moments_are_kept_or_refused() -> None:
    steps = image(pictures_spec(), dim=WIDTH)
    check_tokenizer(encoded(steps))
    with pytest.raises(InvalidValue, match=r"modality.image.projector=PixelShuffle takes a sample of 'image' as one"):
        encoded(steps, PROJECTORS["pixel_shuffle"])


def test_equals_a_composition_by_hand() -> None:
    """The encoder as a model of its own, a product with a matrix, and the decoder with that in the place of patches."""
    batch = merge(image_batch([1, 0, 1]), text_batch([5, 3, 0]))
    whole = model({"image": encoded(image(dim=WIDTH)), "text": text()}).double()
    own = whole.tokenizer("image")
    assert isinstance(own, Encoded) and isinstance(own.projector, LinearProjector)
    alone = model({"image": image(dim=WIDTH)}, encoder()).double()
    alone.tokenizers["image"].load_state_dict(own.tokenizer.state_dict())
    alone.backbone.load_state_dict(own.encoder.state_dict())
    alone.position_embeddings["image"].load_state_dict(own.positions.state_dict())
    alone.type_embeddings["image"].data = own.type_embedding.data
    states = alone(batch).tokens("image") @ own.projector.out.weight.T + own.projector.out.bias
    decoder = model({"image": image(), "text": text()}).double()
    weights = {k: v for k, v in whole.state_dict().items() if not k.startswith("tokenizers.image.")}
    decoder.load_state_dict(decoder.state_dict() | weights)
    token_set = decoder.tokenize(batch)
    content = torch.cat([states, token_set.content[:, states.shape[1] :]], dim=1)
    expected, found = decoder.run(token_set.with_content(content)), whole(batch)
    torch.testing.assert_close(found.tokens("text"), expected.tokens("text"), atol=1e-12, rtol=0)
    torch.testing.assert_close(found.tokens("image"), expected.tokens("image"), atol=1e-12, rtol=0)


@pytest.mark.parametrize("projector", PROJECTORS)
def test_causal_tokens_are_items_of_their_own(projector: str) -> None:
    """By the rule's own loops each attends to those before it; what is behind one changes nothing of it."""
    made = encoded(image(dim=WIDTH, patch_size=2), partial(PROJECTORS[projector], causal=True))
    check_tokenizer(made)
    whole, count = model({"image": made, "text": text()}).double(), made.max_tokens
    token_set = whole.tokenize(merge(image_batch([1, 1]), text_batch([3, 2])))
    allowed = token_set.connectivity.reference()[0, : count + 3, : count + 3]
    assert allowed.equal(torch.ones_like(allowed).tril())
    content = token_set.content.clone()
    content[:, count - 1] += 1
    changed = (whole.run(token_set.with_content(content)).hidden - whole.run(token_set).hidden).abs().amax(2) > 0
    assert not changed[:, : count - 1].any() and changed[:, count - 1 : count + 2].all()


def test_moments_are_no_items_of_one_token() -> None:
    with pytest.raises(InvalidValue, match="takes a sample of 'image' as one"):
        encoded(image(pictures_spec(), dim=WIDTH), partial(LinearProjector, causal=True))


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("projector", PROJECTORS)
def test_packing_and_other_samples_change_nothing(projector: str, causal: bool) -> None:
    batch = merge(image_batch([1, 1, 0, 1]), text_batch([5, 3, 4, 0]))
    chosen = partial(PROJECTORS[projector], causal=causal)
    tokenizers = {"image": encoded(image(dim=WIDTH, patch_size=2), chosen), "text": text()}
    whole = model(tokenizers).double()
    found = whole(batch)
    packed = whole(batch.packed())
    torch.testing.assert_close(found.hidden, packed.hidden, atol=1e-12, rtol=0)
    for row in range(4):
        alone = whole(batch.select(slice(row, row + 1)))
        torch.testing.assert_close(alone.hidden[0], found.hidden[row], atol=1e-12, rtol=0)


@pytest.mark.parametrize("beam_size", [1, 2])
def test_decoding_runs_the_encoder_once(beam_size: int) -> None:
    specs = {"text": text_spec(vocabulary=Letters())}
    whole = model({"image": encoded(image(dim=WIDTH)), "text": text(specs["text"])}).double()
    objective = seq2seq(whole, {**specs, "image": whole.tokenizer("image").spec}, beam_size=beam_size)
    batch, calls = merge(image_batch([1, 1]), text_batch([2, 2])), []
    slow = objective.write(whole, batch, max_new_tokens=4, cache=False)
    whole.stacks["modality.image.encoder"].register_forward_hook(lambda *_: calls.append(1))
    assert objective.write(whole, batch, max_new_tokens=4) == slow
    assert len(calls) == 1


def test_the_decoder_attends_to_it_by_cross_attention() -> None:
    """By a second encoder without layers: the memory is what the projector gives, with its type, normalised."""
    batch = merge(image_batch([1, 0, 1]), text_batch([5, 3, 0]))
    empty, body = backbone(num_layers=0), backbone(cross_attention=True)
    whole = model({"image": encoded(image(dim=WIDTH)), "text": text()}, body, encoder=empty, encode=["image"])
    tokens = whole.tokenizer("image")(batch["image"], batch.lengths["image"], False)
    real = (torch.arange(4) < batch.lengths["image"][:, None] * 4)[..., None]
    memory = empty.final_norm(tokens.content + whole.type_embeddings["image"]) * real
    torch.testing.assert_close(whole(batch).tokens("image"), memory)
    changed = merge(image_batch([1, 0, 1], seed=1), text_batch([5, 3, 0]))
    moved = (whole(changed).tokens("text") - whole(batch).tokens("text")).abs().amax((1, 2))
    assert moved[0] > 0 and moved[1] == 0
    with pytest.raises(InvalidValue, match="num_layers=0 must be at least 1"):
        model({"text": text()}, backbone(num_layers=0))


def test_the_encoder_keeps_the_weights_that_it_has_drawn() -> None:
    fresh, within = encoder(), encoded(image(dim=WIDTH))
    model({"image": within, "text": text()})
    assert all(map(torch.equal, fresh.parameters(), within.encoder.parameters()))
    assert within.type_embedding is not None and within.type_embedding.abs().sum() > 0


def test_pixel_shuffle_lays_squares_side_by_side() -> None:
    """Against loops: of a 4 x 6 grid, a token holds the four patches of its square, row by row."""
    projector = PixelShuffle(from_dim=5, dim=20, extent=(4, 6), factor=2)
    with torch.no_grad():
        projector.out.weight.copy_(torch.eye(20))
    grid = torch.randn(2, 4, 6, 5)
    found = projector(grid.flatten(1, 2), torch.tensor([24, 24]))

    def square(b: int, i: int, j: int) -> Tensor:
        return torch.cat([grid[b, 2 * i + r, 2 * j + c] for r in range(2) for c in range(2)])

    by_loops = torch.stack([torch.stack([square(b, i, j) for i in range(2) for j in range(3)]) for b in range(2)])
    torch.testing.assert_close(found, by_loops)
    with pytest.raises(InvalidValue, match="factor=4 does not divide patches of 4 x 6"):
        PixelShuffle(from_dim=5, dim=20, extent=(4, 6), factor=4)


def test_the_resampler_gives_as_many_tokens_whatever_the_length() -> None:
    projector = Resampler(from_dim=5, dim=8, extent=(9,), num_queries=3, num_layers=1, num_heads=2)
    assert projector.num_tokens(torch.tensor([0, 1, 9])).tolist() == [0, 3, 3]
    order = torch.randperm(9)  # it attends to a set
    hidden, lengths = torch.randn(1, 9, 5), torch.tensor([9])
    torch.testing.assert_close(projector(hidden[:, order], lengths), projector(hidden, lengths))
    with pytest.raises(InvalidValue, match="num_heads=3 does not divide the width of the set, 8"):
        Resampler(from_dim=5, dim=8, extent=(9,), num_queries=3, num_layers=1, num_heads=3)
