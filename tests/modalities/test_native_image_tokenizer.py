"""Pictures that keep their shape."""

from __future__ import annotations

from typing import Any

import numpy
import pytest
import torch
import torch.nn.functional as F
from builders import backbone, model
from contracts import check_tokenizer
from PIL import Image

from mmtx.batch import Field, Spec
from mmtx.data.collate import collate
from mmtx.data.image.native_fit import NativeFit
from mmtx.errors import InvalidValue
from mmtx.modalities.native_image import NativeImage

FIT = NativeFit(patch_size=2, max_patches=12)


def native(channels: int = 3, **changes: Any) -> NativeImage:
    torch.manual_seed(0)
    keys = {"patch_size": 2, "side": 5, "mean": 0.5, "std": [0.5, 0.25, 1.0][:channels], **changes}
    return NativeImage(spec=FIT.spec(channels), dim=24, clock=None, **keys)


def test_contract() -> None:
    check_tokenizer(native())


@pytest.mark.parametrize("grid", [(7, 1), (1, 7), (40, 1), (1, 1), (3, 4)], ids=str)
def test_positions_are_those_that_pillow_resizes(grid: tuple[int, int]) -> None:
    """Pictures of one column too, whose rows torch's `interpolate` makes all alike."""
    made = native()
    found = made.positions(torch.tensor([grid]), grid[0] * grid[1])[0]
    for channel, plane in enumerate(made.table.detach().T.unflatten(1, (5, 5))):
        resized = Image.fromarray(plane.numpy()).resize(grid[::-1], Image.Resampling.BILINEAR)
        expected = torch.tensor(numpy.array(resized)).flatten()
        torch.testing.assert_close(found[:, channel].detach(), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("side", [5, 16])
def test_positions_are_those_that_torch_interpolates(side: int) -> None:
    """Smaller, larger, of one row, and of the table's own size."""
    grids, count = [(2, 3), (7, 16), (1, 20), (16, 16), (5, 5), (40, 2)], 256
    made = native(side=side)
    found = made.positions(torch.tensor(grids), count)
    plane = made.table.T.unflatten(1, (side, side))[None]
    for row, grid in enumerate(grids):
        expected = F.interpolate(plane, size=grid, mode="bilinear", align_corners=False, antialias=True)[0].flatten(1)
        torch.testing.assert_close(found[row, : grid[0] * grid[1]], expected.T, atol=1e-6, rtol=1e-5)


def test_patches_are_a_convolution_of_the_picture() -> None:
    made, pixels = native(), torch.randint(0, 256, (3, 4, 6), dtype=torch.uint8)
    fields = {key: value[None] for key, value in FIT.fields(pixels).items()}
    assert fields["grid"].tolist() == [[2, 3]]
    tokens = made(fields, torch.tensor([6]), True)
    weight = made.projection.weight.unflatten(1, (2, 2, 3)).permute(0, 3, 1, 2)
    normal = (pixels / 255 - 0.5) / made.std[:, None, None]
    expected = F.conv2d(normal[None], weight, made.projection.bias, stride=2).flatten(2).transpose(1, 2)
    torch.testing.assert_close(tokens.content - made.positions(fields["grid"], 6), expected, atol=1e-5, rtol=1e-5)


def test_padded_packed_and_alone() -> None:
    whole = model({"image": native()}, backbone()).double()
    shapes = [(4, 6), (2, 2), (8, 2)]
    samples = [{"image": FIT.fields(torch.randint(0, 256, (3, *shape), dtype=torch.uint8))} for shape in shapes]
    batch = collate(samples, {"image": FIT.spec(3)})
    padded, packed = whole(batch).tokens("image"), whole(batch.packed()).tokens("image")
    torch.testing.assert_close(padded, packed, atol=1e-12, rtol=0)
    for row, sample in enumerate(samples):
        alone = whole(collate([sample], {"image": FIT.spec(3)})).tokens("image")[0]
        torch.testing.assert_close(alone, padded[row, : len(alone)], atol=1e-12, rtol=0)


def test_what_cannot_be() -> None:
    with pytest.raises(ValueError, match="patches of 4 x 4 pixels; the data's have 12 values"):
        native(patch_size=4)
    with pytest.raises(InvalidValue, match="side=0 must be at least 1"):
        native(side=0)
    pixels = Spec({"pixels": Field((3, 8, 8), torch.uint8)})
    with pytest.raises(ValueError, match="reads the field 'patches'; the data offers pixels"):
        NativeImage(spec=pixels, dim=24, clock=None, patch_size=2, side=5, mean=0.5, std=0.5)
    with pytest.raises(InvalidValue, match="fit.max_patches=3 is too few for a picture of 100000000 x 1"):
        NativeFit(patch_size=2, max_patches=3).grid(100_000_000, 1)
