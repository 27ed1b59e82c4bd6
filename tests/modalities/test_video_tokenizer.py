"""Video: one token per tubelet."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from builders import POSITIONS, backbone, batch_of, image, image_spec, model, steps_batch, text, text_batch, text_spec
from builders import merge as merged
from contracts import check_tokenizer
from torch import Tensor, nn

from mmtx.batch import Field, Spec, fake_batch
from mmtx.errors import InvalidValue
from mmtx.modalities.video import Video
from mmtx.token_order import join


def video_spec(
    channels: int = 1,
    height: int = 8,
    width: int = 8,
    *,
    dtype: torch.dtype = torch.uint8,
    num_times: int | None = None,
) -> Spec:
    frames = Field((None, channels, height, width), dtype, max_length=5)
    times = {"times": Field((None,), torch.long, num_times, 5, rising=True)} if num_times else {}
    return Spec({"frames": frames, **times})


def made(spec: Spec | None = None, **changes: Any) -> Video:
    torch.manual_seed(0)
    keys = {"dim": 6, "clock": None, "patch_size": 4, "tubelet_frames": 2, "causal": True, "mean": 0.5, "std": 0.5}
    return Video(spec=spec or video_spec(), **{**keys, **changes})


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("tubelet_frames", [1, 2, 3, 7])
@pytest.mark.parametrize("spec", [video_spec(), video_spec(3, 4, 8, dtype=torch.float32)], ids=["grey", "colour"])
def test_contract(spec: Spec, tubelet_frames: int, causal: bool) -> None:
    check_tokenizer(made(spec, tubelet_frames=tubelet_frames, causal=causal))


@pytest.mark.parametrize("tubelet_frames", [1, 2])
def test_contract_of_films_with_times(tubelet_frames: int) -> None:
    check_tokenizer(made(video_spec(num_times=20), tubelet_frames=tubelet_frames))


@pytest.mark.parametrize("tubelet_frames", [1, 2, 3])
def test_numbers_of_the_data_are_those_of_frames_that_are_there(tubelet_frames: int) -> None:
    """Each frame is told by its pixels; one that is there twice is of the data once."""
    tokenizer, lengths = made(tubelet_frames=tubelet_frames), torch.tensor([5, 4, 0, 1])
    frames = torch.arange(1, 6, dtype=torch.uint8)[None, :, None, None, None].expand(4, -1, 1, 8, 8).clone()
    numbers = tokenizer.numbers({"frames": frames}, lengths)
    of_data = tokenizer.of_data(numbers.shape[1], lengths)
    for row, length in enumerate(lengths.tolist()):
        shown = tokenizer.fields_of(numbers)["frames"][row].round().flatten(1)[:, 0].tolist()
        kept = tokenizer.fields_of(of_data.float())["frames"][row].flatten(1)
        there = (kept > 200).all(1).tolist()
        assert [value for value, real in zip(shown, there, strict=True) if real] == [*range(1, length + 1)]
        assert (kept > 200).any(1).tolist() == there


@pytest.mark.parametrize("tubelet_frames", [1, 2])
def test_tubelets_equal_a_convolution(tubelet_frames: int) -> None:
    """With the weights as they are, by time, row and column."""
    tokenizer = made(video_spec(3, 8, 12, dtype=torch.float32), tubelet_frames=tubelet_frames, mean=[0.1, 0.2, 0.3])
    frames, shape = torch.rand(2, 4, 3, 8, 12), (tubelet_frames, 4, 4)
    conv = nn.Conv3d(3, 6, kernel_size=shape, stride=shape)
    with torch.no_grad():
        conv.weight.copy_(tokenizer.projection.weight.view_as(conv.weight))
        conv.bias.copy_(tokenizer.projection.bias)
    scaled = (frames - torch.tensor([0.1, 0.2, 0.3])[:, None, None]) / 0.5
    tokens = tokenizer({"frames": frames}, torch.tensor([4, 4]), False)
    torch.testing.assert_close(tokens.content, conv(scaled.transpose(1, 2)).flatten(2).transpose(1, 2))
    places = [[row, column] for row in range(2) for column in range(3)]
    assert tokens.coordinates.tolist() == places * (4 // tubelet_frames)
    assert tokens.time.tolist() == [[group for group in range(4 // tubelet_frames) for _ in places]]


def test_one_frame_is_the_picture() -> None:
    film, picture = made(video_spec(3), tubelet_frames=1), image(image_spec(3), dim=6)
    picture.load_state_dict(film.state_dict())
    pixels = torch.randint(0, 256, (2, 3, 8, 8), dtype=torch.uint8)
    one = torch.tensor([1, 1])
    ours, theirs = film({"frames": pixels[:, None]}, one, False), picture({"pixels": pixels}, one, True)
    torch.testing.assert_close(ours.content, theirs.content, rtol=0, atol=0)
    assert ours.coordinates.equal(theirs.coordinates) and ours.time.equal(theirs.time)
    assert ours.num_items == theirs.num_items == 1


def test_a_last_tubelet_is_filled_with_the_last_frame() -> None:
    """Of each film, whatever the longest of its batch."""
    tokenizer = made(tubelet_frames=2)
    batch = steps_batch({"name": tokenizer.spec}, [4, 3])
    frames = batch["name"]["frames"]
    filled = frames[1:, [0, 1, 2, 2]]
    tokens = tokenizer(batch["name"], batch.lengths["name"], False)
    whole = tokenizer({"frames": filled}, torch.tensor([4]), False)
    torch.testing.assert_close(tokens.content[1:], whole.content)
    assert tokens.lengths.tolist() == [8, 8]


def test_a_tubelet_has_the_time_of_its_first_frame() -> None:
    tokenizer = made(video_spec(num_times=20))
    batch = steps_batch({"name": tokenizer.spec}, [5, 2], [4, 9])
    tokens = tokenizer(batch["name"], batch.lengths["name"], False)
    assert tokens.time[:, ::4].tolist() == [[4, 6, 8], [9, 0, 0]]
    assert tokenizer.num_times == 20 and made().num_times == 3 and made(causal=False).num_times == 1


def states(frames: Tensor, causal: bool) -> Tensor:
    tokenizer = made(dim=24, causal=causal)
    whole = model({"film": tokenizer}, backbone(dim=24, positions=POSITIONS["rotary"])).eval()
    with torch.no_grad():
        return whole(batch_of({"film": {"frames": frames}}, {"film": [len(film) for film in frames]})).tokens("film")


@pytest.mark.parametrize("causal", [True, False])
def test_a_later_frame_changes_no_earlier_output(causal: bool) -> None:
    """But every output of its own tubelets, and of later ones; where a film is not causal, all."""
    frames = fake_batch({"film": video_spec()}, 2, ragged=False)["film"]["frames"]
    changed = frames.clone()
    changed[:, 3, :, :4, :4] = 255 - changed[:, 3, :, :4, :4]  # in the second of three
    differs = (states(frames, causal) - states(changed, causal)).abs().amax(2) > 1e-6
    assert differs[:, 4:].all()
    assert differs[:, :4].any().item() is not causal and differs[:, :4].all().item() is not causal


def test_a_film_of_one_item_has_positions_in_time() -> None:
    """And what comes after it is later than its last tubelet, which padding does not move."""
    tokenizer, words = made(causal=False), text(text_spec(), dim=6)
    batch = merged(steps_batch({"film": tokenizer.spec}, [5, 2]), text_batch([2, 2]))
    groups = {
        "film": tokenizer(batch["film"], batch.lengths["film"], False),
        "text": words(batch["text"], batch.lengths["text"], True),
    }
    place = {name: torch.zeros(1, tokens.content.shape[1], 6) for name, tokens in groups.items()}
    found = join(groups, place, {"film": "film", "text": "text"}).connectivity
    grid = [[time, row, column] for time in range(3) for row in range(2) for column in range(2)]
    assert found.position[0, :12].tolist() == grid
    assert found.position[:, 12:, 0].tolist() == [[3, 4], [1, 2]]
    order = found.order.expand(2, -1)
    assert (order[:, :12] == 0).all() and (order[:, 12:] > 0).all() and (order[:, 13] > order[:, 12]).all()


@pytest.mark.parametrize("tubelet_frames", [1, 2])
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_tokens_are_turned_back_into_frames(dtype: torch.dtype, tubelet_frames: int) -> None:
    """Exactly, where a token is as wide as its tubelet; a filled one gives its last frame twice."""
    tokenizer = made(video_spec(3, 8, 12, dtype=dtype), dim=96, tubelet_frames=tubelet_frames)
    batch = fake_batch({"film": tokenizer.spec}, 2, ragged=False)
    frames = batch["film"]["frames"]
    tokens = tokenizer(batch["film"], batch.lengths["film"], True)
    held = tokenizer.invert(tokens)["frames"]
    torch.testing.assert_close(held[:, :5], frames, atol=1e-4, rtol=1e-4)
    assert held.shape[1] == tokenizer.max_groups * tubelet_frames and held[:, -1].allclose(frames[:, -1], atol=1e-4)
    if tubelet_frames == 1:
        assert tokenizer.fields_of(tokenizer.numbers(batch["film"], batch.lengths["film"]))["frames"].allclose(
            frames.float(), atol=1e-4
        )


@pytest.mark.parametrize(
    ("spec", "changes", "message"),
    [
        (video_spec(1, 8, 12), {"patch_size": 3}, "patch_size=3 does not divide the image of 8 x 12; nearest: 2, 4"),
        (None, {"tubelet_frames": 0}, "tubelet_frames=0 must be at least 1"),
        (None, {"std": 0.0}, "std=0.0 must be above 0"),
        (video_spec(3), {"mean": [0.5, 0.5]}, r"mean=\[0.5, 0.5\] has 2 values for 3 channels"),
        (video_spec(num_times=9), {"causal": False}, "causal=False lays a film out as one item"),
        (image_spec(), {}, "reads the field 'frames'; the data offers pixels"),
        (Spec({"frames": Field((4, 1, 8, 8), torch.uint8)}), {}, r"the data's are \(4, 1, 8, 8\)"),
    ],
)
def test_what_cannot_work_is_refused(spec: Spec | None, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message) as refused:
        made(spec, **changes)
    assert changes == {} or isinstance(refused.value, InvalidValue)
