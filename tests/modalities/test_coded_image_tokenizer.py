"""Images whose codes are learnt: one token per code."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from builders import image_spec
from contracts import check_tokenizer

from mmtx.batch import Field, Spec
from mmtx.codes.fsq import FSQ
from mmtx.codes.quantiser import Quantiser
from mmtx.codes.vq import VQ
from mmtx.errors import InvalidValue
from mmtx.modalities.coded_image import CodedImage

KINDS = ["vq", "fsq"]


def quantiser(kind: str) -> Quantiser:
    vq = {"dim": 3, "num_codes": 6, "decay": 0.9, "commitment": 0.25, "dead_below": 0.5}
    return VQ(**vq) if kind == "vq" else FSQ(levels=[3, 4])


def made(kind: str = "vq", spec: Spec | None = None, **changes: Any) -> CodedImage:
    torch.manual_seed(0)
    keys: dict[str, Any] = {"dim": 8, "clock": None, "patch_size": 4, "width": 5, **changes}
    tokenizer = CodedImage(spec=spec or image_spec(), quantiser=quantiser(kind), **keys)
    tokenizer.codec.encoder[-1].weight.data.mul_(20)  # so that pictures have several codes
    return tokenizer


@pytest.mark.parametrize("spec", [image_spec(), image_spec(3, 8, 12, torch.float32)])
@pytest.mark.parametrize("kind", KINDS)
def test_contract(kind: str, spec: Spec) -> None:
    check_tokenizer(made(kind, spec), apart="codec.decoder.")


@pytest.mark.parametrize("kind", KINDS)
def test_tokens_are_turned_back_into_what_is_decoded(kind: str) -> None:
    tokenizer, pixels = made(kind), torch.randint(256, (3, 1, 8, 8), dtype=torch.uint8)
    present = torch.ones(3, dtype=torch.long)
    with torch.no_grad():
        tokens = tokenizer({"pixels": pixels}, present, True)
        decoded = tokenizer.through_codes({"pixels": pixels}, present > 0).decoded
        inverted = tokenizer.invert(tokens)["pixels"]
    assert inverted.equal((decoded.clamp(0, 1) * 255).round().to(torch.uint8))
    assert tokens.content.shape == (3, 4, 8) and tokens.coordinates.tolist() == [[0, 0], [0, 1], [1, 0], [1, 1]]


@pytest.mark.parametrize(
    ("spec", "changes", "problem"),
    [
        (image_spec(), {"patch_size": 3}, "patch_size=3 does not divide the picture of 8 x 8"),
        (image_spec(), {"width": 0}, "width=0 must be at least 1"),
    ],
)
def test_what_cannot_be_is_refused(spec: Spec, changes: dict[str, Any], problem: str) -> None:
    with pytest.raises(InvalidValue, match=problem):
        made(spec=spec, **changes)


def test_pictures_of_every_step_are_refused() -> None:
    with pytest.raises(ValueError, match="reads pixels of shape"):
        made(spec=Spec({"pixels": Field((None, 1, 8, 8), torch.uint8, max_length=4)}))
