"""The network from pictures to codes and back, and how it is stored."""

from pathlib import Path

import pytest
import torch

from mmtx.codes.fsq import FSQ
from mmtx.codes.picture_codec import PictureCodec
from mmtx.codes.quantiser import Quantiser
from mmtx.codes.stored_codec import as_text, codec_bytes, from_text, read_codec
from mmtx.codes.vq import VQ
from mmtx.errors import InvalidValue


def quantiser(kind: str) -> Quantiser:
    if kind == "fsq":
        return FSQ(levels=[4, 3])
    return VQ(dim=2, num_codes=7, decay=0.9, commitment=0.25, dead_below=0.1)


def codec(kind: str = "vq", **changed: object) -> PictureCodec:
    torch.manual_seed(0)
    keys = {"shape": (1, 8, 4), "scale": 255.0, "patch_size": 2, "width": 6, **changed}
    return PictureCodec(**keys, quantiser=quantiser(kind))


def pictures() -> torch.Tensor:
    return torch.randint(256, (3, 1, 8, 4), dtype=torch.uint8)


@pytest.mark.parametrize("kind", ["vq", "fsq"])
def test_a_code_for_each_patch_and_pictures_from_them(kind: str) -> None:
    made = codec(kind)
    ids, decoded = made.ids(pictures()), made(pictures())
    assert ids.shape == (3, 8) and int(ids.max()) < made.quantiser.num_codes
    assert made.ids(pictures()).shape == (3, made.num_tokens) and decoded.pixels.shape == decoded.truth.shape
    drawn = made.pixels(ids)
    assert drawn.dtype == torch.uint8 and drawn.shape == (3, 1, 8, 4)


@pytest.mark.parametrize("kind", ["vq", "fsq"])
def test_pictures_are_those_that_training_decodes(kind: str) -> None:
    made, given = codec(kind), pictures()
    decoded = made(given)
    expected = (decoded.pixels.clamp(0, 1) * 255).round().to(torch.uint8)
    assert made.ids(given).equal(decoded.quantised.ids) and made.pixels(decoded.quantised.ids).equal(expected)


@pytest.mark.parametrize("kind", ["vq", "fsq"])
def test_stored_and_read_it_gives_the_same(kind: str, tmp_path: Path) -> None:
    made, given, file = codec(kind), pictures(), tmp_path / "codes.safetensors"
    file.write_bytes(codec_bytes(made))
    for again in (read_codec(str(file)), from_text(as_text(made))):
        ids = made.ids(given)
        assert again.ids(given).equal(ids) and again.pixels(ids).equal(made.pixels(ids))
        assert not any(parameter.requires_grad for parameter in again.parameters())


def test_a_file_of_something_else_is_refused(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    (tmp_path / "text").write_text("no codes")
    save_file({"a": torch.zeros(1)}, tmp_path / "other")
    (tmp_path / "cut").write_bytes(codec_bytes(codec())[:-8])
    for name in ("text", "other", "cut"):
        with pytest.raises(InvalidValue, match="holds no codes of pictures"):
            read_codec(str(tmp_path / name))
    with pytest.raises(InvalidValue, match="is no file"):
        read_codec(str(tmp_path / "absent"))


def test_patches_that_do_not_fit_are_refused() -> None:
    with pytest.raises(InvalidValue, match="patch_size=3 does not divide the picture of 8 x 4"):
        codec(patch_size=3)
