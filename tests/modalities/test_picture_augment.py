"""Augmentation of pictures on the device, against torchvision's operations on single pictures."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from builders import image, image_spec, model, pictures_spec
from torch import Tensor
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2 import functional as reference

from mmtx.batch import Batch
from mmtx.data.seeding import block_generator
from mmtx.errors import InvalidValue
from mmtx.learner import Learner
from mmtx.modalities import picture_operations
from mmtx.modalities.picture_augment import ANGLE, GEOMETRY, SHEAR, TRANSLATION, PictureAugment, _geometry, _resampled

STRENGTHS = [-1.0, -0.6, 0.0, 0.3, 0.9]


def made(**changes: Any) -> PictureAugment:
    return PictureAugment(**{"mirror": 0.0, "shift": 0, "operations": 0, "strength": 1.0, **changes})


def pictures(count: int, channels: int = 3, size: int = 16) -> Tensor:
    """As bytes; blocks of four pixels, so that colours are seldom extreme."""
    generator = torch.Generator().manual_seed(0)
    small = torch.randint(20, 230, (count, channels, size // 4, size // 4), generator=generator, dtype=torch.uint8)
    return small.repeat_interleave(4, -1).repeat_interleave(4, -2)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


COLOURS = {
    "brightness": lambda x, m: reference.adjust_brightness(x, 1 + 0.9 * m),
    "contrast": lambda x, m: reference.adjust_contrast(x, 1 + 0.9 * m),
    "colour": lambda x, m: reference.adjust_saturation(x, 1 + 0.9 * m),
    "sharpness": lambda x, m: reference.adjust_sharpness(x, 1 + 0.9 * m),
    "posterise": lambda x, m: reference.posterize(x, 8 - round(4 * abs(m))),
    "solarise": lambda x, m: reference.solarize(x, 255 * (1 - abs(m))),
    "autocontrast": lambda x, m: reference.autocontrast(x),
}


@pytest.mark.parametrize("name", COLOURS)
def test_colours_are_torchvisions(name: str) -> None:
    """Of bytes, which it rounds; a strength for each picture."""
    pixels, strength = pictures(len(STRENGTHS)), torch.tensor(STRENGTHS)[:, None, None, None]
    found = getattr(picture_operations, name)(pixels / 255, strength) * 255
    expected = torch.stack([COLOURS[name](x, m) for x, m in zip(pixels, STRENGTHS, strict=True)])
    torch.testing.assert_close(found, expected.float(), atol=2.0, rtol=0)
    assert {operation.__name__ for operation in picture_operations.OPERATIONS} == set(COLOURS)


@pytest.mark.parametrize("name", GEOMETRY)
def test_geometry_is_torchvisions(name: str) -> None:
    """Which says where a picture is moved, and ours where it is read: translations have the other sign."""
    pixels, strength = pictures(len(STRENGTHS)) / 255, torch.tensor(STRENGTHS)
    choice = torch.full((len(STRENGTHS),), 1 + GEOMETRY.index(name))
    found = _resampled(pixels, _geometry(choice, strength))
    far = TRANSLATION * pixels.shape[-1]
    for picture, moved, m in zip(pixels, found, STRENGTHS, strict=True):
        keys: dict[str, Any] = {"angle": 0.0, "translate": [0, 0], "scale": 1.0, "shear": [0.0, 0.0]}
        if name == "rotate":
            keys["angle"] = math.degrees(ANGLE * m)
        elif name.startswith("shear"):
            keys["shear"] = [math.degrees(math.atan(SHEAR * m)) * (name[-1] == axis) for axis in "xy"]
        else:
            keys["translate"] = [-far * m * (name[-1] == axis) for axis in "xy"]
        expected = reference.affine(picture, **keys, interpolation=InterpolationMode.BILINEAR)
        torch.testing.assert_close(moved, expected, atol=0.01, rtol=0)


def test_mirroring_and_shifts_are_exact() -> None:
    """Crops of the picture with a black rim, some mirrored: all of them come, and nothing else."""
    pixels = pictures(1, size=8) / 255
    rim = torch.nn.functional.pad(pixels[0], (1, 1, 1, 1))
    crops = [rim[:, y : y + 8, x : x + 8] for y in range(3) for x in range(3)]
    possible = torch.stack(crops + [crop.flip(-1) for crop in crops])
    found = made(mirror=0.5, shift=1)(pixels.expand(400, -1, -1, -1), seeded())
    distance = (found[:, None] - possible[None]).abs().amax((2, 3, 4))
    assert distance.amin(1).max() < 1e-5
    shares = distance.argmin(1).bincount(minlength=18) / 400
    assert shares.min() > 0.02, "each about 1/18"


def test_each_picture_draws_its_own_and_all_from_the_generator() -> None:
    augment, pixels = made(mirror=0.5, shift=2, operations=2), pictures(1).expand(16, -1, -1, -1) / 255
    torch.manual_seed(0)
    one = augment(pixels, seeded())
    torch.manual_seed(1)
    assert augment(pixels, seeded()).equal(one)
    assert not augment(pixels, seeded(1)).equal(one)
    assert len({picture.numpy().tobytes() for picture in one}) == 16
    assert one.min() >= 0 and one.max() <= 1 and one.isfinite().all()
    assert made(operations=3, strength=0.0)(pixels, seeded()).shape == pixels.shape
    assert not made().changes


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_a_batch_of_training_is_augmented_before_objectives_have_it(dtype: torch.dtype) -> None:
    """A block of a step is changed alike on any rank; evaluation changes nothing."""
    spec, augment = image_spec(3, 16, 16, dtype), made(mirror=0.5, operations=2)
    tokenizer = image(spec, augment=augment)
    learner = Learner(model=model({"image": tokenizer}), objectives={}, specs={"image": spec})
    pixels = pictures(6) if dtype == torch.uint8 else pictures(6) / 255
    batch = Batch({"image": {"pixels": pixels}}, {"image": torch.ones(6, dtype=torch.long)})

    def of_block(block: int) -> Tensor:
        generator = block_generator(3, 7, block, torch.device("cpu"))
        return learner._augmented(batch, generator)["image"]["pixels"]

    scale = 255 if dtype == torch.uint8 else 1
    expected = augment(pictures(6) / 255, block_generator(3, 7, 1, torch.device("cpu"))) * scale
    torch.testing.assert_close(of_block(1), expected)
    assert not of_block(2).equal(of_block(1))
    assert learner._augmented(batch, seeded())["image"]["pixels"].dtype == torch.float32
    plain = Learner(model=model({"image": image(spec)}), objectives={}, specs={"image": spec})
    assert plain._augmented(batch, seeded())["image"]["pixels"] is pixels


def test_what_cannot_work_is_refused() -> None:
    with pytest.raises(InvalidValue, match=r"^augment\.mirror=2 must lie in 0\.\.1"):
        made(mirror=2)
    with pytest.raises(InvalidValue, match=r"^augment\.strength=1\.5 must lie in 0\.\.1"):
        made(strength=1.5)
    with pytest.raises(InvalidValue, match=r"^augment\.operations=-1 must be at least 0"):
        made(operations=-1)
    with pytest.raises(InvalidValue, match="^augment=True is for single pictures"):
        image(pictures_spec(), augment=made(shift=1))
