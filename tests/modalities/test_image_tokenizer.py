"""Images: one token per patch."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from builders import POSITIONS, backbone, image, image_spec, model, pictures_spec, steps_batch
from contracts import check_tokenizer
from torch import nn

from mmtx.batch import Field, Spec, fake_batch
from mmtx.errors import InvalidValue
from mmtx.modalities.image import Image


def made(spec: Spec | None = None, **changes: Any) -> Image:
    torch.manual_seed(0)
    return image(spec or image_spec(), dim=6, **changes)


@pytest.mark.parametrize(
    ("spec", "changes"),
    [
        (image_spec(), {}),
        (image_spec(3, 8, 12), {"summary": True}),
        (image_spec(2, 4, 8, torch.float32), {"summary": True, "num_registers": 3}),
        (image_spec(1, 4, 4), {"num_registers": 1}),
        (pictures_spec(), {}),
        (pictures_spec(3, 4, 8, dtype=torch.float32, num_times=None), {}),
        (pictures_spec(2, 4, 4, max_length=3), {}),
    ],
)
def test_contract(spec: Spec, changes: dict[str, Any]) -> None:
    check_tokenizer(made(spec, **changes))


def test_patches_equal_a_convolution() -> None:
    """With the weights as they are, row by row."""
    spec = image_spec(3, 8, 12, torch.float32)
    tokenizer = made(spec, mean=[0.1, 0.2, 0.3], std=[0.5, 1.0, 2.0])
    pixels = torch.rand(2, 3, 8, 12)
    conv = nn.Conv2d(3, 6, kernel_size=4, stride=4)
    with torch.no_grad():
        conv.weight.copy_(tokenizer.projection.weight.view_as(conv.weight))
        conv.bias.copy_(tokenizer.projection.bias)
    mean, std = torch.tensor([0.1, 0.2, 0.3])[:, None, None], torch.tensor([0.5, 1.0, 2.0])[:, None, None]
    expected = conv((pixels - mean) / std).flatten(2).transpose(1, 2)
    tokens = tokenizer({"pixels": pixels}, torch.tensor([1, 1]), True)
    torch.testing.assert_close(tokens.content, expected)
    assert tokens.coordinates.tolist() == [[0, 0], [0, 1], [0, 2], [1, 0], [1, 1], [1, 2]]
    assert tokenizer.extent == (2, 3)


def test_bytes_equal_fractions() -> None:
    pixels = torch.randint(0, 256, (2, 1, 8, 8), dtype=torch.uint8)
    as_bytes, as_floats = made(), made(image_spec(dtype=torch.float32))
    present = torch.tensor([1, 1])
    torch.testing.assert_close(
        as_bytes({"pixels": pixels}, present, True).content,
        as_floats({"pixels": pixels / 255}, present, True).content,
    )


def test_prefix_tokens_stand_in_front() -> None:
    tokenizer = made(summary=True, num_registers=2)
    tokens = tokenizer({"pixels": torch.zeros(3, 1, 8, 8, dtype=torch.uint8)}, torch.tensor([1, 0, 1]), False)
    assert tokenizer.max_tokens == tokens.content.shape[1] == 7
    assert (tokens.num_summaries, tokens.num_registers, tokens.num_prefix_tokens) == (1, 2, 3)
    assert tokenizer.readouts is not None
    assert tokens.content[:, :3].equal(tokenizer.readouts.expand(3, -1, -1))
    assert tokens.lengths.tolist() == [7, 0, 7]
    assert not tokens.time.any()
    assert tokens.num_items == 1, "a picture is one item"
    assert made().readouts is None


def test_places_that_count_from_the_middle() -> None:
    tokenizer = made(image_spec(1, 12, 8), summary=True, num_registers=1, centred=True)
    tokens = tokenizer({"pixels": torch.zeros(1, 1, 12, 8, dtype=torch.uint8)}, torch.tensor([1]), True)
    patches = [[row, column] for row in (-2, 0, 2) for column in (-1, 1)]
    assert tokens.coordinates.tolist() == [[0, 0], [0, 0], *patches]
    with pytest.raises(InvalidValue, match=r"modality.image.centred=True counts places from the middle"):
        model({"image": tokenizer}, backbone(dim=tokenizer.dim, positions=POSITIONS["learned"]))


@pytest.mark.parametrize("num_times", [20, None])
def test_a_picture_of_every_step_is_each_picture_by_itself(num_times: int | None) -> None:
    """Step after step, at the times that the sample brings, or counted."""
    single, steps = made(image_spec(3, 8, 12)), made(pictures_spec(3, 8, 12, num_times=num_times))
    batch = steps_batch({"name": steps.spec}, [3, 2], [4, 9])
    tokens = steps(batch["name"], batch.lengths["name"], batch.full["name"])
    pixels, one = batch["name"]["pixels"], torch.ones(2, dtype=torch.long)
    alone = [single({"pixels": pixels[:, step]}, one, True) for step in range(3)]
    torch.testing.assert_close(tokens.content, torch.cat([each.content for each in alone], 1))
    assert tokens.coordinates.equal(torch.cat([each.coordinates for each in alone]))
    times = [[4, 5, 6], [9, 10, 0]] if num_times else [[0, 1, 2]]
    assert tokens.time.tolist() == [[time for time in own for _ in range(6)] for own in times]
    assert tokens.lengths.tolist() == [18, 12]
    assert (tokens.num_items, steps.max_tokens, steps.extent) == (3, 30, (2, 3))


@pytest.mark.parametrize(
    ("spec", "changes", "message"),
    [
        (image_spec(1, 8, 12), {"patch_size": 3}, "patch_size=3 does not divide the image of 8 x 12; nearest: 2, 4"),
        (image_spec(), {"patch_size": 0}, "patch_size=0 does not divide the image of 8 x 8; nearest: 1, 2"),
        (image_spec(3), {"mean": [0.5, 0.5]}, r"mean=\[0.5, 0.5\] has 2 values for 3 channels"),
        (image_spec(3), {"std": [1.0]}, r"std=\[1.0\] has 1 values for 3 channels"),
        (image_spec(), {"std": 0.0}, "std=0.0 must be above 0"),
        (pictures_spec(), {"summary": True}, "summary=True is for single pictures, not for one of every step"),
        (pictures_spec(), {"num_registers": 2}, "num_registers=2 is for single pictures, not for one of every step"),
        (pictures_spec(1, 8, 12), {"patch_size": 3}, "patch_size=3 does not divide the image of 8 x 12; nearest: 2, 4"),
        (
            Spec({"pixels": Field((None, 8, 8), torch.uint8, max_length=5)}),
            {},
            r"pixels of shape \(C, height, width\); the data's are \(None, 8, 8\)",
        ),
        (
            Spec({"pixels": Field((8, 8), torch.uint8)}),
            {},
            r"pixels of shape \(C, height, width\); the data's are \(8, 8\)",
        ),
        (
            Spec({"ids": Field((3,), torch.long)}),
            {},
            "a tokenizer 'image' reads the field 'pixels'; the data offers ids",
        ),
    ],
)
def test_what_cannot_work_is_refused(spec: Spec, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message) as refused:
        made(spec, **changes)
    assert changes == {} or isinstance(refused.value, InvalidValue)


@pytest.mark.parametrize(
    ("spec", "changes"),
    [
        (image_spec(), {}),
        (image_spec(3, 8, 12), {"summary": True, "num_registers": 2, "mean": [0.1, 0.2, 0.3], "std": [0.5, 1.0, 2.0]}),
        (pictures_spec(), {}),
    ],
)
def test_tokens_are_turned_back_into_pixels(spec: Spec, changes: dict[str, Any]) -> None:
    """Exactly, where a token is as wide as its patch."""
    batch = fake_batch({"image": spec}, 3)
    tokenizer = image(spec, dim=48, **changes)
    tokens = tokenizer(batch["image"], batch.lengths["image"], batch.full["image"])
    assert tokenizer.invert(tokens)["pixels"].equal(batch["image"]["pixels"])


def test_what_a_narrow_token_holds_is_the_nearest_picture() -> None:
    """That of least squares; pixels that are cut are at the mean."""
    spec = image_spec(1, 9, 8, torch.float32)
    tokenizer, pixels = made(spec, cut=True), torch.rand(2, 1, 9, 8)
    with torch.no_grad():
        tokens = tokenizer({"pixels": pixels}, torch.tensor([1, 1]), True)
        (inverted,) = tokenizer.invert(tokens).values()
        again = tokenizer({"pixels": inverted}, torch.tensor([1, 1]), True)
        weight, content = tokenizer.projection.weight, tokens.content - tokenizer.projection.bias
        expected = torch.linalg.lstsq(weight, content.flatten(0, 1).T).solution.T  # of the least norm
    torch.testing.assert_close(again.content, tokens.content, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(tokenizer.patches((inverted - 0.5) / 0.5).flatten(0, 1), expected, atol=1e-5, rtol=1e-4)
    assert (inverted[:, :, 8:] == 0.5).all()
