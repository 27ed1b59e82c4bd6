"""The pattern of kinds of layers, and what each kind has of its own."""

from __future__ import annotations

import pytest
import torch
from builders import KINDS, attention, backbone, mlp, model, text, text_batch
from torch import nn

from mmtx.errors import InvalidValue
from mmtx.nn.gru import GRU
from mmtx.nn.layer_kind import LayerKind, letters_of, windows_of
from mmtx.nn.no_feed_forward import NoFeedForward


def windows(layers: str, window: int | None = 8, **kinds: LayerKind) -> list[int | None]:
    known = {**KINDS, **kinds}
    return windows_of(letters_of(layers, 5, known), window, known)


@pytest.mark.parametrize(
    ("layers", "expected"),
    [
        ("L", [8] * 5),
        ("G", [None] * 5),
        ("LLG", [8, 8, None, 8, 8]),
        ("MG", [3, None, 3, None, 3]),
        ("GGGGGL", [None] * 5),
    ],
)
def test_windows_follow_the_pattern(layers: str, expected: list[int | None]) -> None:
    assert windows(layers, M=LayerKind(window=3)) == expected


@pytest.mark.parametrize(
    ("layers", "window", "message"),
    [
        ("LG", None, "window=None must be given for the layers of kind L"),
        ("LG", 0, "window=0 must be at least 1"),
        ("Z", 8, "kinds.Z.window=0 must be at least 1"),
        ("", 8, "layers= names no kind of layer"),
        ("LX", 8, "layers=LX names X, which is not in kinds; nearest: letters of G, L, Z"),
        ("lg", 8, "layers=lg names l"),
    ],
)
def test_what_cannot_be_is_refused(layers: str, window: int | None, message: str) -> None:
    with pytest.raises(InvalidValue, match=message):
        windows(layers, window, Z=LayerKind(window=0))


def test_a_kind_goes_by_one_letter() -> None:
    with pytest.raises(InvalidValue, match="kinds=RNN is not one letter"):
        windows("G", RNN=LayerKind())


def test_a_kind_has_parts_of_its_own_and_the_others_of_the_stack() -> None:
    """Heads of two widths are rotated by tables of their own: as if each layer stood in a stack that is all alike."""
    kinds = {**KINDS, "W": LayerKind(mixer=attention(head_dim=6), mlp=mlp(expansion=4.0))}
    body = backbone(layers="GW", kinds=kinds)
    assert [block.attention.head_dim for block in body.blocks] == [12, 6]
    assert [block.mlp.down.in_features for block in body.blocks] == [48, 96]
    assert body.mixer_keys == ["attention", "kinds.W.mixer"]


def test_what_a_mixer_refuses_is_named_where_it_stands() -> None:
    with pytest.raises(InvalidValue, match=r"^kinds.G.mixer.num_kv_heads=3 does not divide num_heads=2"):
        backbone(kinds={"G": LayerKind(mixer=attention(num_kv_heads=3))})
    with pytest.raises(InvalidValue, match=r"^attention.num_kv_heads=3 does not divide num_heads=2"):
        backbone(attention=attention(num_kv_heads=3))


def test_recurrences_without_residuals_norms_and_feed_forwards_are_layers_of_torch() -> None:
    """As networks were stacked before residual connections."""
    kinds = {"R": LayerKind(mixer=GRU, residual=False)}
    bare = {"norm": nn.Identity, "mlp": NoFeedForward, "num_layers": 3}
    body = backbone(layers="R", kinds=kinds, init_std=0.1, **bare)
    theirs = nn.GRU(24, 24, num_layers=3, batch_first=True)
    owns = [block.mixer.gru.state_dict() for block in body.blocks]
    theirs.load_state_dict({k.replace("l0", f"l{i}"): v for i, own in enumerate(owns) for k, v in own.items()})
    batch = text_batch([6, 6])
    token_set = model({"text": text()}, body).tokenize(batch)
    x = token_set.content + token_set.place
    torch.testing.assert_close(body(x, token_set.connectivity), theirs(x)[0], atol=1e-5, rtol=1e-5)


def test_no_mixer_is_skipped_that_has_no_residual() -> None:
    kinds = {"G": LayerKind(), "R": LayerKind(residual=False)}
    with pytest.raises(InvalidValue, match=r"drop_path=0.1 skips a mixer to its residual, which kinds.R lacks"):
        backbone(layers="GR", kinds=kinds, drop_path=0.1)


@pytest.mark.parametrize("made_by", ["attention", "kinds"])
def test_what_is_no_mixer_is_refused(made_by: str) -> None:
    linear = lambda dim, num_heads: nn.Linear(dim, dim)  # noqa: E731
    changes = {"attention": linear} if made_by == "attention" else {"kinds": {"G": LayerKind(mixer=linear)}}
    with pytest.raises(InvalidValue, match=r"(attention|kinds.G.mixer)=Linear is no mixer"):
        backbone(**changes)
